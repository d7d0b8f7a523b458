"""Warm workers of python jobs: which run goes to which process, and when a process has done enough. Part of the
keeper's process from the first python job on: standard library only, never blocking.

`process`: a worker has one run at a time. It is the leader of that attempt's tree, and is killed alone; between two
runs a resident stands for it. `thread`, `async`: a host has many runs; for its tree its resident stands, never a run.
"""

import math
import os
import select
import time
from collections.abc import Callable

from tidegate.executors.keeper_attempt import Attempt, boot_ticks
from tidegate.executors.keeper_cgroup import oom_kills
from tidegate.executors.keeper_ending import Ending
from tidegate.executors.keeper_output import OutputFile, Spares
from tidegate.executors.keeper_refusal import SpawnRefused
from tidegate.executors.keeper_sampling import Sampling
from tidegate.executors.keeper_spawn import open_file, open_other
from tidegate.executors.keeper_timers import Timers
from tidegate.executors.keeper_tree import Trees, start_ticks, young_memory_bytes
from tidegate.executors.keeper_worker import (
    ERROR_CHARS_MAX,
    RESULT_CHARS_MAX,
    Call,
    Worker,
    beget,
    number_of,
    read_source,
    renew_values,
    text_of,
)

IDLE_S = 30.0  # then a worker has waited long enough for another run
IDLE_S_MAX = 480.0  # what came back right after that is waited for twice as long the next time, up to this
IDLE_WORKERS_MAX = 32  # 10 MB each, and more with what they import
KEYS_MAX = 256  # surroundings whose waiting time is remembered
BEGIN_S_MAX = 60.0  # from its start to the first word of an interpreter; a cold disk needs a few seconds


class Calls:
    """What the loop does about what happens here."""

    def __init__(
        self,
        begun: Callable[[Attempt, str], None],
        ended: Callable[[Attempt, int], None],
        not_begun: Callable[[Attempt, str], None],
    ) -> None:
        self.begun, self.ended, self.not_begun = begun, ended, not_begun


