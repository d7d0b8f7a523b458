"""Looks at what runs: its memory and its output, again and again. Part of the keeper's process: standard library only;
it ends nothing and tells nobody.
"""

import time
from collections.abc import Callable, Iterable

from tidegate.executors.keeper_attempt import SAMPLE_S_FIRST, Attempt
from tidegate.executors.keeper_output import LOOK_S_MAX, OutputFile
from tidegate.executors.keeper_timers import Timers
from tidegate.executors.keeper_tree import CALM_SHARE_MAX, CONTAIN_S, SCAN_SHARE_MAX, Trees

NAMELESS_S_MAX = 0.1  # then even a silent run has its output file, for those who want to follow it
SAMPLE_S_MAX = 1.0  # the interval doubles from SAMPLE_S_FIRST to this
CALM_S_MAX = 10.0  # … and with many runs it is stretched to this
QUIET_PART = 0.99  # of the longest interval of looks at output: nothing comes
TOGETHER = 4  # times in the longest interval all runs that go on are looked at, as waking up costs more than a look
COST_PART = 0.05  # of the newest look, in the mean of what one costs


class Sampling:
    """Outputs of attempts, until they are finished with; and the timers of looking."""

    def __init__(self, trees: Trees, timers: Timers, busy: Callable[[], bool]) -> None:
        self._trees, self._after, self._busy = trees, timers.after, busy
        self._outputs: dict[Attempt, OutputFile] = {}
        self._cost_s = 0.0  # of one look at a run that goes on, walks left out

    def begin(self, attempt: Attempt, output: OutputFile | None) -> None:
        if output is not None:
            self._outputs[attempt] = output
        self._after(SAMPLE_S_FIRST, self._sample, attempt)

    def end(self, attempt: Attempt) -> OutputFile | None:
        """Its leader ended: what came of its output."""
        output = self._outputs.get(attempt)
        if output is not None and output.end():
            self._after(0.0, self._finish, attempt)
        else:
            self._outputs.pop(attempt, None)
        return output

    def forget(self, attempt: Attempt) -> None:
        """Nothing is left of it, and what it wrote last is looked at."""
        output = self._outputs.pop(attempt, None)
        if output is not None:
            output.look()

    def told_use(self, attempts: Iterable[Attempt], afresh: bool) -> str:
        """What each running attempt held of the machine at its last look, or, with `afresh`, holds now."""
        uses = []
        for attempt in attempts:
            if attempt.exit is None and attempt.host is None:
                if afresh:
                    young = time.monotonic() < attempt.started_mono_s + CONTAIN_S
                    attempt.learn_memory(self._trees.memory_bytes(attempt, young))
                if attempt.memory_bytes is not None:
                    uses.append(f'{{{attempt.key},"memory_bytes":{attempt.memory_bytes}}}')
        return f'{{"type":"use","afresh":{"true" if afresh else "false"},"uses":[{",".join(uses)}]}}'

    def _calm_s(self, cost_s: float, walked_s: float) -> float:
        """To the next look at a run that goes on and on: together they must cost no more than a few of them. When
        memory gets short, the supervisor asks for a look at all; output that begins to come is followed closely."""
        self._cost_s += COST_PART * (max(0.0, cost_s - self._trees.scanning_s + walked_s) - self._cost_s)
        return max(SAMPLE_S_MAX, min(self._cost_s * len(self._trees.by_leader) / CALM_SHARE_MAX, CALM_S_MAX))

    def _finish(self, attempt: Attempt | None) -> None:
        if attempt is not None and attempt in self._outputs:
            self._outputs[attempt].look()

    def _sample(self, attempt: Attempt | None) -> None:
        assert attempt is not None
        if attempt.exit is not None:
            if attempt in self._outputs:  # what is left of the tree may still write
                self._after(self._outputs[attempt].look_if_due(), self._sample, attempt)
            return
        if self._busy():
            self._after(SAMPLE_S_FIRST, self._sample, attempt)
            return
        begun, walked_s = time.monotonic(), self._trees.scanning_s
        output = self._outputs.get(attempt)
        next_s = SAMPLE_S_MAX
        if output is not None:
            output.name_if(begun - attempt.started_mono_s > NAMELESS_S_MAX)
            next_s = output.look_if_due()
        if begun >= attempt.sample_due_mono_s:
            new = attempt.sample_every_s < SAMPLE_S_MAX
            young = begun < attempt.started_mono_s + CONTAIN_S
            if not young:
                self._trees.contain(attempt)  # once: no part of what a look costs
            looked_s = time.thread_time()  # that we waited for a core, or for others, is no cost of ours
            attempt.learn_memory(self._trees.memory_bytes(attempt, young, SCAN_SHARE_MAX if new else CALM_SHARE_MAX))
            attempt.sample_every_s = min(attempt.sample_every_s * 2, SAMPLE_S_MAX)
            if new:
                every_s = max(attempt.sample_every_s, (time.thread_time() - looked_s) / SCAN_SHARE_MAX)
            else:
                every_s = self._calm_s(time.monotonic() - begun, walked_s)
            attempt.sample_due_mono_s = with_others(begun, every_s)
        if next_s >= LOOK_S_MAX * QUIET_PART and attempt.sample_every_s >= SAMPLE_S_MAX:
            next_s = CALM_S_MAX  # or with its memory
        self._after(min(next_s, max(attempt.sample_due_mono_s - time.monotonic(), 0.0)), self._sample, attempt)


def with_others(begun: float, every_s: float) -> float:
    """When to look again: for long intervals a little earlier, at an instant that is the same for all."""
    grid_s, due = CALM_S_MAX / TOGETHER, begun + every_s
    return due // grid_s * grid_s if every_s >= 2 * grid_s else due
