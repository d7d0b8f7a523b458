"""A worker whose tasks run in a process of its own, kept warm between them. The thread here hands over one call, waits
for the answer, the end of the process or the end of the time, and takes a new process where the old one is lost. So
what kills a process fails the one task that was in it, and nothing else."""

import os
import pickle
import select
import signal
import subprocess
import threading
from concurrent.futures import BrokenExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, Final

from tidegate import clock
from tidegate.pool import child
from tidegate.pool.core import Core
from tidegate.pool.task import Task, TaskTimedOut
from tidegate.pool.worker import Hiring, Unsent, Worker

START_S: Final = 60.0  # a process that has not said that it is ready by then never will
END_S: Final = 5.0  # to end by itself when its pipe is closed; then it is killed
HELD_LOOK_S: Final = 0.25  # between two looks whether a task that is late goes on
GROWTH_BYTES_MAX: Final = 256 << 20  # above what it had when it began: what a task left behind is given back

_STARTING: Final = threading.Lock()  # a pipe that is open in two children at once tells nobody that one has ended


class WorkerLost(BrokenProcessPool):
    """The process ended in the middle of the task: killed, crashed, or ended by the task itself. The pool goes on."""


class RemoteError(Exception):
    """Stands for an error, or a result, that cannot be brought over from the process; with the traceback as text."""


class Process:
    """One process and the pipe to it. Descriptors are closed by `end` alone."""

    def __init__(self, context: BaseContext, hiring: Hiring, family: "set[Process]") -> None:
        with _STARTING:
            self.pipe, theirs = context.Pipe()
            strangers = [self.pipe, *(each.pipe for each in list(family))]
            inherited = strangers if context.get_start_method() == "fork" else []
            arguments = (theirs, hiring.initializer, hiring.initargs, inherited)
            self.process: BaseProcess = context.Process(target=child.serve, args=arguments)  # type: ignore[attr-defined]  # every real context has it
            try:
                self.process.start()
            finally:
                theirs.close()
            family.add(self)
        self._family = family
        self.pid = self.process.pid or -1
        self.tasks = 0
        self.idle_bytes = 0  # resident before its first task
        self._pidfd = self._watch()
        self._poll = select.poll()
        self._poll.register(self.pipe.fileno(), select.POLLIN)
        self._poll.register(self._pidfd if self._pidfd >= 0 else self.process.sentinel, select.POLLIN)

    def _watch(self) -> int:
        """A descriptor that tells the end of the process even while others hold its pipes. −1 where there is none."""
        try:
            return os.pidfd_open(self.pid)
        except (OSError, AttributeError):
            return -1

    def wait(self, until_s: float | None) -> child.Answer | None:
        """Its next answer; None when there is none in time. Raises WorkerLost when there will be none."""
        left_ms = None if until_s is None else max(0, int(1000 * (until_s - clock.monotonic_s())) + 1)
        ready = [fd for fd, _ in self._poll.poll(left_ms)]
        if not ready:
            return None
        try:
            if self.pipe.fileno() in ready or self.pipe.poll(0):
                return pickle.loads(self.pipe.recv_bytes())  # type: ignore[no-any-return]  # made by child.serve
        except (EOFError, OSError):
            pass
        raise WorkerLost(self._last_words())

    def _last_words(self) -> str:
        self.process.join(END_S)
        code = self.process.exitcode
        how = "ended" if code is None else f"ended with status {code}" if code >= 0 else f"was killed by signal {-code}"
        return f"the worker process {self.pid} {how} in the middle of the task"

    def alive(self) -> bool:
        """Whether it waits for a call. One that ended between two tasks, whoever killed it, is no task's fault."""
        return not self._poll.poll(0)

    def grown_bytes(self) -> int:
        """What is resident now above what it had before its first task."""
        return max(0, (child.present_bytes(self.pid) or 0) - self.idle_bytes)

    def kill(self) -> None:
        """At once, whatever it does."""
        self.send(signal.SIGKILL)

    def guarded(self) -> "subprocess.Popen[bytes] | None":
        """Who lets it go on when this program is killed while it is held still: whoever is stopped cannot look after
        itself, and the fork server lives as long as its children. None where there can be none."""
        command = ["/bin/sh", "-c", f"read -r x; kill -CONT {self.pid}"]
        try:
            return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        except OSError:
            return None

    def send(self, number: signal.Signals) -> None:
        """A signal to the process, if it has not ended."""
        try:
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, number)
            elif self.process.exitcode is None:  # until then its pid is nobody else's
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def end(self) -> None:
        """Let it end, or make it, and forget it."""
        self.pipe.close()
        self.process.join(END_S)
        if self.process.is_alive():
            self.kill()
            self.process.join(END_S)
        with _STARTING:
            self._family.discard(self)
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self.process.close()


