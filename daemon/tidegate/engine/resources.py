"""Shared resources: units by name, taken by runs and by leases, granted in the order of age. Pure.

Nobody who waits is starved. Whoever is held for want of units stands in line for each resource that it needs, and the
units of all who stand before it are set aside: a later one passes only if it leaves them free. So a large request gets
its units as they come back, however many small ones arrive, and those who need other resources pass it by.

Runs and leases stand in one line. The place of a run is its place in the queue (engine/queue.py), that of a lease is
the same with priority 0. The line is made anew whenever units come back or somebody leaves it (`stale`); until then
those who are held stay held, and nobody looks at them again.
"""

from bisect import bisect_left
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tidegate.engine.live import Live
from tidegate.engine.queue import Place, place_of
from tidegate.model.event import Now
from tidegate.model.lease import Lease
from tidegate.model.limits import LEASES_MAX
from tidegate.model.view import HoldingView, ResourceView

HOLDERS_NAMED_MAX: Final = 3  # in a reason; `top` shows all


class Line:
    """Who waits for one resource, in order, with the units that they and all before them need."""

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._units: list[int] = []
        self._sums: list[int] = [0]  # one longer: what stands before each place, and has left from the front

    def ahead(self, place: Place) -> int:
        """Units that are set aside for those before this place."""
        return self._sums[bisect_left(self._places, place)] - self._sums[0]

    def first(self) -> str:
        """The id of whoever stands first."""
        return self._places[0][2]

    def add(self, place: Place, units: int) -> None:
        """Stand in line. Mostly at the end: then nothing moves."""
        index = bisect_left(self._places, place)
        self._places.insert(index, place)
        self._units.insert(index, units)
        self._sum_from(index)

    def remove(self, place: Place) -> None:
        """Leave the line; those behind move up."""
        index = bisect_left(self._places, place)
        assert self._places[index] == place, (place, "does not stand in this line")
        del self._places[index], self._units[index]
        if index == 0:  # mostly so: then no sum changes
            del self._sums[0]
        else:
            self._sum_from(index)

    def _sum_from(self, index: int) -> None:
        sums = self._sums
        del sums[index + 1 :]
        for units in self._units[index:]:
            sums.append(sums[-1] + units)


class Asked(Struct):
    """A lease that waits."""

    lease: Lease
    place: Place
    until_mono_s: float | None


