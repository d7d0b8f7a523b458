"""How values read on a terminal: moments, durations, sizes, schedules. Pure text; prints nothing, reads no clock."""

from datetime import datetime, timedelta, tzinfo
from typing import Final

from tidegate.model.job import Job
from tidegate.model.text import escape, localized
from tidegate.triggers import wording
from tidegate.triggers.wording import duration as duration

WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SIZE_UNITS_BYTES: Final = (("TiB", 1024**4), ("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))


def offset(moment: datetime) -> str:
    """UTC offset as +01:00, of an aware moment."""
    return shown_offset(moment.utcoffset() or timedelta())


def shown_offset(delta: timedelta) -> str:
    """A UTC offset as +01:00; with seconds where a zone's old local mean time has them."""
    total_s = round(delta.total_seconds())
    sign, rest_s = ("-", -total_s) if total_s < 0 else ("+", total_s)
    text = f"{sign}{rest_s // 3600:02}:{rest_s // 60 % 60:02}"
    return f"{text}:{rest_s % 60:02}" if rest_s % 60 else text


def day(moment: datetime) -> str:
    """Sun 2026-03-29"""
    return f"{WEEKDAYS[moment.weekday()]} {moment:%Y-%m-%d}"


def moment_text(moment: datetime, seconds: bool = True) -> str:
    """Sun 2026-03-29 02:15:00 +01:00, in the zone that the moment carries."""
    return f"{day(moment)} {moment:{'%H:%M:%S' if seconds else '%H:%M'}} {offset(moment)}"


def needs_seconds(moments: list[datetime]) -> bool:
    """Whether minutes do not tell all."""
    return any(moment.second or moment.microsecond for moment in moments)


def iso(moment: datetime, zone: tzinfo) -> str:
    """ISO 8601 with offset, in the zone."""
    return moment.astimezone(zone).isoformat()


def size(amount_bytes: int) -> str:
    """As it is written in a job file: 67108864 → 64MiB."""
    for unit, unit_bytes in _SIZE_UNITS_BYTES:
        if amount_bytes and amount_bytes % unit_bytes == 0:
            return f"{amount_bytes // unit_bytes}{unit}"
    return f"{amount_bytes}B"


def schedule(job: Job, zone: tzinfo) -> str:
    """When a job fires, in a few words, escaped."""
    return escape(wording.schedule(job, zone))


def shown_argv(argv: tuple[str, ...]) -> str:
    """A command as a person would type it into a shell, escaped to one line."""
    import shlex

    return escape(" ".join(map(shlex.quote, argv)))


def local_reason(text: str, in_zone: tzinfo) -> str:
    """A reason with its moments in the zone."""
    return localized(text, lambda moment: moment_text(moment.astimezone(in_zone)))
