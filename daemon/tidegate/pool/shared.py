"""Named resources of one pool: units that tasks (`uses`) and code (`pool.resource`) take and give back, and who held
how many when. Guarded by the lock of the core; waits for nothing itself.

The rule is that of engine/resources.py: in the order of age, and what somebody older lacks is set aside for them, so
that no large request starves. Here only the first task of those that need the same stands in line, as the others could
not start before it anyway, and only while there is a worker for it: a slot that its holder will not give back before
it gets a unit must not keep that unit from being given.
"""

import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from tidegate.pool.task import Place

RESOURCES_MAX: Final = 1_000  # names in one pool
CHANGES_MAX: Final = 1_000  # kept of each resource's history


class Change(Struct, frozen=True):
    """From this moment on so many units were in use."""

    at_s: float  # monotonic
    used: int
    units: int


class ResourceUse(Struct, frozen=True):
    """A resource as it is now."""

    name: str
    units: int
    used: int
    waiting: int  # tasks and blocks that need of it and have not got it


class Asked:
    """A block of code that waits for units; the thread sleeps on `granted`."""

    __slots__ = ("granted", "has", "place", "uses")

    def __init__(self, place: Place, uses: Mapping[str, int]) -> None:
        self.place = place
        self.uses = uses
        self.has = False
        self.granted = threading.Lock()
        self.granted.acquire()


Head = tuple[Place, Mapping[str, int]]


class Shared:
    """Who has how many units. Every method is called with the lock of the core held."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._units: dict[str, int] = {}
        self._used: Counter[str] = Counter()
        self._changes: dict[str, deque[Change]] = {}

    def make(self, name: str, units: int, now_s: float) -> None:
        """A resource comes to be, or has so many units from now on. What is in use is not taken back."""
        if units < 0 or not name:
            raise ValueError(f"a resource needs a name and at least 0 units, not {name!r} and {units}")
        if name not in self._units and len(self._units) >= RESOURCES_MAX:
            raise ValueError(f"there are {RESOURCES_MAX} resources already")
        self._units[name] = units
        self._note(name, now_s)

    def check(self, uses: Mapping[str, int]) -> None:
        """Raises ValueError for what no waiting helps against."""
        for name, need in uses.items():
            units = self._units.get(name)
            if units is None:
                raise ValueError(f"there is no resource {name!r}; there are {sorted(self._units)}")
            if not 1 <= need <= units:
                raise ValueError(f"resource {name} has {units} units: 1 to {units} can be used, not {need}")

    def first(self, heads: Iterable[Head]) -> Place | None:
        """Of tasks that could start, each the first of its kind, the one that may."""
        aside: Counter[str] = Counter()
        line: list[tuple[Place, Mapping[str, int], bool]] = [(place, uses, True) for place, uses in heads]
        line += [(asked.place, asked.uses, False) for asked in self.asked]
        for place, uses, starts in sorted(line, key=lambda each: each[0]):
            if starts and self._fits(uses, aside):
                return place
            aside.update(uses)
        return None

    def grant(self, heads: Iterable[Head], now_s: float) -> None:
        """Give to those who wait what they may have now, older tasks first."""
        aside: Counter[str] = Counter()
        line: list[tuple[Place, Mapping[str, int], Asked | None]] = [(place, uses, None) for place, uses in heads]
        line += [(asked.place, asked.uses, asked) for asked in self.asked]
        for _, uses, asked in sorted(line, key=lambda each: each[0]):
            if asked is not None and self._fits(uses, aside):
                self.asked.remove(asked)
                self.take(uses, now_s)
                asked.has = True
                asked.granted.release()
            else:
                aside.update(uses)

    def take(self, uses: Mapping[str, int], now_s: float) -> None:
        for name, need in uses.items():
            self._used[name] += need
            self._note(name, now_s)

    def give(self, uses: Mapping[str, int], now_s: float) -> None:
        for name, need in uses.items():
            self._used[name] -= need
            assert self._used[name] >= 0, (name, "given back twice")
            self._note(name, now_s)

    def now(self, waiting: Mapping[str, int]) -> dict[str, ResourceUse]:
        """All resources; `waiting` are the tasks in the queue that need of each."""
        asked = Counter(name for each in self.asked for name in each.uses)
        return {
            name: ResourceUse(name, units, self._used[name], waiting.get(name, 0) + asked[name])
            for name, units in sorted(self._units.items())
        }

    def changes(self, name: str) -> list[Change]:
        """The newest changes of a resource, oldest first. Raises KeyError where there is none of this name."""
        return list(self._changes[name])

    def _fits(self, uses: Mapping[str, int], aside: Counter[str]) -> bool:
        units, used = self._units, self._used
        return all(need <= units[name] - used[name] - aside[name] for name, need in uses.items())

    def _note(self, name: str, now_s: float) -> None:
        changes = self._changes.setdefault(name, deque(maxlen=CHANGES_MAX))
        changes.append(Change(now_s, self._used[name], self._units[name]))