class ResourceGate:
    """How many units there are, who holds them, who waits. A gate of engine/admission.py.

    A run that is held must be told to the gate with `held`, and one that ends with `left`; `holds` changes nothing.
    """

    name = "resources"
    whole = False

    def __init__(self) -> None:
        self.stale = False  # units came back or somebody left: whoever is held must be looked at again
        self._units: dict[str, int] = {}
        self._used: dict[str, int] = {}
        self._taken: dict[str, Live] = {}  # by run id
        self._held: dict[str, tuple[Live, Place | None]] = {}  # by run id; no place: it asks for the impossible
        self._lines: dict[str, Line] = {}
        self._granted: dict[str, Lease] = {}
        self._asked: dict[str, Asked] = {}

    def load(self, resources: dict[str, int]) -> None:
        """What exists from now on. Where that is less than is in use nothing is taken away, and nothing more is
        granted until it fits."""
        if resources != self._units:
            self._units = dict(resources)
            self.stale = True

    # --- runs: the gate ---------------------------------------------------------------------------

    def holds(self, live: Live, now: Now) -> str | None:
        del now
        uses = live.job.uses
        if not uses:
            return None
        return self._impossible(uses) or self._busy(uses, place_of(live))

    def can_be_had(self, live: Live) -> bool:
        """Whether waiting helps: not against a resource that a reload removed or made too small."""
        return self._impossible(live.job.uses) is None

    def took(self, live: Live) -> None:
        if live.job.uses:
            self._leave_line(live)
            assert live.run.run_id not in self._taken, (live.run.run_id, "took its units twice")
            self._taken[live.run.run_id] = live
            self._count(live.job.uses, 1)

    def gave(self, live: Live) -> None:
        if live.job.uses:
            taken = self._taken.pop(live.run.run_id, None)
            assert taken is not None, (live.run.run_id, "gave back what it did not hold")
            self._count(live.job.uses, -1)

    def begin_walk(self) -> None:
        """All who are held are looked at again, in order: the line begins anew, with the leases that wait."""
        self.stale = False
        self._held.clear()
        self._lines.clear()
        for asked in self._asked.values():
            self._stand(asked.lease.uses, asked.place)

    def held(self, live: Live) -> None:
        """This gate holds the run and others may pass it: from here on its units are set aside."""
        uses = live.job.uses
        if live.run.run_id in self._held:
            return
        # What cannot be had sets nothing aside: it would hold all others back for ever.
        place = None if self._impossible(uses) else place_of(live)
        self._held[live.run.run_id] = (live, place)
        if place is not None:
            self._stand(uses, place)

    def left(self, live: Live) -> None:
        """The run has ended, or starts no more. Those behind it may."""
        if live.job.uses and self._leave_line(live):
            self.stale = True

    # --- leases -----------------------------------------------------------------------------------

    def request(self, lease: Lease, now_mono_s: float, wait_s: float | None = None) -> str | None:
        """Stand in line for a lease; `grant` tells when it has come. Otherwise why not, as a sentence."""
        if not lease.uses or min(lease.uses.values()) < 1:
            return "a lease needs at least one unit of a resource"
        if (reason := self._impossible(lease.uses, of_run=False)) is not None:
            return reason
        if len(self._asked) + len(self._granted) >= LEASES_MAX:
            return f"there are {LEASES_MAX} leases already"
        assert lease.lease_id not in self._asked and lease.lease_id not in self._granted, (lease, "asked for twice")
        place = (now_mono_s, lease.asked_at.timestamp(), lease.lease_id)
        until_mono_s = None if wait_s is None else now_mono_s + wait_s
        self._asked[lease.lease_id] = Asked(lease, place, until_mono_s)
        self._stand(lease.uses, place)
        return None

    def grant(self, now: Now) -> list[Lease]:
        """Leases whose turn has come. To be asked after each walk of the queue, in which older runs take theirs.

        What is granted was set aside before, so nobody behind it need be looked at again.
        """
        granted = []
        for asked in list(self._asked.values()):  # in order: time does not go back
            uses = asked.lease.uses
            if self._impossible(uses) is None and self._busy(uses, asked.place) is None:
                self._withdraw(asked)
                lease = replace(asked.lease, granted_at=now.wall)
                self.restore(lease)
                granted.append(lease)
        return granted

    def restore(self, lease: Lease) -> None:
        """It is granted, whatever the line says: so it was before this life of the daemon began."""
        assert lease.lease_id not in self._granted, (lease, "granted twice")
        self._granted[lease.lease_id] = lease
        self._count(lease.uses, 1)

    def release(self, lease_id: str) -> Lease | None:
        """End a lease, granted or waiting. None: there is none with this id (any more)."""
        if (lease := self._granted.pop(lease_id, None)) is not None:
            self._count(lease.uses, -1)
            return lease
        if (asked := self._asked.get(lease_id)) is not None:
            self._withdraw(asked)
            self.stale = True
            return asked.lease
        return None

    def next_expiry(self) -> float | None:
        """When the first of those who wait gives up, in monotonic seconds."""
        return min((each.until_mono_s for each in self._asked.values() if each.until_mono_s is not None), default=None)

    def expired(self, now: Now) -> list[Lease]:
        """Leases that were not granted in time; they wait no more."""
        over = [
            each for each in self._asked.values() if each.until_mono_s is not None and each.until_mono_s <= now.mono_s
        ]
        for asked in over:
            self._withdraw(asked)
            self.stale = True
        return [asked.lease for asked in over]

    def in_vain(self) -> list[tuple[str, str]]:
        """Ids of leases that wait for what cannot be had any more, with the reason."""
        found = [
            (asked.lease.lease_id, self._impossible(asked.lease.uses, of_run=False)) for asked in self._asked.values()
        ]
        return [(lease_id, reason) for lease_id, reason in found if reason is not None]

    def lease(self, lease_id: str) -> Lease | None:
        """A lease that has not ended."""
        asked = self._asked.get(lease_id)
        return asked.lease if asked is not None else self._granted.get(lease_id)

    def asking(self) -> list[str]:
        """Ids of the leases that wait."""
        return list(self._asked)

    def waits_for(self, lease_id: str) -> str:
        """Why a waiting lease has not been granted, as a sentence; "" where it does not wait."""
        asked = self._asked.get(lease_id)
        if asked is None:
            return ""
        return self._impossible(asked.lease.uses, of_run=False) or self._busy(asked.lease.uses, asked.place) or ""

    def waited_for(self, live: Live) -> int | None:
        """The highest priority of those who wait for something that this run holds; None: nobody does."""
        if not live.job.uses:
            return None
        mine = live.job.uses.keys()
        waiting = [other.job.priority for other, _ in self._held.values() if mine & other.job.uses.keys()]
        waiting += [0 for asked in self._asked.values() if mine & asked.lease.uses.keys()]
        return max(waiting, default=None)

    # --- what others may ask --------------------------------------------------------------------------

    def used(self) -> dict[str, tuple[int, int]]:
        """Units that exist and units in use, by resource; a removed one is listed while somebody holds of it."""
        names = self._units.keys() | self._used.keys()
        return {name: (self._units.get(name, 0), self._used.get(name, 0)) for name in sorted(names)}

    def views(self) -> list[ResourceView]:
        """Each resource with all who hold of it or wait for it."""
        holdings: dict[str, list[HoldingView]] = {name: [] for name in self.used()}
        for live in self._taken.values():
            _show(holdings, live.job.uses, _who(live), live.run.started_at or live.run.queued_at, live.run.run_id)
        for lease in self._granted.values():
            since = lease.granted_at or lease.asked_at
            _show(holdings, lease.uses, lease.holder, since, lease.run_id, lease.lease_id)
        for live, _ in self._held.values():
            _show(holdings, live.job.uses, _who(live), live.run.queued_at, live.run.run_id, waiting=True)
        for asked in self._asked.values():
            lease = asked.lease
            _show(holdings, lease.uses, lease.holder, lease.asked_at, lease.run_id, lease.lease_id, waiting=True)
        return [
            ResourceView(name=name, units=units, used=used, holdings=tuple(holdings[name]))
            for name, (units, used) in self.used().items()
        ]

    # --- within ---------------------------------------------------------------------------------------

    def _impossible(self, uses: dict[str, int], *, of_run: bool = True) -> str | None:
        """What no waiting helps against. A run that names a resource which a reload removed is held, not started:
        the resource stood for something that must not be used by two, and without it nobody would see to that."""
        for name, need in uses.items():
            units = self._units.get(name)
            if units is None:
                instead = "take it out of `uses` and cancel this" if of_run else "ask for one that is there"
                return f"resource {name} does not exist: add it to [resources], or {instead}"
            if need > units:
                instead = "cancel this" if of_run else "ask for fewer"
                return f"needs {need} of {name}, of which only {units} exist: raise it in [resources], or {instead}"
        return None

    def _busy(self, uses: dict[str, int], place: Place) -> str | None:
        for name, need in uses.items():
            units, used = self._units[name], self._used.get(name, 0)
            if need > units - used:
                return f"needs {need} of {name}: {used} of {units} in use by {self._holders(name)}"
            line = self._lines.get(name)
            if line is not None and need > units - used - line.ahead(place):
                return f"waits behind {self._named(line.first())} for {name}"
        return None

    def _holders(self, name: str) -> str:
        holders = [_who(live) for live in self._taken.values() if name in live.job.uses]
        holders += [
            f"lease {lease.lease_id} ({lease.holder})" for lease in self._granted.values() if name in lease.uses
        ]
        more = len(holders) - HOLDERS_NAMED_MAX
        return ", ".join(holders[:HOLDERS_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")

    def _named(self, waiter: str) -> str:
        return f"lease {waiter} ({self._asked[waiter].lease.holder})" if waiter in self._asked else f"run {waiter}"

    def _count(self, uses: dict[str, int], sign: int) -> None:
        for name, units in uses.items():
            left = self._used.get(name, 0) + sign * units
            assert left >= 0, (name, "given back twice")
            if left:
                self._used[name] = left
            else:
                self._used.pop(name, None)
        if sign < 0:
            self.stale = True

    def _stand(self, uses: dict[str, int], place: Place) -> None:
        for name, units in uses.items():
            self._lines.setdefault(name, Line()).add(place, units)

    def _unstand(self, uses: Iterable[str], place: Place) -> None:
        for name in uses:
            self._lines[name].remove(place)

    def _leave_line(self, live: Live) -> bool:
        """Whether it stood in line or was held at all."""
        entry = self._held.pop(live.run.run_id, None)
        if entry is None:
            return False
        if entry[1] is not None:
            self._unstand(live.job.uses, entry[1])
        return True

    def _withdraw(self, asked: Asked) -> None:
        del self._asked[asked.lease.lease_id]
        self._unstand(asked.lease.uses, asked.place)


def _who(live: Live) -> str:
    return f"run {live.run.run_id} of {live.run.job}"


def _show(
    holdings: dict[str, list[HoldingView]],
    uses: dict[str, int],
    holder: str,
    since: datetime,
    run_id: str,
    lease_id: str = "",
    *,
    waiting: bool = False,
) -> None:
    for name, units in uses.items():
        if name in holdings:  # a waiter may ask for what does not exist any more
            view = HoldingView(
                holder=holder, units=units, run_id=run_id, lease_id=lease_id, since=since, waiting=waiting
            )
            holdings[name].append(view)
