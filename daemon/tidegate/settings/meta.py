"""What the walker and editors are told about a key beyond its type: words, patterns, defaults. No behaviour."""

from typing import Any

from msgspec import Meta

from tidegate.model.limits import NAME_CHARS_MAX
from tidegate.settings.amounts import DURATION_PATTERN, SIZE_PATTERN

NAME_PATTERN = f"^[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{NAME_CHARS_MAX - 1}}}$"
ENV_NAME_PATTERN = "^(?!TIDEGATE_)[A-Za-z_][A-Za-z0-9_]*$"
URL_PATTERN = "^https?://"
TARGET_PATTERN = r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*$"
DURATION, SIZE, UMASK = "duration", "size", "umask"  # kinds of text, for the walker's advice
FREE, DATE = "free", "date"  # any text is good; the text of a date is


def text(
    description: str, default: str = "", pattern: str = "", kind: str = "", examples: tuple[str, ...] = ()
) -> Meta:
    """Meta for a text key. The pattern is for editors only: resolve.py checks with better words. Text without a kind is
    known to the walker by an example."""
    extra: dict[str, Any] = {}
    if default:
        extra["default"] = default
    if pattern:
        extra["pattern"] = pattern
    return Meta(
        description=description,
        examples=list(examples) or None,
        extra_json_schema=extra or None,
        extra=kind_of(kind or (f'"{examples[0]}"' if examples else "")),
    )


def kind_of(kind: str) -> dict[str, Any] | None:
    """What the walker is told."""
    return {"kind": kind} if kind else None


def duration(description: str, default: str = "") -> Meta:
    """Meta for a duration."""
    return text(description, default, DURATION_PATTERN, DURATION, ("90s", "1h30m", "2d", "500ms"))


def default(value: object) -> dict[str, Any]:
    """What the schema says of a key that is not written."""
    return {"default": value}


def size(description: str, default: str = "") -> Meta:
    """Meta for a size."""
    return text(description, default, SIZE_PATTERN, SIZE, ("64MiB", "2GB"))
