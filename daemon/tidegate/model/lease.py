"""A lease: units of shared resources held by somebody who is not a run of its own (`tidegate acquire`, a running job
in its course). Frozen."""

from datetime import datetime

from msgspec import Struct


class Lease(Struct, frozen=True, kw_only=True):
    """Who holds, or waits for, how many units of what. Times are wall time in UTC."""

    lease_id: str
    uses: dict[str, int]  # units by resource
    holder: str  # who asked, for people: "pid 812 (pg_dump) of postgres", "run 0k3…"
    pid: int | None = None
    pid_start: int | None = None  # clock ticks from boot: with the pid it names one process and no other
    run_id: str = ""  # of the run whose process asked, where that is known
    asked_at: datetime
    granted_at: datetime | None = None
    ended_at: datetime | None = None
