"""Threat 13: nothing from a file reaches a terminal or a log as a control character."""

from datetime import datetime, timedelta, timezone

import pytest

from tidegate.model.text import escape, localized


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x202E, 0x2066, 0xD800])
def test_control_characters_become_visible_escapes(code: int) -> None:
    shown = escape(f"a{chr(code)}b")
    assert chr(code) not in shown
    assert shown.startswith("a\\")
    assert shown.endswith("b")
    shown.encode("utf-8")


@pytest.mark.parametrize("text", ["", "backup", "Sicherung für Müller", "日本語 🌊", r"C:\path"])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert escape(text) == text


def test_an_escape_sequence_is_shown_not_obeyed() -> None:
    assert escape("\x1b[2J\r\nOK") == "\\x1b[2J\\r\\nOK"


def test_moments_within_a_reason_are_shown_as_the_reader_has_them_both_ends_of_a_span_too() -> None:
    def east(moment: datetime) -> str:
        return f"{moment.astimezone(timezone(timedelta(hours=1))):%H:%M}"

    assert localized("since 2026-03-01 23:30:00 UTC)", east) == "since 00:30)"
    span = "missed 2 fires (2026-03-01 10:00:00 to 2026-03-01 11:00:00 UTC) while asleep"
    assert localized(span, east) == "missed 2 fires (11:00 to 12:00) while asleep"
    for other in ("2026-03-01 10:00:00", "2026-13-01 10:00:00 UTC", "UTC"):
        assert localized(other, east) == other
