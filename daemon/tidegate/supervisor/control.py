"""What people and programs may ask of the running daemon: the API's other side. It posts events and waits for the
records that answer them; what becomes of a request is decided in the engine. Loop thread only.
"""

import asyncio
import errno
import os
import resource
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from msgspec.structs import asdict

from tidegate import clock
from tidegate.engine.dispatcher import Dispatcher
from tidegate.engine.lifecycle import HOLDS_SLOT, NOT_STARTED
from tidegate.failpoint import hit
from tidegate.model.command import Fact, Record
from tidegate.model.event import (
    CancelRequested,
    LeaseReleased,
    LeaseRequested,
    Now,
    PauseRequested,
    ResumeRequested,
    Triggered,
)
from tidegate.model.job import Job
from tidegate.model.lease import Lease
from tidegate.model.plan import Diff
from tidegate.model.refusal import Refused
from tidegate.model.run import State
from tidegate.model.view import (
    JobView,
    LeaseView,
    PoolView,
    ReloadView,
    ResourceView,
    RunningView,
    RunView,
    WaitingView,
    of_lease,
    of_run,
)
from tidegate.settings.places import HISTORY_NAME
from tidegate.supervisor import usage
from tidegate.supervisor.alarm import Alarm
from tidegate.supervisor.process import start_ticks
from tidegate.supervisor.pump import Pump
from tidegate.supervisor.reload import Reloader
from tidegate.triggers.wording import schedule
from tidegate.triggers.zones import zone

# The engine answers within a turn; what lasts is a history that cannot be written. Whoever asks over the command line
# waits for 30 s, and must hear the reason before that.
ANSWER_S_MAX: Final = 10.0
WATCH_AGAIN_S: Final = 1.0  # a holder that cannot be watched now is looked for again

Request = Triggered | CancelRequested | PauseRequested | ResumeRequested | LeaseRequested | LeaseReleased


