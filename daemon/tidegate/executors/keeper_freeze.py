"""Freezes whole trees and thaws them. Part of the keeper's process: standard library only. What is frozen is decided by
the supervisor; that nothing stays frozen for long after it has gone is decided here.

A control group is frozen by the kernel, whatever forks in it. Elsewhere every process found is sent STOP, which cannot
be refused, and looked for again: what forked meanwhile, or what somebody woke.
"""

import signal
import time

from tidegate.executors.keeper_attempt import Attempt
from tidegate.executors.keeper_cgroup import freeze, processes
from tidegate.executors.keeper_timers import Timers
from tidegate.executors.keeper_tree import SCAN_SHARE_MAX, Proc, Trees, send

THAW_S = 4.0  # after the supervisor that froze it has gone, unless the next one freezes it again; the promise is 5
LOOK_S_FIRST, LOOK_S_MAX = 0.003, 1.0  # between two looks for what still runs; doubled while nothing new is found
STOPPED = "TtZX"


class _Frozen:
    """One freeze of one attempt."""

    def __init__(self) -> None:
        self.epoch = 0  # of the connection that asked for it last
        self.cgroup: str | None = None  # that the kernel holds still
        self.own: set[tuple[int, int]] | None = None  # stopped by itself before: it stays so when the rest is thawed
        self.stopped: dict[tuple[int, int], Proc] = {}  # parents first
        self.blindly = False  # some of it was sent STOP without being seen
        self.look_s = LOOK_S_FIRST


class Freezing:
    """What is frozen, and by which connection."""

    def __init__(self, trees: Trees, timers: Timers) -> None:
        self._trees, self._after = trees, timers.after
        self._frozen: dict[Attempt, _Frozen] = {}

    def freeze(self, attempt: Attempt, epoch: int) -> None:
        """One that has ended, or was told to end, is left alone: it would never get there."""
        if attempt.exit is not None or attempt.killing or attempt.termed_mono_s is not None:
            return
        frozen = self._frozen.get(attempt)
        if frozen is None:
            frozen = self._frozen[attempt] = _Frozen()
            attempt.frozen_mono_s = time.monotonic()
            self._trees.contain(attempt)
            if attempt.cgroup is not None and freeze(attempt.cgroup, True):
                frozen.cgroup = attempt.cgroup
            self._look(attempt, frozen)
        frozen.epoch = epoch

    def thaw(self, attempt: Attempt) -> None:
        """Children before their parents, so that no parent sees a stopped child."""
        frozen = self._frozen.pop(attempt, None)
        if frozen is None:
            return
        attempt.frozen_s, attempt.frozen_mono_s = attempt.frozen_until_now_s(), None
        for proc in self._free(attempt, frozen):  # some were stopped with their group, and not seen since
            if (proc.pid, proc.start) not in (frozen.own or ()):
                frozen.stopped.setdefault((proc.pid, proc.start), proc)
        for proc in reversed(frozen.stopped.values()):
            send(proc, signal.SIGCONT)
        if frozen.blindly:
            self._trees.send(attempt, signal.SIGCONT)
        if frozen.cgroup is not None:
            freeze(frozen.cgroup, False)

    def left_by(self, epoch: int) -> None:
        """The supervisor of this connection is gone, and the next one need not know that anything was frozen."""
        if self._frozen:
            self._after(THAW_S, lambda _: self._thaw_of(epoch))

    def _thaw_of(self, epoch: int) -> None:
        for attempt in [a for a, frozen in self._frozen.items() if frozen.epoch <= epoch]:
            self.thaw(attempt)

    def _free(self, attempt: Attempt, frozen: _Frozen) -> list[Proc]:
        """What the kernel does not hold still by its control group."""
        held = set(processes(frozen.cgroup)) if frozen.cgroup is not None else set()
        return [proc for proc in self._trees.members(attempt) if proc.pid not in held]

    def _look(self, attempt: Attempt, frozen: _Frozen) -> None:
        """Stop what still runs, and come again. What waits for its disk or for a vfork only stops after that."""
        if self._frozen.get(attempt) is not frozen or attempt.killing:
            return
        found_new, found = False, self._free(attempt, frozen)
        if frozen.own is None:
            frozen.own = {(proc.pid, proc.start) for proc in found if proc.state in STOPPED}
        running = [proc for proc in found if proc.state not in STOPPED]
        if frozen.cgroup is None:
            self._trees.send_groups(attempt, running, signal.SIGSTOP)
        for proc in running:
            key = (proc.pid, proc.start)
            found_new = found_new or key not in frozen.stopped
            frozen.stopped.setdefault(key, proc)
            send(proc, signal.SIGSTOP)
        if self._trees.blind:
            frozen.blindly = True
            self._trees.send(attempt, signal.SIGSTOP)
        frozen.look_s = LOOK_S_FIRST if found_new else min(frozen.look_s * 2, LOOK_S_MAX)
        again_s = frozen.look_s if found_new else max(frozen.look_s, self._trees.scan_cost_s / SCAN_SHARE_MAX)
        self._after(again_s, lambda _: self._look(attempt, frozen))
