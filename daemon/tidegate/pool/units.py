"""Named resources as a program uses them: `with` blocks that wait for units. The rules are in shared.py."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tidegate import clock
from tidegate.pool.core import Core
from tidegate.pool.shared import Asked, Change, ResourceUse


class ResourceTimedOut(TimeoutError):
    """The units of a resource were not to be had in time."""


class Units:
    """The door to the resources of one pool."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def check(self, uses: Mapping[str, int]) -> None:
        """Raises ValueError for what can never be had."""
        with self._core.lock:
            self._core.shared.check(uses)

    def make(self, name: str, units: int) -> None:
        """So many units exist from now on."""
        with self._core.lock:
            self._core.shared.make(name, units, clock.monotonic_s())
            self._core.units_changed()

    @contextmanager
    def hold(self, uses: Mapping[str, int], timeout_s: float | None) -> Iterator[None]:
        """These units for a block."""
        asked = self._ask(uses)
        try:
            got = asked.granted.acquire(timeout=-1 if timeout_s is None else max(0.0, timeout_s))
        except BaseException:  # Ctrl-C while it waits
            if not self._gives_up(asked):
                self._give_back(asked)
            raise
        if not got and self._gives_up(asked):
            what = ", ".join(f"{need} of {name}" for name, need in uses.items())
            raise ResourceTimedOut(f"{what} could not be had within {timeout_s:g} s")
        try:
            yield
        finally:
            self._give_back(asked)

    def _ask(self, uses: Mapping[str, int]) -> Asked:
        with self._core.lock:
            self._core.shared.check(uses)
            asked = Asked((clock.monotonic_s(), self._core.number()), uses)
            self._core.shared.asked.append(asked)
            self._core.units_changed()
            return asked

    def _gives_up(self, asked: Asked) -> bool:
        """It waits no longer. False: it has got its units just now."""
        with self._core.lock:
            if asked.has:
                return False
            self._core.shared.asked.remove(asked)
            self._core.units_changed()
            return True

    def _give_back(self, asked: Asked) -> None:
        with self._core.lock:
            self._core.shared.give(asked.uses, clock.monotonic_s())
            self._core.units_changed()

    def now(self) -> dict[str, ResourceUse]:
        """Each resource as it is now."""
        with self._core.lock:
            return self._core.shared.now(self._core.waiting.wanted())

    def history(self, name: str) -> list[Change]:
        """The newest changes, oldest first."""
        with self._core.lock:
            return self._core.shared.changes(name)
