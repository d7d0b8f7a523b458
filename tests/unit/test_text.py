"""Threat 13: nothing from a file reaches a terminal or a log as a control character."""

import pytest

from tidegate.model.text import escape


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
