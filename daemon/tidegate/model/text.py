"""Text from outside, made safe to show: no terminal, log or page is steered by a name or a value. Pure."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

_NAMED: Final = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r", 0x1B: "\\x1b"}
_CONTROLS: Final = [*range(0x20), *range(0x7F, 0xA0)]  # C0, DEL and C1: escape sequences, newlines, cursor moves
_SEPARATORS: Final = [0x2028, 0x2029]  # line and paragraph separator: some readers break lines there
_BIDI: Final = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]  # show text in another order
_TABLE: Final = {
    **{code: f"\\x{code:02x}" for code in _CONTROLS},
    **{code: f"\\u{code:04x}" for code in _SEPARATORS + _BIDI},
    **_NAMED,
}

_MOMENT: Final = r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)"
UTC_MOMENTS: Final = re.compile(rf"\b{_MOMENT}(?: to {_MOMENT})? UTC\b")  # within a reason


def escape(text: str) -> str:
    """One line, safe to print: control characters become backslash escapes, lone surrogates too.

    A backslash itself stays as it is: what is shown is for a person, not for a parser.
    """
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_TABLE).encode("utf-8", "backslashreplace").decode("utf-8")


def counted(count: int, noun: str) -> str:
    """1 job, 2 jobs"""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def localized(text: str, shown: Callable[[datetime], str]) -> str:
    """Reasons are written with moments in UTC: these as somebody elsewhere reads them."""

    def local(found: re.Match[str]) -> str:
        try:
            moments = [datetime.fromisoformat(each).replace(tzinfo=UTC) for each in found.groups() if each]
        except ValueError:
            return found[0]
        return " to ".join(map(shown, moments))

    return UTC_MOMENTS.sub(local, text)


def duration(seconds: float) -> str:
    """Seconds for a person: `40 ms`, `0.40 s`, `2.1 s`, `45 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 0.995:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for name, unit_s, lesser, lesser_s in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if whole >= unit_s:
            return f"{whole // unit_s} {name} {whole % unit_s // lesser_s} {lesser}"
    return f"{whole // 60} min {whole % 60} s"
