"""The trigger: the rising instants at which a job is due, and questions about them. Pure; time is handed in."""

from abc import abstractmethod
from datetime import UTC, datetime, timedelta
from typing import Final

from apscheduler.triggers.base import BaseTrigger

from tidegate.triggers.cron import stable_hash
from tidegate.triggers.errors import TriggerError

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_US: Final = 1_000_000
JITTER_S_MAX: Final = 366 * 86_400.0  # beyond a year it is another schedule
HASHES: Final = 1 << 64


def to_us(instant: datetime) -> int:
    """Microseconds since the epoch, exactly."""
    delta = instant - EPOCH
    return (delta.days * 86_400 + delta.seconds) * SECOND_US + delta.microseconds


def from_us(instant_us: int) -> datetime:
    """The aware instant in UTC."""
    return EPOCH + timedelta(microseconds=instant_us)


class FireTrigger(BaseTrigger):  # type: ignore[misc]  # apscheduler has no types
    """When a job is due. Instants are aware; those handed out are in UTC.

    A nominal fire is what the schedule says. With jitter each fire comes later by a share of the jitter that depends on
    the job's name and the nominal instant alone, and of no more than the time to the next nominal fire: the fires that
    people see rise strictly, and the n-th of them belongs to the n-th nominal one.
    """

    __slots__ = ("_answer", "_asked", "jitter_ms", "name", "wildcard")

    def __init__(self, name: str, jitter_s: float, wildcard: bool) -> None:
        if not 0 <= jitter_s <= JITTER_S_MAX:
            raise TriggerError(f"jitter must be from 0 seconds to 366 days, got {jitter_s:g} seconds")
        self.name = name
        self.jitter_ms = round(jitter_s * 1000)
        self.wildcard = wildcard  # Debian's sense: follows the clock through a change of offset
        self._asked: datetime | None = None
        self._answer: datetime | None = None

    @abstractmethod
    def nominal_after(self, instant_us: int) -> int | None:
        """The first nominal fire strictly after an instant."""

    @abstractmethod
    def nominal_upto(self, instant_us: int, least_us: int) -> int | None:
        """The last nominal fire at or before an instant and at or after least_us."""

    @abstractmethod
    def _key(self) -> tuple[object, ...]:
        """What makes two triggers of one class equal."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FireTrigger):
            return NotImplemented
        return type(self) is type(other) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._key()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self._key()!r}"

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """APScheduler's question: the fire after the previous one, or the one to begin with. How much is made up for
        after a sleep is not decided here: due.py asks for what was missed."""
        return self.first(now) if previous_fire_time is None else self.after(previous_fire_time)

    def first(self, now: datetime) -> datetime | None:
        """The fire to begin with: the first one strictly after now."""
        return self.after(now)

    def after(self, instant: datetime) -> datetime | None:
        """The first fire strictly after an instant. The last answer is kept, since APScheduler asks twice a fire."""
        if self._asked is not None and instant == self._asked:
            return self._answer
        instant_us = to_us(instant)
        fire_us = self._first_after(instant_us) if self.jitter_ms else self.nominal_after(instant_us)
        self._answer = None if fire_us is None else from_us(fire_us)
        self._asked = instant
        return self._answer

    def missed(self, after: datetime, until: datetime, limit: int) -> tuple[list[datetime], bool]:
        """The newest `limit` fires in (after, until], rising, and whether older ones are in that range too."""
        after_us, until_us = to_us(after), to_us(until)
        least_us = after_us - self.jitter_ms * 1000
        times: list[datetime] = []
        nominal_us = self.nominal_upto(until_us, least_us)
        following_us = None if nominal_us is None or not self.jitter_ms else self.nominal_after(nominal_us)
        while nominal_us is not None:
            fire_us = self._shifted(nominal_us, following_us)
            if fire_us <= after_us:
                break
            if fire_us <= until_us:
                if len(times) == limit:
                    times.reverse()
                    return times, True
                times.append(from_us(fire_us))
            following_us = nominal_us
            nominal_us = self.nominal_upto(nominal_us - 1, least_us)
        times.reverse()
        return times, False

    def _first_after(self, instant_us: int) -> int | None:
        """With jitter, the last nominal fire may still be to come."""
        nominal_us = self.nominal_upto(instant_us, instant_us - self.jitter_ms * 1000)
        if nominal_us is not None:
            fire_us = self._shifted(nominal_us, self.nominal_after(nominal_us))
            if fire_us > instant_us:
                return fire_us
        nominal_us = self.nominal_after(instant_us)
        return None if nominal_us is None else self._shifted(nominal_us, self.nominal_after(nominal_us))

    def _shifted(self, nominal_us: int, following_us: int | None) -> int:
        if not self.jitter_ms:
            return nominal_us
        span_ms = self.jitter_ms if following_us is None else min(self.jitter_ms, (following_us - nominal_us) // 1000)
        return nominal_us + stable_hash("jitter", self.name, str(nominal_us)) * span_ms // HASHES * 1000
