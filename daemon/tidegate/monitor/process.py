"""What our own processes use: a process, its living descendants and others that are named. Reads only; what a run used
is the keeper's to tell."""

import os
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from msgspec import Struct

from tidegate.monitor import formats
from tidegate.monitor.kept import read_once

PROCESSES_MAX: Final = 1000  # of ours counted in one reading, about 20 µs each; more is told in `readings_in_use`
SCANNED_MAX: Final = 10_000  # processes of the machine that are looked through where the kernel lists no children

Family = Literal["listed", "scanned", "none"]


class Own(Struct, frozen=True):
    """Our processes in all."""

    cpu_s: float | None  # with what was reaped
    delays: dict[str, tuple[float, float]]  # by pid: its first thread's seconds on a CPU, and waiting for one
    complete: bool  # False: there are more than PROCESSES_MAX
    family: Family  # how descendants were found


class Delays:
    """Time that our processes ran and waited while we looked, as totals that only grow: of each process only what was
    added since it was seen before. A plain sum would fall with everyone that ends, and the rest look like anything."""

    def __init__(self) -> None:
        self.run_s = 0.0
        self.wait_s = 0.0
        self._before: dict[str, tuple[float, float]] = {}

    def add(self, seen: dict[str, tuple[float, float]]) -> None:
        for pid, (ran, waited) in seen.items():
            before = self._before.get(pid)
            if before is not None and ran >= before[0] and waited >= before[1]:  # else the pid is another process now
                self.run_s += ran - before[0]
                self.wait_s += waited - before[1]
        self._before = seen


def lists_children(proc: str, process: str) -> bool:
    """Whether the kernel lists children (CONFIG_PROC_CHILDREN)."""
    return any(
        os.access(f"{proc}/{process}/task/{thread}/children", os.R_OK) for thread in _numbers(f"{proc}/{process}/task")
    )


def _numbers(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            yield from [entry.name for entry in entries if entry.name.isdigit()]
    except OSError:
        return


def listed(proc: str, roots: Iterable[str], most: int = PROCESSES_MAX) -> list[str]:
    """These and all below them, as the kernel lists children; one more than `most` at the most."""
    found = dict.fromkeys(roots)
    waiting = list(found)
    while waiting and len(found) <= most:
        pid = waiting.pop()
        for thread in _numbers(f"{proc}/{pid}/task"):
            children = formats.pids(read_once(f"{proc}/{pid}/task/{thread}/children"))
            fresh = [child for child in children if child not in found]
            found |= dict.fromkeys(fresh)
            waiting += fresh
    return list(found)[: most + 1]


def scanned(proc: str, roots: Iterable[str]) -> list[str]:
    """The same, by looking through all processes for their parents."""
    below: dict[str, list[str]] = {}
    for count, pid in enumerate(_numbers(proc)):
        parent = formats.parent(read_once(f"{proc}/{pid}/stat"))
        if parent is not None:
            below.setdefault(parent, []).append(pid)
        if count >= SCANNED_MAX:
            break
    found = dict.fromkeys(roots)
    waiting = list(found)
    while waiting and len(found) <= PROCESSES_MAX:
        fresh = [child for child in below.get(waiting.pop(), ()) if child not in found]
        found |= dict.fromkeys(fresh)
        waiting += fresh
    return list(found)[: PROCESSES_MAX + 1]


def own(proc: str, roots: Iterable[str], ticks_per_s: int, family: Family) -> Own:
    """Totals. A child's time moves to its parent when it is reaped, so the sum only grows as long as we reap ours."""
    match family:
        case "listed":
            everyone = listed(proc, roots)
        case "scanned":
            everyone = scanned(proc, roots)
        case "none":
            everyone = list(dict.fromkeys(roots))
    counted = everyone[:PROCESSES_MAX]
    spent = [formats.process_cpu(read_once(f"{proc}/{pid}/stat"), ticks_per_s) for pid in counted]
    delays = {pid: formats.schedstat(read_once(f"{proc}/{pid}/schedstat")) for pid in counted}
    return Own(
        cpu_s=_sum(spent),
        delays={pid: delay for pid, delay in delays.items() if delay is not None},
        complete=len(everyone) <= PROCESSES_MAX,
        family=family,
    )


def _sum(values: list[float | None]) -> float | None:
    """Of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
