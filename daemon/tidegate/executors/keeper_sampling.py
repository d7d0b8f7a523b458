"""Looks at what runs: its memory and its output, again and again. Part of the keeper's process: standard library only;
it ends nothing and tells nobody.
"""

import time
from collections.abc import Callable, Iterable

from tidegate.executors.keeper_attempt import SAMPLE_S_FIRST, Attempt
from tidegate.executors.keeper_output import OutputFile
from tidegate.executors.keeper_timers import Timers
from tidegate.executors.keeper_tree import CONTAIN_S, SCAN_SHARE_MAX, Trees

NAMELESS_S_MAX = 0.1  # then even a silent run has its output file, for those who want to follow it
SAMPLE_S_MAX = 1.0  # the interval doubles from SAMPLE_S_FIRST to this


class Sampling:
    """Outputs of attempts, until they are finished with; and the timers of looking."""

    def __init__(self, trees: Trees, timers: Timers, busy: Callable[[], bool]) -> None:
        self._trees, self._after, self._busy = trees, timers.after, busy
        self._outputs: dict[Attempt, OutputFile] = {}

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
        """Nothing is left of it."""
        self._outputs.pop(attempt, None)

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
        return f'{{"type":"use","uses":[{",".join(uses)}]}}'

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
        begun = time.monotonic()
        output = self._outputs.get(attempt)
        next_s = SAMPLE_S_MAX
        if output is not None:
            output.name_if(begun - attempt.started_mono_s > NAMELESS_S_MAX)
            next_s = output.look_if_due()
        if begun >= attempt.sample_due_mono_s:
            young = begun < attempt.started_mono_s + CONTAIN_S
            if not young:
                self._trees.contain(attempt)
            attempt.learn_memory(self._trees.memory_bytes(attempt, young))
            attempt.sample_every_s = min(attempt.sample_every_s * 2, SAMPLE_S_MAX)
            cost_s = time.monotonic() - begun
            attempt.sample_due_mono_s = begun + max(attempt.sample_every_s, cost_s / SCAN_SHARE_MAX)
        self._after(min(next_s, max(attempt.sample_due_mono_s - time.monotonic(), 0.0)), self._sample, attempt)
