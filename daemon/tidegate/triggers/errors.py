"""What is wrong with a trigger, in words for the person who wrote it. No behaviour."""

from typing import Final

GOT_CHARS_MAX: Final = 60  # how much of a wrong value a message repeats


class TriggerError(ValueError):
    """The text is the part of a message after the key: `minute must be 0-59, got "61"`."""


def quoted(text: str) -> str:
    """The text in double quotes, fit for one line of a terminal: cut, and with control characters escaped."""
    if len(text) > GOT_CHARS_MAX:
        text = text[: GOT_CHARS_MAX - 1] + "…"
    shown = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
    return f'"{shown}"'
