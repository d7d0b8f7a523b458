"""Virtual time. Wall and monotonic move together, but for steps of the wall clock and suspends. No real clock."""

from datetime import UTC, datetime, timedelta

from tidegate.model.event import Now


class VirtualClock:
    """A clock that stands still until it is moved. Wall time is kept in epoch seconds, monotonic from zero."""

    def __init__(self, start: datetime) -> None:
        self.mono_s = 0.0
        self._wall_minus_mono_s = start.timestamp()
        self._wall_minus_boot_s = self._wall_minus_mono_s

    def now(self) -> Now:
        """Both readings of this instant."""
        return Now(self.wall(), self.mono_s)

    def wall(self) -> datetime:
        """The wall clock, aware, UTC."""
        return datetime.fromtimestamp(self.wall_s(), UTC)

    def wall_s(self) -> float:
        """The wall clock in epoch seconds, whole microseconds."""
        return round(self.mono_s + self._wall_minus_mono_s, 6)

    def wall_minus_boot_s(self) -> float:
        """What tells a step from a suspend: only a step changes it."""
        return self._wall_minus_boot_s

    def move_to(self, mono_s: float) -> None:
        """Time passes, awake."""
        assert mono_s >= self.mono_s, (mono_s, self.mono_s)
        self.mono_s = mono_s

    def step(self, by: timedelta) -> None:
        """The wall clock is set, forward or back."""
        self._wall_minus_mono_s += by.total_seconds()
        self._wall_minus_boot_s += by.total_seconds()

    def suspend(self, span: timedelta) -> None:
        """The host sleeps: wall time passes, monotonic time does not."""
        self._wall_minus_mono_s += span.total_seconds()
