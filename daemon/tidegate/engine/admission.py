"""The gates: a queued run starts only if every gate is open. Each gate answers alone and says why it holds.
Never merge two gates into one score. Pure.
"""

from typing import Protocol

from tidegate.engine.live import Live
from tidegate.model.event import Now


class Gate(Protocol):
    """One condition for starting.

    `whole` tells how far a closed gate reaches: True, nothing may start at all, so the queue waits in order;
    False, only this run is held, and those behind it may pass.
    """

    @property
    def whole(self) -> bool: ...

    @property
    def name(self) -> str:
        """One fixed word, for metrics and `top`."""
        ...

    def holds(self, live: Live, now: Now) -> str | None:
        """Why this run may not start now, as a sentence; None when the gate is open."""
        ...


class CountingGate(Gate, Protocol):
    """A gate that keeps count of the runs which hold a slot."""

    def took(self, live: Live) -> None:
        """A run passed every gate and now holds its slot."""
        ...

    def gave(self, live: Live) -> None:
        """A run gave its slot back."""
        ...


class PoolGate:
    """At most `limit` runs hold a slot at once. The adaptive controller moves the limit later."""

    name = "pool"
    whole = True

    def __init__(self) -> None:
        self.limit = 1
        self.used = 0

    def holds(self, live: Live, now: Now) -> str | None:
        del live, now
        if self.used < self.limit:
            return None
        return f"all {self.limit} slots of the pool are in use"

    def took(self, live: Live) -> None:
        del live
        self.used += 1

    def gave(self, live: Live) -> None:
        del live
        self.used -= 1
        assert self.used >= 0, "a slot was given back twice"


class HeldGate:
    """Nothing starts while something outside must be mended first: the history, the disk, the executor."""

    whole = True

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The first of the things to be mended."""
        return next(iter(self.reasons), "starts")

    def holds(self, live: Live, now: Now) -> str | None:
        del live, now
        return next(iter(self.reasons.values())) if self.reasons else None


class Blocked:
    """For how long each gate has held back who was next, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._gate = ""
        self._since_mono_s = 0.0

    def by(self, gate: str, now: Now) -> None:
        """This gate holds from now on; "": none does."""
        if self._gate:
            self.seconds[self._gate] = self.seconds.get(self._gate, 0.0) + now.mono_s - self._since_mono_s
        self._gate, self._since_mono_s = gate, now.mono_s


class PauseGate:
    """A paused job starts nothing; its queued runs wait for the resume."""

    name = "paused"
    whole = False

    def __init__(self) -> None:
        self.jobs: set[str] = set()

    def holds(self, live: Live, now: Now) -> str | None:
        del now
        return f"job {live.run.job} is paused" if live.run.job in self.jobs else None
