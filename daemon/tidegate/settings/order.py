"""`after`: names that exist, and no way around in a circle. Pure."""

from collections.abc import Callable, Mapping
from graphlib import CycleError, TopologicalSorter

from tidegate.model.job import Job
from tidegate.settings.problem import hint, quoted

CYCLES_MAX = 20  # each costs one pass; whoever has more looks at the first twenty first

Finding = Callable[[str, str], None]  # job, sentence


def check_after(jobs: Mapping[str, Job], known: set[str], report: Finding, warn: Finding) -> None:
    """Report missing names, jobs after themselves and cycles, naming the whole cycle in the order of firing.

    `known` holds names that are defined but could not be read: they are not missing.
    """
    graph: dict[str, list[str]] = {}
    hints_left = CYCLES_MAX
    for name, job in jobs.items():
        for upstream in job.after:
            if upstream == name:
                report(name, "a job cannot be after itself")
            elif upstream in jobs:
                graph.setdefault(name, []).append(upstream)
                if job.enabled and not jobs[upstream].enabled:
                    warn(name, f"{quoted(upstream)} is not enabled: it will not fire this job by itself")
            elif upstream not in known:
                report(name, f"no job named {quoted(upstream)}{hint(upstream, jobs) if hints_left else ''}")
                hints_left -= bool(hints_left)
    for _ in range(CYCLES_MAX):
        cycle = find_cycle(graph)
        if not cycle:
            return
        report(cycle[-1], f"a cycle: {' → '.join(cycle)}")
        graph[cycle[-1]].remove(cycle[-2])  # cut it there and look for the next


def find_cycle(graph: Mapping[str, list[str]]) -> list[str]:
    """Some cycle, each job followed by one that it fires, beginning and ending with the first by name; else empty."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        around: list[str] = error.args[1][:-1]
        first = around.index(min(around))
        return around[first:] + around[: first + 1]
    return []
