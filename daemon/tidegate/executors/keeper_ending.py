"""The end of trees: TERM, the grace, KILL, and what outlives a leader. Part of the keeper's process: standard library
only; it decides nothing and tells nobody.
"""

import os
import signal
import time
from collections.abc import Callable

from tidegate.executors.keeper_attempt import Attempt
from tidegate.executors.keeper_freeze import Freezing
from tidegate.executors.keeper_sampling import Sampling
from tidegate.executors.keeper_timers import Timers
from tidegate.executors.keeper_tree import SCAN_SHARE_MAX, Trees

SWEEP_S = 0.05  # how long after a leader's end its leftovers are looked for; one look serves all that ended meanwhile
CHILDREN_BYTES = 4096  # the kernel gives the list out in pieces of a page; more children are looked at one by one
KILL_AGAIN_S = 0.003  # a tree that forks while it is killed needs another round


class Ending:
    """Attempts of which something may be left, and those that are on their way there."""

    def __init__(
        self,
        trees: Trees,
        sampling: Sampling,
        freezing: Freezing,
        timers: Timers,
        reap: Callable[[], None],
        busy: Callable[[], bool],
        alone: Callable[[], bool],
    ) -> None:
        """`alone`: no supervisor says when to kill."""
        self._trees, self._sampling, self._freezing, self._after = trees, sampling, freezing, timers.after
        self._reap, self._busy, self._alone = reap, busy, alone
        self.unswept: set[Attempt] = set()  # leader ended, something of the tree may be left
        self.orphans_reaped = 0
        self._sweep_due = False

    def leader_ended(self, attempt: Attempt) -> None:
        """Look for what is left of it."""
        self.unswept.add(attempt)
        self.sweep_soon()

    def sweep_soon(self) -> None:
        if self.unswept and not self._sweep_due:
            self._sweep_due = True
            self._after(max(SWEEP_S, self._trees.scan_cost_s / SCAN_SHARE_MAX), self._sweep)

    def _sweep(self, _: Attempt | None) -> None:
        """Deal with what outlived its leader, by the job's policy. The run's end was told before."""
        self._sweep_due = False
        if self._busy():
            self.sweep_soon()
            return
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # no child at all, so no orphan either: no need to read /proc
            for attempt in list(self.unswept):
                self._forget_tree(attempt)
            return
        if only_leaders(self._trees):  # what is in a cgroup may also have come from elsewhere
            for attempt in [one for one in self.unswept if one.cgroup is None and not one.killing]:
                self._forget_tree(attempt)
        if all(attempt.killing for attempt in self.unswept):
            return
        reaped = self.orphans_reaped
        self._trees.refresh()
        self._reap()
        for attempt in list(self.unswept):
            if attempt.killing:
                continue
            if self._trees.members(attempt, SWEEP_S):
                if not attempt.leave and attempt.termed_mono_s is None:
                    self.end_tree(attempt)  # the next look is at the end of one of them, or of the grace
            elif self.orphans_reaped == reaped and not self._trees.blind:
                self._forget_tree(attempt)
            else:
                self.sweep_soon()  # something ended during the look: its child may have been missed

    def _forget_tree(self, attempt: Attempt) -> None:
        self.unswept.discard(attempt)
        self._sampling.forget(attempt)
        self._freezing.thaw(attempt)  # its cgroup serves others
        self._trees.forget(attempt)

    def end_tree(self, attempt: Attempt) -> None:
        """TERM, and CONT so that a stopped process can obey it. What is left of it after the grace is killed, once its
        leader is gone; while the leader lives, the supervisor says when to kill."""
        if attempt.termed_mono_s is None:
            attempt.termed_mono_s = time.monotonic()
            self._after(attempt.kill_grace_s, self._kill_leftovers, attempt)
        if attempt.host is not None:
            attempt.host.stop(attempt)
            return
        self._trees.send(attempt, signal.SIGTERM, signal.SIGCONT)
        self._freezing.thaw(attempt)

    def _kill_leftovers(self, attempt: Attempt | None) -> None:
        assert attempt is not None
        if attempt in self.unswept or (attempt.exit is None and self._alone()):
            self.kill(attempt)
        elif attempt.exit is None:  # the leader lives on and its supervisor has not yet said KILL
            self._after(max(attempt.kill_grace_s, 1.0), self._kill_leftovers, attempt)

    def kill(self, attempt: Attempt) -> None:
        if attempt.host is not None:
            attempt.host.give_up(attempt)
        elif not attempt.killing and (attempt.exit is None or attempt in self.unswept):
            attempt.killing = True
            self._kill_round(attempt)

    def _kill_round(self, attempt: Attempt | None) -> None:
        """KILL until nothing is left: processes that forked meanwhile get the next round. What always forks and ends
        may be missed by a look; then one of it was reaped during that look."""
        assert attempt is not None
        self._reap()
        reaped = self.orphans_reaped
        found = self._trees.kill(attempt)
        self._reap()
        if found or attempt.exit is None or self.orphans_reaped != reaped or self._trees.blind:
            self._after(max(KILL_AGAIN_S, self._trees.scan_cost_s), self._kill_round, attempt)
        else:
            self._forget_tree(attempt)


def only_leaders(trees: Trees) -> bool:
    """Whether all children of this process are leaders that run: then nothing is left of any tree whose leader ended,
    as it would be a child of ours now. One small file instead of a walk over /proc. False where it cannot be seen.

    The kernel promises a whole list only while no child leaves it. None does: a child leaves when it is reaped, and
    that is done by this thread alone.
    """
    try:
        fd = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # a kernel without this file, or no descriptor
    try:
        text = os.read(fd, CHILDREN_BYTES)
    except OSError:
        return False
    finally:
        os.close(fd)
    if not text.endswith(b" ") or len(text) > CHILDREN_BYTES - 16:
        return False  # there may be more
    leaders = (trees.by_leader.get(int(pid)) for pid in text.split())
    return all(leader is not None and leader.exit is None for leader in leaders)
