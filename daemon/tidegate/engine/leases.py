"""Leases on shared resources: asked for, granted in the order of age beside the runs, given back. Pure; who
holds what is kept in resources.py.
"""

from msgspec.structs import replace

from tidegate.engine.runs import Runs
from tidegate.model.command import Fact, Record
from tidegate.model.event import LeaseRequested, Now
from tidegate.model.lease import Lease


def ask(runs: Runs, event: LeaseRequested, now: Now) -> None:
    """Stand in line. What can never be granted ends at once, with the reason."""
    refusal = runs.resources.request(event.lease, now.mono_s, event.wait_s)
    if refusal is not None:
        _tell(runs, Fact.LEASE_ENDED, replace(event.lease, ended_at=now.wall), refusal, now)
        return
    if event.wait_s is not None:
        runs.deadlines.add(now.mono_s + event.wait_s, "lease", None)
    grant(runs, now)
    why = runs.resources.waits_for(event.lease.lease_id)
    if why:
        _tell(runs, Fact.LEASE_WAITING, event.lease, why, now)


def grant(runs: Runs, now: Now) -> None:
    """Grant what has come free, oldest first."""
    for lease in runs.resources.grant(now):
        _tell(runs, Fact.LEASE_GRANTED, lease, f"{_units(lease)} to {lease.holder}", now)


def end(runs: Runs, lease_id: str, reason: str, now: Now) -> None:
    """The holder gave it back or is gone, or nobody waits for it any more."""
    lease = runs.resources.release(lease_id)
    if lease is not None:
        _tell(runs, Fact.LEASE_ENDED, replace(lease, ended_at=now.wall), f"{_units(lease)}: {reason}", now)


def refuse(runs: Runs, now: Now) -> None:
    """Those who wait for what a reload removed or made too small: they would wait for ever."""
    for lease_id, reason in runs.resources.in_vain():
        end(runs, lease_id, reason, now)


def expire(runs: Runs, now: Now) -> None:
    """Those who did not want to wait any longer."""
    reasons = {lease_id: runs.resources.waits_for(lease_id) for lease_id in runs.resources.asking()}
    for lease in runs.resources.expired(now):
        reason = f"not granted in time: {reasons[lease.lease_id]}"
        _tell(runs, Fact.LEASE_ENDED, replace(lease, ended_at=now.wall), reason, now)


def _units(lease: Lease) -> str:
    return ", ".join(f"{units} of {name}" for name, units in lease.uses.items())


def _tell(runs: Runs, fact: Fact, lease: Lease, reason: str, now: Now) -> None:
    runs.out.append(Record(fact=fact, at=now.wall, reason=reason, lease=lease))
