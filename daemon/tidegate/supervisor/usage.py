"""What the running runs hold of the machine now, for people who ask. Reads only; what is on record is the keeper's."""

import os
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from tidegate.engine.dispatcher import Dispatcher
from tidegate.model.run import Run, State
from tidegate.model.view import RunningView, running_view
from tidegate.monitor import formats
from tidegate.monitor.kept import read_once
from tidegate.monitor.process import listed

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PROCESSES_MAX: Final = 100  # looked at for one answer, about 30 µs each: the loop is held for no longer than 5 ms


def running(dispatcher: Dispatcher, runs: Iterable[Run], proc: str = "/proc") -> list[RunningView]:
    """Each with its memory, its CPU so far and whether it is held still; None where that is not known."""
    left, views = PROCESSES_MAX, []
    for run in runs:
        memory_bytes, frozen = dispatcher.pressure.held_by(run.run_id)
        view = running_view(run, memory_bytes, frozen)
        job = dispatcher.job_of(run.run_id)
        # A warm worker has used CPU for earlier runs, and one that is shared for others at once.
        if run.state is State.RUNNING and run.pid is not None and job is not None and job.python is None and left > 0:
            tree = listed(proc, [str(run.pid)], left)
            left -= len(tree)
            view = replace(view, cpu_s=_cpu_s(proc, tree) if left >= 0 else None)
        views.append(view)
    return views


def _cpu_s(proc: str, tree: list[str]) -> float | None:
    known = [formats.process_cpu(read_once(f"{proc}/{pid}/stat"), TICKS_PER_S) for pid in tree]
    spent = [each for each in known if each is not None]
    return sum(spent) if spent else None
