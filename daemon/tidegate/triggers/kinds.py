"""The triggers that people write: cron, every, at. Pure."""

from datetime import datetime
from typing import Final

from tidegate.model.limits import HORIZON_YEARS
from tidegate.triggers.cron import stable_hash
from tidegate.triggers.errors import TriggerError
from tidegate.triggers.fire import SECOND_US, FireTrigger, from_us, to_us
from tidegate.triggers.masks import CronFields
from tidegate.triggers.shifts import Shifts

YEAR_MIN: Final = 1970  # before it nobody scheduled anything; a typing error
YEAR_MAX: Final = 9000  # well inside what datetime holds, with any jitter and offset
PERIOD_S_MAX: Final = HORIZON_YEARS * 365.25 * 86_400
PERIOD_S_MIN: Final = 1.0  # a scheduler of processes: what is due more often belongs into a loop of the program's own


class CronTrigger(FireTrigger):
    """A cron expression in a zone, by Debian's rules."""

    __slots__ = ("fields", "shifts")

    def __init__(self, name: str, jitter_s: float, fields: CronFields, shifts: Shifts) -> None:
        super().__init__(name, jitter_s, fields.wildcard)
        self.fields = fields
        self.shifts = shifts

    def nominal_after(self, instant_us: int) -> int | None:
        fire_s = self.shifts.next(self.fields, instant_us // SECOND_US + 1)
        return None if fire_s is None else fire_s * SECOND_US

    def nominal_upto(self, instant_us: int, least_us: int) -> int | None:
        fire_s = self.shifts.last(self.fields, instant_us // SECOND_US, -(-least_us // SECOND_US))
        return None if fire_s is None else fire_s * SECOND_US

    def _key(self) -> tuple[object, ...]:
        return self.name, self.jitter_ms, self.shifts.zone_name, self.fields


class EveryTrigger(FireTrigger):
    """An interval, at whole seconds of phase that are spread by the job's name. Knows no zone."""

    __slots__ = ("period_us", "phase_us")

    def __init__(self, name: str, jitter_s: float, period_s: float) -> None:
        if not PERIOD_S_MIN <= period_s <= PERIOD_S_MAX:
            raise TriggerError(f"period must be from 1 second to {HORIZON_YEARS} years, got {period_s:g} seconds")
        super().__init__(name, jitter_s, wildcard=True)
        self.period_us = round(period_s * SECOND_US)
        # Whole seconds: many jobs wake the daemon once, and people read the times.
        self.phase_us = stable_hash("every", name) % (self.period_us // SECOND_US) * SECOND_US

    def nominal_after(self, instant_us: int) -> int | None:
        periods = (instant_us - self.phase_us) // self.period_us + 1
        return periods * self.period_us + self.phase_us

    def nominal_upto(self, instant_us: int, least_us: int) -> int | None:
        periods = (instant_us - self.phase_us) // self.period_us
        fire_us = periods * self.period_us + self.phase_us
        return fire_us if fire_us >= least_us else None

    def _key(self) -> tuple[object, ...]:
        return self.name, self.jitter_ms, self.period_us


class AtTrigger(FireTrigger):
    """Once. Asked without a previous fire it tells its instant even where that is past: whether to make up for it
    is the engine's to decide."""

    __slots__ = ("instant_us",)

    def __init__(self, name: str, jitter_s: float, instant: datetime) -> None:
        if not YEAR_MIN <= instant.year <= YEAR_MAX:
            raise TriggerError(f"year must be {YEAR_MIN}-{YEAR_MAX}, got {instant.year}")
        super().__init__(name, jitter_s, wildcard=False)
        self.instant_us = to_us(instant)

    def nominal_after(self, instant_us: int) -> int | None:
        return self.instant_us if self.instant_us > instant_us else None

    def nominal_upto(self, instant_us: int, least_us: int) -> int | None:
        return self.instant_us if least_us <= self.instant_us <= instant_us else None

    def first(self, now: datetime) -> datetime | None:
        """The instant, also where it is past."""
        return self.after(now) or from_us(self._shifted(self.instant_us, None))

    def _key(self) -> tuple[object, ...]:
        return self.name, self.jitter_ms, self.instant_us
