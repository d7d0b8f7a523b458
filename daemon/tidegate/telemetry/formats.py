"""How a log line looks to a person at a terminal and to a program. Pure: lines in, bytes out.

Job output, reasons and names end up in terminals and log viewers: every value passes `clean`. What journald gets is
in journal.py.
"""

from datetime import UTC, date, datetime
from typing import Any, Final

import msgspec

from tidegate.model.text import escape, localized
from tidegate.telemetry.line import DEBUG, ERROR, INFO, WARNING, Line

JOB_COLUMN_MIN: Final = 18
JOB_COLUMN_MAX: Final = 28  # longer names push their own line only
VALUE_CHARS_MAX: Final = 4096  # of one logged value: 10,000 waiting records stay within tens of megabytes
DAEMON: Final = "tidegate"  # stands in the job column of what is about no job

_RESET: Final = "\x1b[0m"
_DIM: Final = "\x1b[2m"
_BOLD: Final = "\x1b[1m"
_RED: Final = "\x1b[31m"
_GREEN: Final = "\x1b[32m"
_YELLOW: Final = "\x1b[33m"
_CYAN: Final = "\x1b[36m"

# event or level → (sign, its ASCII stand-in, colour). The sign says it where there is no colour.
_SIGNS: Final[dict[str, tuple[str, str, str]]] = {
    "run.started": ("▸", ">", _CYAN),
    "run.succeeded": ("✓", "+", _GREEN),
    "run.retrying": ("↻", "~", _YELLOW),
    "run.skipped": ("∅", "-", _YELLOW),
    "run.recovered": ("▸", ">", _CYAN),
    "run.stopping": ("■", "#", _YELLOW),
}
_LEVEL_SIGNS: Final = (
    (ERROR, ("✗", "x", _RED)),
    (WARNING, ("!", "!", _YELLOW)),
    (INFO, ("·", ".", "")),
    (0, ("·", ".", _DIM)),
)


def level_name(level: int) -> str:
    """The fixed word for a level's number; those between two words take the lower one."""
    if level >= ERROR:
        return "critical" if level >= 50 else "error"
    if level >= WARNING:
        return "warning"
    return "info" if level >= INFO else "debug" if level >= DEBUG else "trace"


def clean(text: str) -> str:
    """The text on one line, safe to show, cut at VALUE_CHARS_MAX characters of the original."""
    if len(text) > VALUE_CHARS_MAX:
        text = f"{text[:VALUE_CHARS_MAX]}… ({len(text) - VALUE_CHARS_MAX} more characters)"
    return escape(text)


def safe(value: Any) -> Any:
    """A field's value as JSON may carry it; every text cleaned."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | float):
        return value
    return clean(str(value))


class Json:
    """One JSON object a line."""

    def __init__(self) -> None:
        self._encode = msgspec.json.Encoder().encode

    def render(self, line: Line) -> bytes:
        """The line with its newline, UTF-8."""
        job = clean(line.job)
        text = clean(line.text)
        row: dict[str, Any] = {
            "time": line.at.astimezone(UTC).isoformat(timespec="microseconds"),
            "level": level_name(line.level),
            "event": clean(line.event),
        }
        if job:
            row["job"] = job
        for key, value in line.fields.items():
            row.setdefault(clean(key), safe(value))
        row["message"] = f"{job}: {text}" if job else text
        if line.trace:
            row["exception"] = [clean(part) for part in line.trace]
        return self._encode(row) + b"\n"


class Console:
    """For a person: local time, a sign, the job in a column of its own, the sentence."""

    def __init__(self, *, colour: bool, encoding: str = "utf-8") -> None:
        self._colour = colour
        self._encoding = encoding
        self._signs_plain = not _encodable("▸✓↻∅■✗·", encoding)
        self._width = JOB_COLUMN_MIN
        self._day: date | None = None

    def render(self, line: Line) -> bytes:
        """The line with its newline; before the first line of a day, the date."""
        local = line.at.astimezone()
        text = clean(localized(line.text, lambda moment: f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"))
        job = clean(line.job)
        column = job or DAEMON
        if self._width < len(column) <= JOB_COLUMN_MAX:
            self._width = len(column)
        sign, colour = self._sign(line)
        padding = " " * (self._width - len(column))
        loud = line.level >= WARNING
        parts = [
            self._paint(f"{local:%H:%M:%S}", _DIM),
            " ",
            self._paint(sign, colour),
            " ",
            self._paint(column, _BOLD if job else _DIM),
            padding,
            "  ",
            self._paint(text, colour if loud else _DIM if line.level < INFO else ""),
        ]
        run_id = line.fields.get("run_id")
        if run_id and loud and line.event != "run.skipped":  # what `tidegate logs` wants to know next
            parts += ["  ", self._paint(f"run {clean(str(run_id))}", _DIM)]
        parts.append("\n")
        if local.date() != self._day:
            self._day = local.date()
            parts.insert(0, self._paint(f"{local:%A, %Y-%m-%d, UTC%z}", _DIM) + "\n")
        parts += [f"         | {clean(part)}\n" for part in line.trace]
        return "".join(parts).encode(self._encoding, errors="backslashreplace")

    def _sign(self, line: Line) -> tuple[str, str]:
        key = line.event
        if line.fields.get("outcome") == "succeeded":
            key = "run.succeeded"
        found = _SIGNS.get(key)
        if found is None:
            found = next(sign for level, sign in _LEVEL_SIGNS if line.level >= level)
        sign, plain, colour = found
        return (plain if self._signs_plain else sign), colour

    def _paint(self, text: str, colour: str) -> str:
        return f"{colour}{text}{_RESET}" if self._colour and colour else text


def _encodable(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