class Control:
    """The daemon's side of every request. Raises Refused, with a sentence for a person."""

    def __init__(self, dispatcher: Dispatcher, pump: Pump, alarm: Alarm, reloader: Reloader, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.history_path = state_dir / HISTORY_NAME
        self._dispatcher = dispatcher
        self._pump = pump
        self._alarm = alarm
        self._reloader = reloader
        self._diff = Diff()  # of the last reload
        self._subscribers: tuple[Callable[[Record], None], ...] = ()
        self._leases: dict[str, Lease] = {}  # asked for or granted, not ended
        self._pidfds: dict[str, int] = {}

    # --- what it is told --------------------------------------------------------------------------------

    def observe(self, record: Record) -> None:
        """See a fact go by."""
        if record.diff is not None:
            self._diff = record.diff
        if record.lease is not None:
            self._follow_lease(record.lease)
        for subscriber in self._subscribers:
            subscriber(record)

    def subscribe(self, callback: Callable[[Record], None]) -> Callable[[], None]:
        """Hand every fact to the callback; the answer ends that."""
        self._subscribers = (*self._subscribers, callback)

        def end() -> None:
            self._subscribers = tuple(one for one in self._subscribers if one is not callback)

        return end

    # --- reading ----------------------------------------------------------------------------------------

    def job_names(self) -> list[str]:
        """All jobs of the live plan, in file order."""
        return list(self._dispatcher.jobs)

    def job(self, name: str) -> JobView | None:
        """One job as it stands. Runs that have ended, and the last success, are history's to tell."""
        job = self._dispatcher.jobs.get(name)
        return None if job is None else self._job_view(job)

    def definition(self, name: str) -> Job | None:
        """A job of the live plan."""
        return self._dispatcher.jobs.get(name)

    def running(self) -> list[RunningView]:
        """Runs that have a process, or are about to, oldest first."""
        return usage.running(self._dispatcher, [run for run in self._dispatcher.runs() if run.state in HOLDS_SLOT])

    def run(self, run_id: str) -> RunView | None:
        """A run that has not ended."""
        run = self._dispatcher.run(run_id)
        return None if run is None else of_run(run)

    def waiting(self, limit: int) -> list[WaitingView]:
        """The first of the queued runs in order, each with the gate that holds it."""
        held = self._dispatcher.waiting(self._now(), limit)
        return [WaitingView(run=of_run(run), gate=gate, reason=why) for run, gate, why in held]

    def pool(self) -> PoolView:
        """How full the pool is."""
        counts = self._dispatcher.counts()
        return PoolView(
            limit=counts.limit,
            running=counts.running,
            queued=counts.queued,
            retrying=counts.retrying,
            held=self._dispatcher.starts_held,
            frozen=counts.frozen,
            memory_tier=self._dispatcher.pressure.memory_tier,
            gates=tuple(self._dispatcher.pressure.gates(self._now())),
        )

    def resources(self) -> list[ResourceView]:
        """Every shared resource with who holds it and who waits."""
        return self._dispatcher.resources()

    def lease(self, lease_id: str) -> LeaseView | None:
        """A lease that has not ended."""
        lease = self._leases.get(lease_id)
        return None if lease is None else of_lease(lease)

    # --- steering ---------------------------------------------------------------------------------------

    async def trigger(self, job: str, by: str, args: dict[str, str], request_id: str | None) -> RunView:
        """Ask for a run now. With a request id that is known the same run is answered again."""
        self._known(job)
        if request_id is not None:
            for run in self._dispatcher.runs():
                if run.request_id == request_id and run.job == job:
                    await self._on_disk()
                    return of_run(self._dispatcher.run(run.run_id) or run)
        chosen = request_id or os.urandom(8).hex()
        record = await self._ask(
            Triggered(job, chosen, by, args), lambda record: record.run is not None and record.run.request_id == chosen
        )
        assert record.run is not None
        return of_run(record.run)

    async def cancel(self, run_id: str, by: str) -> RunView:
        """End a run: TERM to its tree, then KILL; one that waits ends at once."""
        run = self._dispatcher.run(run_id)
        if run is None:
            raise Refused("not_found", f"run {run_id} is not there or has ended")
        if run.state is State.STOPPING:
            raise Refused("conflict", f"run {run_id} is being stopped already: {run.reason}")
        record = await self._ask(
            CancelRequested(run_id, by), lambda record: record.run is not None and record.run.run_id == run_id
        )
        assert record.run is not None
        return of_run(record.run)

    async def pause(self, job: str, by: str) -> JobView:
        """No new fires of this job, and nothing of it that waits starts. Survives a restart."""
        self._known(job)
        await self._ask(PauseRequested(job, by), lambda record: record.fact is Fact.JOB_PAUSED and record.job == job)
        return self._job_view(self._known(job))

    async def resume(self, job: str, by: str) -> JobView:
        """Undo a pause."""
        self._known(job)
        await self._ask(ResumeRequested(job, by), lambda record: record.fact is Fact.JOB_RESUMED and record.job == job)
        return self._job_view(self._known(job))

    async def reload(self, by: str) -> ReloadView:
        """Read the configuration again; the answer comes when the new one is live, or with all that is wrong."""
        del by
        problems = await self._reloader.request()
        if problems:
            return ReloadView(ok=False, problems=tuple(problems))
        diff = self._diff  # the turn that made the plan live came before this line
        return ReloadView(ok=True, **asdict(diff))

    # --- leases -----------------------------------------------------------------------------------------

    async def acquire(self, uses: dict[str, int], holder: str, pid: int | None, wait_s: float | None) -> LeaseView:
        """Units of shared resources for somebody who is no run. Answers when they are granted, or never will be."""
        pid_start = start_ticks(pid) if pid is not None else None
        if pid is not None and pid_start is None:
            raise Refused("conflict", f"process {pid} has ended already")
        lease = Lease(
            lease_id=os.urandom(8).hex(),
            uses=uses,
            holder=holder,
            pid=pid,
            pid_start=pid_start,
            run_id=self._run_of(pid),
            asked_at=clock.wall(),
        )
        done = (Fact.LEASE_GRANTED, Fact.LEASE_ENDED)

        def answers(record: Record) -> bool:
            return record.lease is not None and record.lease.lease_id == lease.lease_id and record.fact in done

        try:
            record = await self._ask(LeaseRequested(lease, wait_s), answers, wait_s)
        except asyncio.CancelledError:
            self._pump.post(LeaseReleased(lease.lease_id, "nobody waits for it any more"))
            raise
        except Refused as refused:
            self._pump.post(LeaseReleased(lease.lease_id, "it could not be written down in time"))
            raise Refused("unavailable", f"not granted, as that cannot be written down: {self._why()}") from refused
        assert record.lease is not None
        if record.fact is Fact.LEASE_GRANTED:
            hit("lease.granted")
        return of_lease(record.lease, record.reason)

    async def release(self, lease_id: str, by: str) -> LeaseView:
        """Give a lease back."""
        if lease_id not in self._leases:
            raise Refused("not_found", f"lease {lease_id} is not there or has ended")
        record = await self._ask(
            LeaseReleased(lease_id, by),
            lambda record: (
                record.lease is not None and record.lease.lease_id == lease_id and record.fact is Fact.LEASE_ENDED
            ),
        )
        assert record.lease is not None
        return of_lease(record.lease, record.reason)

    def restore(self, lease: Lease) -> None:
        """Take up a lease of an earlier life: it ends when its holder does."""
        self._follow_lease(lease)

    def _follow_lease(self, lease: Lease) -> None:
        """A lease ends with the process that holds it, also one that still waits."""
        if lease.ended_at is not None:
            self._leases.pop(lease.lease_id, None)
            self._forget_pid(lease.lease_id)
            return
        self._leases[lease.lease_id] = lease
        if lease.pid is None or lease.lease_id in self._pidfds:
            return
        gone = LeaseReleased(lease.lease_id, f"its holder, process {lease.pid}, has ended")
        try:
            pidfd = with_room_left(os.pidfd_open(lease.pid))
        except ProcessLookupError:
            self._pump.post(gone)
            return
        except OSError:  # no descriptor is left: that says nothing of the holder, who keeps what it holds meanwhile
            asyncio.get_running_loop().call_later(WATCH_AGAIN_S, self._watch_again, lease.lease_id)
            return
        if start_ticks(lease.pid) != lease.pid_start:  # another process by now
            os.close(pidfd)
            self._pump.post(gone)
            return
        self._pidfds[lease.lease_id] = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._holder_ended, gone)

    def _watch_again(self, lease_id: str) -> None:
        lease = self._leases.get(lease_id)
        if lease is not None:
            self._follow_lease(lease)

    def _holder_ended(self, gone: LeaseReleased) -> None:
        self._forget_pid(gone.lease_id)
        self._pump.post(gone)

    def _forget_pid(self, lease_id: str) -> None:
        pidfd = self._pidfds.pop(lease_id, None)
        if pidfd is not None:
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)

    def close(self) -> None:
        """Watch no holder any more; what is granted stays granted for the next life."""
        for lease_id in list(self._pidfds):
            self._forget_pid(lease_id)

    # --- within -----------------------------------------------------------------------------------------

    async def _ask(
        self,
        event: Request,
        answers: Callable[[Record], bool],
        wait_s: float | None = 0.0,
    ) -> Record:
        """Post an event; the first record that answers it, once it is on disk. The engine itself may take `wait_s` for
        it; None: for ever. Raises Refused."""
        answer: asyncio.Future[Record] = asyncio.get_running_loop().create_future()

        def look(record: Record) -> None:
            if not answer.done() and (record.asked is event or answers(record)):
                answer.set_result(record)

        end = self.subscribe(look)
        record: Record | None = None
        try:
            self._pump.post(event)
            async with asyncio.timeout(None if wait_s is None else wait_s + ANSWER_S_MAX):
                record = await answer
                if record.asked is event:
                    raise self._refusal(event, record)
                await self._pump.settled()
        except TimeoutError:
            raise self._unwritten(record) from None
        finally:
            end()
        return record

    async def _on_disk(self) -> None:
        """Wait until all that was decided so far is. Raises Refused."""
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                await self._pump.settled()
        except TimeoutError:
            raise Refused("unavailable", self._not_on_disk("accepted")) from None

    def _refusal(self, event: Request, record: Record) -> Refused:
        if self._dispatcher.draining and isinstance(event, Triggered):
            return Refused("unavailable", "the daemon is stopping: it starts nothing more. Ask the next one")
        return Refused("conflict", record.reason)

    def _unwritten(self, record: Record | None) -> Refused:
        """Why there is no answer in time, and what is known of what was asked for."""
        if record is None:
            return Refused("unavailable", "the daemon is too busy to decide; what was asked for may still be done")
        skipped = record.fact is Fact.RUN_SKIPPED
        return Refused("unavailable", self._not_on_disk(f"skipped ({record.reason})" if skipped else "accepted"))

    def _not_on_disk(self, what: str) -> str:
        return f"{what}, but not on disk yet, and lost if the daemon ends before it is: {self._why()}"

    def _why(self) -> str:
        return self._dispatcher.held_by("history") or "the disk has not answered so far"

    def _known(self, name: str) -> Job:
        job = self._dispatcher.jobs.get(name)
        if job is None:
            raise Refused("not_found", f"there is no job {name!r}")
        return job

    def _job_view(self, job: Job) -> JobView:
        lives = self._dispatcher.runs_of(job.name)
        next_s = self._alarm.next_fires().get(job.name)
        return JobView(
            name=job.name,
            description=job.description,
            schedule=schedule(job, zone(job.timezone)),
            timezone=job.timezone,
            enabled=job.enabled,
            paused=job.name in self._dispatcher.paused,
            next_fire_at=None if next_s is None else datetime.fromtimestamp(next_s, UTC),
            running=sum(run.state in HOLDS_SLOT for run in lives),
            queued=sum(run.state in NOT_STARTED for run in lives),
            retrying=sum(run.state is State.RETRYING for run in lives),
            last_run=of_run(lives[-1]) if lives else None,
            last_success_at=None,
            learned=self._dispatcher.pressure.learned(job),
        )

    def _run_of(self, pid: int | None) -> str:
        """The run that a process belongs to, by its environment; "" where that is not known."""
        if pid is None:
            return ""
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return ""
        for pair in environ:
            if pair.startswith(b"TIDEGATE_RUN_ID="):
                run_id = pair.partition(b"=")[2].decode(errors="replace")
                return run_id if self._dispatcher.run(run_id) is not None else ""
        return ""

    @staticmethod
    def _now() -> Now:
        return Now(clock.wall(), clock.monotonic_s())


def with_room_left(descriptor: int) -> int:
    """Of all descriptors half are for others than the holders of leases: who asks must still be answered. Raises
    OSError, as if there were none, and closes it."""
    if descriptor < resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2:
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
