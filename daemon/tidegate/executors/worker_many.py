"""executor = "thread" and "async": many runs at once, each with its own output. Part of the worker, in the user's
interpreter: standard library only, nothing that Python 3.8 does not have."""

from __future__ import annotations

import inspect
import io
import os
import signal
import sys
import threading

from tidegate.executors.worker_call import (
    Caught,
    Ended,
    Link,
    Run,
    Sources,
    current,
    judge_call,
    judged,
    load,
    message_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio  # takes 0.1 s: only where there are coroutines


class Routed(io.TextIOBase):
    """sys.stdout and sys.stderr of a host: what is printed goes to the file of the run that prints."""

    def __init__(self, otherwise: io.TextIOWrapper) -> None:
        self._otherwise = otherwise

    def _stream(self) -> io.TextIOWrapper:
        run = current.get()
        return run.stream if run is not None and run.stream is not None else self._otherwise

    def write(self, text: str) -> int:
        return self._stream().write(text)

    def flush(self) -> None:
        self._stream().flush()

    def fileno(self) -> int:
        return self._stream().fileno()  # subprocess.run(..., stdout=sys.stdout)

    def writable(self) -> bool:
        return True

    @property
    def buffer(self) -> object:
        return self._stream().buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]  # of the standard streams it is readable, and never set
        return "utf-8"


class Host:
    """What threads and coroutines have in common: many runs, each with its own output."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._sources = Sources()
        self._runs: dict[object, Run] = {}  # by number
        self._changed = threading.Condition()
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, 1)  # until here they were those of the first run
        os.dup2(null, 2)
        sys.stdout = Routed(_text(null))
        sys.stderr = Routed(_text(os.dup(null)))

    def hear(self, message: dict[str, object], fd: int) -> Run | None:
        """The run to begin, if that is what the message asks for."""
        if "stop" in message:
            run = self._runs.get(message["stop"])
            if run is not None:
                run.context.stopping = True
                self.stop(run)
            return None
        if "drop" in message:
            self._leave(self._runs.get(message["drop"]))
            return None
        if self._sources.changed():
            os.close(fd)
            self._link.told({"stale": message["run"]})
            return None
        run = Run(message, fd)
        run.stream = _text(fd)
        with self._changed:
            self._runs[run.number] = run
        return run

    def stop(self, run: Run) -> None:
        """Tell it to end; a thread has to look at its context for that."""

    def end(self, run: Run, ended: Ended) -> None:
        self._sources.note()
        if self._leave(run):
            self._link.told(message_of(run, ended))

    def _leave(self, run: Run | None) -> bool:
        """It has no output any more. Whether it had not been given up before."""
        with self._changed:
            if run is None or self._runs.pop(run.number, None) is None:
                return False
            stream, run.stream = run.stream, None
            self._changed.notify_all()
        caught = Caught()
        with caught:  # a full disk
            assert stream is not None
            stream.close()
        return True


class Threads(Host):
    """executor = "thread"."""

    def serve(self) -> None:
        while True:
            received = self._link.receive()
            if received is None:
                break
            run = self.hear(*received)
            if run is not None:
                self._link.told({"began": run.number})
                threading.Thread(target=self._one, args=(run,), name=f"tidegate {run.context.job}", daemon=True).start()
        with self._changed:  # the keeper is gone: what runs may end as it would
            while self._runs:
                self._changed.wait()

    def _one(self, run: Run) -> None:
        current.set(run)
        value: object = None
        caught = Caught()
        with caught:
            function = load(run.target)
            judge_call(function, run, False)
            assert isinstance(run.args, list) and isinstance(run.kwargs, dict)
            value = function(*run.args, **run.kwargs)
        self.end(run, judged(caught, value))


class Coroutines(Host):
    """executor = "async": one loop, in the main thread."""

    def run(self) -> None:
        import asyncio

        self._asyncio = asyncio
        asyncio.run(self.serve())

    async def serve(self) -> None:
        asyncio = self._asyncio
        self._loop = asyncio.get_running_loop()
        over = self._loop.create_future()
        self._loop.add_reader(self._link.fd, self._on_readable, over)
        await over
        while self._runs:  # the keeper is gone: what runs may end as it would
            await asyncio.wait([run.task for run in self._runs.values() if run.task is not None])

    def _on_readable(self, over: asyncio.Future[None]) -> None:
        """Hear all that is here before anything begins: a run may have been given up while the loop stood still."""
        new: list[Run] = []
        while self._link.more():
            received = self._link.receive()
            if received is None:
                self._loop.remove_reader(self._link.fd)
                over.set_result(None)
                break
            run = self.hear(*received)
            if run is not None:
                new.append(run)
        for run in new:
            if run.number in self._runs and not run.context.stopping:
                self._link.told({"began": run.number})
                run.task = self._loop.create_task(self._one(run))
            else:
                self.end(run, Ended(-signal.SIGTERM))

    def stop(self, run: Run) -> None:
        if run.task is not None:
            run.task.cancel()

    async def _one(self, run: Run) -> None:
        current.set(run)  # a task has a context of its own
        value: object = None
        caught = Caught()
        with caught:
            function = load(run.target)
            judge_call(function, run, True)
            assert isinstance(run.args, list) and isinstance(run.kwargs, dict)
            made = function(*run.args, **run.kwargs)
            assert inspect.isawaitable(made)
            value = await made
        if run.context.stopping and isinstance(caught.error, self._asyncio.CancelledError):
            self.end(run, Ended(-signal.SIGTERM))
        else:
            self.end(run, judged(caught, value))


def _text(fd: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(io.FileIO(fd, "w")), "utf-8", "backslashreplace", line_buffering=True)
