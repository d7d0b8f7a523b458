"""One thing that `tidegate doctor` looked at: what was found, and how to mend it. A value."""

from enum import StrEnum

from msgspec import Struct


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    DEGRADED = "degraded"  # tidegate works, with less
    BROKEN = "broken"  # it does not work, or not as promised


class Finding(Struct, frozen=True):
    """`mend` says what to do; "" where nothing is to be done."""

    name: str
    level: Level
    found: str
    mend: str = ""


def ok(name: str, found: str) -> Finding:
    """All is well."""
    return Finding(name, Level.OK, found)


def degraded(name: str, found: str, mend: str) -> Finding:
    """It works, with less."""
    return Finding(name, Level.DEGRADED, found, mend)


def broken(name: str, found: str, mend: str) -> Finding:
    """It does not work."""
    return Finding(name, Level.BROKEN, found, mend)
