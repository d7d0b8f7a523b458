"""When a job fires, in a few words, as `list` and the API show it. Pure text; nothing is escaped here."""

from datetime import tzinfo
from typing import Final, assert_never

from tidegate.model.job import At, Boot, Cron, Every, Job

DURATION_UNITS_S: Final = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def duration(amount_s: float) -> str:
    """As it is written in a job file: 90 → 1m30s, 0.5 → 500ms."""
    whole_s, rest_ms = divmod(round(amount_s * 1000), 1000)
    text = ""
    for unit, unit_s in DURATION_UNITS_S:
        count, whole_s = divmod(whole_s, unit_s)
        text += f"{count}{unit}" if count else ""
    return (text + f"{rest_ms}ms" if rest_ms else text) or "0s"


def schedule(job: Job, zone: tzinfo) -> str:
    """The expression, the interval, the instant in the zone; and what it comes after."""
    after = "after " + ", ".join(job.after) if job.after else ""
    match job.trigger:
        case None:
            return after or "by hand"
        case Cron(expression):
            text = expression
        case Every(period_s):
            text = f"every {duration(period_s)}"
        case At(instant):
            text = f"at {instant.astimezone(zone):%Y-%m-%d %H:%M}"
        case Boot():
            text = "@reboot"
        case _:
            assert_never(job.trigger)
    return f"{text}; {after}" if after else text
