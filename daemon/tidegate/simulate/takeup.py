"""What a daemon that begins tells its engine first, in the order of supervisor/daemon.py and supervisor/recover.py: the
plan, what the book remembers, what the keeper holds. Pure.
"""

from collections.abc import Iterable, Mapping

from tidegate.engine.recovery import Facts, Findings, reconcile
from tidegate.model.event import (
    Event,
    Fired,
    LeaseReleased,
    LeaseRestored,
    Now,
    PausesRestored,
    PlanLoaded,
    WindowChanged,
)
from tidegate.model.job import Boot
from tidegate.model.plan import Plan
from tidegate.model.run import Cause
from tidegate.simulate.book import Book
from tidegate.simulate.work import Attempt, Work


def first_events(
    book: Book,
    work: Work,
    plan: Plan,
    slots: int,
    boot_id: str,
    open_calendars: Iterable[str],
    holders: Mapping[str, float],
    now: Now,
) -> tuple[list[Event], Findings[Attempt]]:
    """All but the fires that were missed. `holders` are those who hold leases, each with its end."""
    facts = Facts(
        boot_id=boot_id,
        keeper=work.instance,
        left_clean=work.left_clean,
        now=now.wall,
        mono_s=now.mono_s,
        alive=lambda pid, pid_start: work.alive(pid, pid_start, now.mono_s),
        ended=book.ended.__contains__,
    )
    findings = reconcile(list(book.rows.values()), list(work.held.values()), plan.jobs, facts)
    events: list[Event] = [PlanLoaded(plan, slots), PausesRestored(frozenset(book.paused & plan.jobs.keys()))]
    events += [WindowChanged(name, True) for name in sorted(open_calendars) if name in plan.calendars]
    for lease in book.leases.values():
        events.append(LeaseRestored(lease))
        if holders.get(lease.lease_id, 0.0) <= now.mono_s:
            events.append(LeaseReleased(lease.lease_id, "its holder ended while tidegate was down"))
    events += findings.events
    if book.boot_id != boot_id:
        for job in plan.jobs.values():
            if isinstance(job.trigger, Boot) and job.enabled and book.jobs[job.name].boot_id != boot_id:
                events.append(Fired(job.name, (now.wall,), Cause.BOOT))
    return events, findings