class Shepherd(Worker):
    """Hands calls to a process of its own."""

    broken_type: type[BrokenExecutor] = BrokenProcessPool
    kills = True

    def __init__(
        self,
        core: Core,
        hiring: Hiring,
        number: int,
        context: BaseContext,
        family: set[Process],
        tasks_max: int | None,
    ) -> None:
        super().__init__(core, hiring, None, number)  # no thread is ever left behind
        self._context = context
        self._family = family
        self._tasks_max = tasks_max
        self.process: Process | None = None
        self._stop: BaseException | None = None  # why its process was killed from outside
        self._asks = False  # its process has a call and was not heard of since
        self._held_s: float | None = None  # since when it is held still
        self._guard: subprocess.Popen[bytes] | None = None  # … and who lets it go on in our place

    def begin(self) -> bool:
        return True  # its process begins with the first task, and its initializer there

    def end(self) -> None:
        if self.process is not None:
            process, self.process = self.process, None
            process.end()

    def call(self, task: Task[Any]) -> Any:
        try:
            call = bytes(ForkingPickler.dumps((task.fn, task.args, task.kwargs)))
        except Exception as error:
            raise Unsent(error) from error
        if self.process is not None and not self.process.alive():
            self._drop()
        process = self.process or self._new()
        began_s = clock.monotonic_s()
        task.started_s = began_s  # what its process took to begin is not the task's time
        until_s = None if task.timeout_s is None else began_s + task.timeout_s
        task.frozen_s = 0.0
        try:
            answer = self._ask(task, process, call, until_s)
        except WorkerLost as lost:
            self._drop()
            if (stopped := self._stopped()) is not None:
                raise stopped from lost
            raise
        if self._stopped() is not None:  # it was over in the last moment, and its process is being killed
            self._drop()
        if answer is None:
            self._drop()
            raise TaskTimedOut(f"{task.name or 'the task'} ran for longer than {task.timeout_s:g} s and was killed")
        return self._read(task, process, answer)

    def _stopped(self) -> BaseException | None:
        with self.core.lock:
            stop, self._stop = self._stop, None
            return stop

    def stop_task(self, task: Task[Any], error: BaseException) -> bool:
        """Kill the process in which the task runs; the task ends with `error`. False: it does not run here."""
        with self.core.lock:
            process = self.process
            if self.task is not task or process is None or self._stop is not None:
                return False
            self._stop = error
            process.kill()
            return True

    def hold(self, task: Task[Any]) -> bool:
        """Hold its process still. False: the task does not run here, or is held already."""
        process = self.process
        guard = None if process is None or self._held_s is not None else process.guarded()
        if process is None or guard is None:
            return False
        with self.core.lock:
            able = self.task is task and self.process is process and self._asks and self._stop is None
            if able and self._held_s is None:
                process.send(signal.SIGSTOP)
                self._held_s, self._guard = clock.monotonic_s(), guard
                return True
        _dismiss(guard)
        return False

    def let_go(self, task: Task[Any]) -> None:
        """Let its process go on."""
        with self.core.lock:
            if self.task is task:
                self._go_on(task)

    def _go_on(self, task: Task[Any]) -> None:
        if self._held_s is not None and self.process is not None:
            self.process.send(signal.SIGCONT)
            task.frozen_s += clock.monotonic_s() - self._held_s
        self._held_s = None
        if self._guard is not None:
            guard, self._guard = self._guard, None
            _dismiss(guard)

    def present_bytes(self) -> int:
        """What its process has above what it had before its first task."""
        process = self.process
        return 0 if process is None else process.grown_bytes()

    def _ask(self, task: Task[Any], process: Process, call: bytes, until_s: float | None) -> child.Answer | None:
        with self.core.lock:
            self._asks = True
        try:
            process.pipe.send_bytes(call)
            return self._heard(task, process, until_s)
        except (BrokenPipeError, ConnectionError):
            raise WorkerLost("the worker process ended before it got the task") from None
        finally:
            with self.core.lock:
                self._asks = False
                self._go_on(task)

    def _heard(self, task: Task[Any], process: Process, until_s: float | None) -> child.Answer | None:
        """In time, without that in which it was held still."""
        late_s = until_s
        while (answer := process.wait(late_s)) is None and until_s is not None:
            with self.core.lock:
                now_s = clock.monotonic_s()
                if self._held_s is not None:
                    late_s = now_s + HELD_LOOK_S
                    continue
                late_s = until_s + task.frozen_s
                if late_s <= now_s:
                    break
        return answer

    def _new(self) -> Process:
        process = Process(self._context, self.hiring, self._family)
        self.process = process
        try:
            first = process.wait(clock.monotonic_s() + START_S)
        except WorkerLost:
            self._drop()
            raise WorkerLost("the worker process ended before it was ready; see its stderr") from None
        if first is None:
            self._drop()
            raise WorkerLost(f"the worker process was not ready within {START_S:g} s")
        if first[0] == child.REFUSED:
            self.end()  # by itself: it may still be writing what it has to say of it
            broken = BrokenProcessPool("A process initializer failed, the process pool is not usable anymore")
            self.core.break_all(broken)
            raise broken
        process.idle_bytes = first[5] or 0
        return process

    def _drop(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.end()

    def _read(self, task: Task[Any], process: Process, answer: child.Answer) -> Any:
        kind, told, text, cpu_s, peak_bytes, present_bytes = answer
        task.cpu_s = (task.cpu_s or 0.0) + cpu_s
        if peak_bytes is not None:
            task.memory_peak_bytes = max(0, peak_bytes - process.idle_bytes)
        process.tasks += 1
        grown = (present_bytes or 0) - process.idle_bytes > GROWTH_BYTES_MAX
        if grown or (self._tasks_max is not None and process.tasks >= self._tasks_max):
            self.end()
        if kind == child.ERROR and not told:
            raise RemoteError(text)
        try:
            value = pickle.loads(told)
        except Exception as error:
            raise RemoteError(
                f"what the task {'raised' if text else 'returned'} cannot be read here: {text}"
            ) from error
        if kind == child.ERROR:
            raise value
        return value


def _dismiss(guard: "subprocess.Popen[bytes]") -> None:
    guard.kill()
    guard.wait()
    if guard.stdin is not None:
        guard.stdin.close()