class Workers:
    """All of them, by pid."""

    def __init__(
        self,
        trees: Trees,
        timers: Timers,
        sampling: Sampling,
        ending: Ending,
        spares: Spares,
        journal: str,
        epoll: select.epoll,
        calls: Calls,
    ) -> None:
        self._trees, self._after, self._sampling, self._ending = trees, timers.after, sampling, ending
        self._spares, self._journal, self._epoll, self._loop = spares, journal, epoll, calls
        self._source = read_source()
        self._by_pid: dict[int, Worker] = {}
        self._by_fd: dict[int, Worker] = {}
        self._idle: dict[str, list[Worker]] = {}  # by key; the last was used last
        self._idle_s: dict[str, float] = {}  # where a worker is waited for longer
        self._retired_mono_s: dict[str, float] = {}
        self._numbers = 0
        self._own_nice = 0

    # --- a run finds its worker ----------------------------------------------------------------------------------

    def start(self, attempt: Attempt, message: dict[str, object], own_nice: int) -> None:
        """Hand the attempt to a worker; that it has begun, or could not, is told later. Raises SpawnRefused."""
        self._own_nice = own_nice
        call = Call(message)
        fd, output = self._open(call)
        try:
            self._place(attempt, call, fd)
        except BaseException:
            attempt.forget_values()
            if output is not None:
                output.end()
            raise
        finally:
            os.close(fd)
        self._sampling.begin(attempt, output)

    def _open(self, call: Call) -> tuple[int, OutputFile | None]:
        if call.message["output"] == "file":
            output = open_file(call.message, self._spares, call.birth.uid if call.birth is not None else None)
            fd, output.fd = output.fd, -1
            return fd, output
        fd = open_other(call.message, self._journal)
        return (fd if fd >= 0 else os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)), None

    def _place(self, attempt: Attempt, call: Call, fd: int) -> None:
        self._numbers += 1
        number = self._numbers
        worker = self._host(call) if call.shared else self._take(call.key)
        if worker is not None:
            renew_values(call)
            if worker.hand_over(number, call, fd):
                self._settle(worker, attempt, call, number)
                return
            worker.closed = True  # it does not listen
        worker = self._beget(call, fd)
        try:
            if not worker.hand_over(number, call, fd) and not worker.gone:
                raise SpawnRefused("its worker did not take the run; try again")
        except SpawnRefused:
            worker.kill()
            raise
        self._settle(worker, attempt, call, number)

    def _host(self, call: Call) -> Worker | None:
        hosts = [one for one in self._by_pid.values() if one.key == call.key and not one.closed]
        return next((one for one in hosts if len(one.runs) < call.host_runs and one.served < call.worker_runs), None)

    def _take(self, key: str) -> Worker | None:
        workers = self._idle.get(key, [])
        while workers:
            worker = workers.pop()
            if not workers:
                del self._idle[key]
            if not worker.closed:
                return worker
        return None

    def _beget(self, call: Call, fd: int) -> Worker:
        retired = self._retired_mono_s.pop(call.key, -math.inf)
        if time.monotonic() - retired < IDLE_S and len(self._idle_s) < KEYS_MAX:  # a little longer, and it was there
            self._idle_s[call.key] = min(self._idle_s.get(call.key, IDLE_S) * 2, IDLE_S_MAX)
        resident = Attempt({"run_id": "", "attempt": 0}, b"")
        resident.resident = True
        if call.birth is not None:
            call.birth.fall_back(self._trees.limit(resident, call.birth.limits))
            call.birth.cgroup = resident.cgroup
        begun_ticks = boot_ticks()
        try:
            pid, connection = beget(call, self._source, self._own_nice, fd)
        except BaseException:
            self._trees.forget(resident)
            raise
        resident.begin(pid, start_ticks(pid, begun_ticks), time.monotonic())
        worker = Worker(call, pid, connection, resident, self._given_up)
        self._by_pid[worker.pid] = self._by_fd[worker.fd] = worker
        self._trees.by_leader[worker.pid] = resident
        self._epoll.register(worker.fd, select.EPOLLIN)
        return worker

    def _settle(self, worker: Worker, attempt: Attempt, call: Call, number: int) -> None:
        """The attempt is in there now."""
        resident = worker.resident
        worker.runs[number], worker.calls[number] = attempt, call
        worker.served += 1
        attempt.begin(worker.pid, resident.pid_start, time.monotonic())
        if worker.shared:
            attempt.host = worker
            attempt.sample_due_mono_s = math.inf  # its memory is not to be told from that of the others
        else:
            self._trees.by_leader[worker.pid] = attempt
            worker.grown_bytes_max = call.grown_bytes_max
            # What earlier runs left in there is not this one's. It is no more than is there, whatever was said of it.
            attempt.carried_bytes = min(worker.grown_bytes, young_memory_bytes(worker.pid) or 0)
            attempt.cgroup, attempt.contained, resident.cgroup = resident.cgroup, resident.contained, None
            attempt.oom_kills = oom_kills(attempt.cgroup) if attempt.cgroup is not None else 0
            attempt.cpu_s = -worker.cpu_s  # the process's own account begins with its birth
            attempt.read_blocks, attempt.written_blocks = -worker.read_blocks, -worker.written_blocks
        self._after(BEGIN_S_MAX, lambda _: self._still_waits(worker, number))

    def _still_waits(self, worker: Worker, number: int) -> None:
        if number in worker.calls and len(worker.runs) == 1:
            worker.kill()

    # --- what workers say ----------------------------------------------------------------------------------------

    def hear(self, fd: int) -> None:
        """Something came through this descriptor."""
        worker = self._by_fd.get(fd)
        if worker is not None:
            self._hear(worker)

    def _hear(self, worker: Worker) -> None:
        while True:
            try:
                message = worker.heard()
            except (ValueError, RecursionError):
                worker.kill()  # user code speaks for it
                return
            except EOFError:
                worker.closed = True
                self._deafen(worker)  # its end is heard of when it is reaped
                return
            if message is None:
                return
            self._understand(worker, message)

    def _understand(self, worker: Worker, message: dict[str, object]) -> None:
        number = next((message[word] for word in ("began", "done", "stale") if word in message), None)
        attempt = worker.runs.get(number) if isinstance(number, int) else None
        if attempt is None or not isinstance(number, int):
            return
        if "began" in message:
            if worker.calls.pop(number, None) is not None:
                attempt.started_mono_s = time.monotonic()  # a new interpreter needs a moment, and that is not its time
                self._loop.begun(attempt, worker.note)
                if not worker.shared:
                    attempt.learn_memory(young_memory_bytes(worker.pid))
        elif "stale" in message:
            self._elsewhere(worker, attempt, number)
        elif number not in worker.calls:
            self._done(worker, attempt, number, message)

    def _elsewhere(self, worker: Worker, attempt: Attempt, number: int) -> None:
        """The code on disk is another than the one in there: the run begins in a new process."""
        call = worker.calls.pop(number)
        self._leave(worker, attempt, number)
        worker.closed = True
        output = self._sampling.end(attempt)
        self._sampling.forget(attempt)
        attempt.host = None
        try:
            if output is not None and output.written_bytes:
                raise SpawnRefused("its worker wrote before it began; a bug, please report it")
            self.start(attempt, call.message, self._own_nice)
        except SpawnRefused as refusal:
            attempt.exit = "{}"
            self._loop.not_begun(attempt, str(refusal))
        self._let_go(worker)

    def _done(self, worker: Worker, attempt: Attempt, number: int, message: dict[str, object]) -> None:
        code = message.get("code")
        if not isinstance(code, int) or not -64 <= code <= 255:
            worker.kill()
            return
        attempt.result = text_of(message, "result", RESULT_CHARS_MAX)
        attempt.error = text_of(message, "error", ERROR_CHARS_MAX) or ""
        if worker.shared:
            del worker.runs[number]
            self._loop.ended(attempt, code)
            self._let_go(worker)
            return
        if message.get("reuse") is not True:
            worker.returned.add(number)  # it ends as a program does, and with it the attempt
            return
        before = worker.cpu_s, worker.read_blocks, worker.written_blocks
        worker.grown_bytes = int(number_of(message, "grown_bytes"))
        worker.cpu_s = number_of(message, "cpu_s")
        worker.read_blocks = int(number_of(message, "read_blocks"))
        worker.written_blocks = int(number_of(message, "written_blocks"))
        attempt.cpu_s = max(worker.cpu_s - before[0], 0.0)
        attempt.read_blocks = max(worker.read_blocks - before[1], 0)
        attempt.written_blocks = max(worker.written_blocks - before[2], 0)
        attempt.learn_memory(young_memory_bytes(worker.pid))
        self._loop.ended(attempt, code)
        self._leave(worker, attempt, number)
        spent = worker.served >= worker.worker_runs or worker.grown_bytes > worker.grown_bytes_max
        if spent or attempt.termed_mono_s is not None:
            worker.retire()
            self._after(BEGIN_S_MAX, lambda _: self._linger(worker))
        else:
            self._rest(worker)

    def _leave(self, worker: Worker, attempt: Attempt, number: int) -> None:
        """The attempt is no longer in there; its control group stays with the process."""
        worker.runs.pop(number, None)
        if worker.shared:
            return
        resident = worker.resident
        resident.cgroup, resident.contained, attempt.cgroup = attempt.cgroup, attempt.contained, None
        if self._trees.by_leader.get(worker.pid) is attempt:
            self._trees.by_leader[worker.pid] = resident

    # --- nothing to do -------------------------------------------------------------------------------------------

    def _rest(self, worker: Worker) -> None:
        worker.since_mono_s = time.monotonic()
        self._idle.setdefault(worker.key, []).append(worker)
        self._after(self._idle_s.get(worker.key, IDLE_S), lambda _: self._maybe_retire(worker))
        idle = self._resting()
        if len(idle) > IDLE_WORKERS_MAX:
            self._dismiss(min(idle, key=lambda one: one.since_mono_s))

    def _resting(self) -> list[Worker]:
        return [worker for workers in self._idle.values() for worker in workers]

    def _maybe_retire(self, worker: Worker) -> None:
        rested = not worker.runs and not worker.closed
        if rested and time.monotonic() >= worker.since_mono_s + self._idle_s.get(worker.key, IDLE_S) - 0.01:
            if len(self._retired_mono_s) >= KEYS_MAX:
                self._retired_mono_s.clear()
            self._retired_mono_s[worker.key] = time.monotonic()
            self._dismiss(worker)

    def retire_idle(self, keep: object = 0) -> None:
        """Who does nothing ends, the largest first, until `keep` are left, those at work among them."""
        idle = [one for one in self._by_pid.values() if one.shared and not one.runs and not one.closed]
        idle += self._resting()
        busy = sum(bool(one.runs) for one in self._by_pid.values())
        beyond = len(idle) - max(0, keep - busy) if isinstance(keep, int) else len(idle)
        if beyond > 0:
            for worker in sorted(idle, key=lambda one: -(young_memory_bytes(one.pid) or 0))[:beyond]:
                self._dismiss(worker)

    def _dismiss(self, worker: Worker) -> None:
        workers = self._idle.get(worker.key, [])
        if worker in workers:
            workers.remove(worker)
            if not workers:
                del self._idle[worker.key]
        worker.retire()
        self._after(BEGIN_S_MAX, lambda _: self._linger(worker))

    def _linger(self, worker: Worker) -> None:
        if worker.pid in self._by_pid and not worker.runs:
            self._ending.kill(worker.resident)

    def _let_go(self, worker: Worker) -> None:
        """A host lost a run."""
        if worker.runs:
            return
        if not worker.shared or (not worker.closed and worker.served < worker.worker_runs):
            worker.since_mono_s = time.monotonic()
            self._after(self._idle_s.get(worker.key, IDLE_S), lambda _: self._maybe_retire(worker))
            return
        worker.retire()
        self._ending.kill(worker.resident)  # threads that were given up go on in there

    def _given_up(self, worker: Worker, attempt: Attempt) -> None:
        number = next((number for number, one in worker.runs.items() if one is attempt), None)
        if number is None:
            return
        del worker.runs[number]
        if worker.calls.pop(number, None) is not None:
            self._failed(attempt, "it was ended before it began")
        else:
            self._loop.ended(attempt, -9)
        self._let_go(worker)

    # --- the end of a process ------------------------------------------------------------------------------------

    def ended(self, pid: int, code: int) -> bool:
        """A child was reaped. False where it is no worker."""
        worker = self._by_pid.get(pid)
        if worker is None:
            return False
        self._hear(worker)  # what it said last
        del self._by_pid[pid]
        self._deafen(worker)
        worker.connection.close()
        worker.closed = True
        workers = self._idle.get(worker.key, [])
        if worker in workers:
            workers.remove(worker)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        for number, attempt in list(worker.runs.items()):
            if worker.calls.pop(number, None) is not None:
                ask = "is interpreter a Python, 3.8 or later? tidegate logs shows what it said"
                self._failed(attempt, f"its interpreter ended ({how}) before it took the run; {ask}")
                continue
            if worker.shared:
                others = f" with {len(worker.runs) - 1} more runs" if len(worker.runs) > 1 else ""
                attempt.error = f"the process that it shared{others} ended ({how})"
            elif code == 0 and number not in worker.returned:
                attempt.error = "its process ended with exit code 0 before the function came back"
            self._loop.ended(attempt, 1 if code == 0 and number not in worker.returned else code)
        worker.runs.clear()
        self._bury(worker)
        return True

    def _bury(self, worker: Worker) -> None:
        """Its resident goes too; for what is left of a tree the attempt or the resident stands."""
        resident = worker.resident
        resident.exit = "{}"
        if self._trees.by_leader.get(worker.pid) is resident:
            self._ending.leader_ended(resident)
        elif resident.cgroup is not None:
            self._trees.forget(resident)

    def _failed(self, attempt: Attempt, reason: str) -> None:
        self._sampling.end(attempt)
        attempt.exit = "{}"
        self._loop.not_begun(attempt, reason)
        if attempt.host is None:
            self._ending.leader_ended(attempt)
        else:
            self._sampling.forget(attempt)

    def _deafen(self, worker: Worker) -> None:
        if self._by_fd.pop(worker.fd, None) is not None:
            self._epoll.unregister(worker.fd)

    def close(self) -> None:
        """The keeper ends: nobody would ever speak to them again."""
        for worker in self._by_pid.values():
            self._trees.kill(worker.resident)  # and what its threads have started
            worker.kill()
        for pid in self._by_pid:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass
