"""Runs items of a command, so many at once, and measures their throughput. Decides nothing about it, and leaves no
child behind: however it is left, whatever it started is ended first.

Items are children of this process and not of the keeper: they belong to whoever measures, and end with them.
"""

import os
import selectors
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, Self

from msgspec import Struct

from tidegate import clock
from tidegate.analysis.scaling import Sample

STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MEASURE_S: Final = 1.0  # shorter ones are ruled by single pauses of the machine
WAVES_MIN: Final = 2  # each worker does two items at least, so that one begins while others are at work
ITEMS_MAX: Final = 100_000  # of one measurement: a second of a command that does nothing has a thousand
TAIL_BYTES: Final = 4096  # of what an item says on stderr: the last lines tell why it failed
PIECE_BYTES: Final = 65536
REAP_S: Final = 5.0  # KILL is certain but for processes in the kernel's hands (a dead network disk): those are left


class Command(Struct, frozen=True, kw_only=True):
    """What an item is. `values`: a folder for a TIDEGATE_OUTPUT of each item, where it is to have one."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str | None = None  # None: where the measuring process is
    umask: int = -1  # −1: as it is
    nice: int | None = None
    timeout_s: float
    kill_grace_s: float
    success_exit_codes: tuple[int, ...] = (0,)
    leaves_children: bool = False  # what an item leaves behind when it ends goes on
    values: Path | None = None


class ItemFailedError(Exception):
    """An item did not succeed, and nothing can be said of throughput. The message is a sentence; `tail`: its stderr."""

    def __init__(self, sentence: str, tail: str = "") -> None:
        super().__init__(sentence)
        self.tail = tail


class StoppedError(Exception):
    """A signal asked to end."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


class Span(Struct, frozen=True):
    """When an item was at work, monotonic."""

    begun_s: float
    ended_s: float


class _Item:
    """One process, and what it says on stderr."""

    def __init__(self, process: subprocess.Popen[bytes], begun_s: float, deadline_s: float) -> None:
        self.process = process
        self.begun_s = begun_s
        self.deadline_s = deadline_s
        self.pidfd = os.pidfd_open(process.pid)
        self.tail: deque[bytes] = deque(maxlen=2)

    def read(self) -> bool:
        """Takes what it said; whether there may be more."""
        assert self.process.stderr is not None
        try:
            data = os.read(self.process.stderr.fileno(), PIECE_BYTES)
        except BlockingIOError:
            return True
        if data:
            self.tail.append(data[-TAIL_BYTES:])
        return bool(data)

    def said(self) -> str:
        """The end of it."""
        return b"".join(self.tail)[-TAIL_BYTES:].decode("utf-8", "backslashreplace").strip()


class Crew:
    """Workers of a command. A context: inside it, SIGINT, SIGTERM and SIGHUP raise StoppedError where it waits, and
    leaving it ends all processes. Of the main thread only, as signal handlers are."""

    def __init__(self, command: Command, items: int | None = None) -> None:
        """`items`: of each measurement; None: as many as a second and two a worker need."""
        self._command = command
        self._items_wanted = items
        self._working: dict[int, _Item] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._handlers: dict[int, object] = {}
        self._wakeup_before = -1
        self._stop: int | None = None
        self._count = 0

    def __enter__(self) -> Self:
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._wakeup_before = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in STOPS:
            self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._end_all()
        for number, before in self._handlers.items():
            signal.signal(number, before)  # type: ignore[arg-type]  # what signal.signal gave, it takes
        signal.set_wakeup_fd(self._wakeup_before)
        self._selector.close()
        self._woken.close()
        self._waker.close()

    def rehearse(self) -> float:
        """One item that does not count: it warms caches. Seconds that it took. Raises as `measure` does."""
        spans = list(self._spans(1, 1))
        return spans[0].ended_s - spans[0].begun_s

    def measure(self, width: int, repeat: int) -> Sample:
        """So many items at once. Raises ItemFailedError, StoppedError; some items may still be at work then."""
        spans = list(self._spans(width, self._items_wanted))
        item_s = tuple(span.ended_s - span.begun_s for span in spans)
        return Sample(width, repeat, throughput_per_s(spans, width), item_s)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stop = number

    def _spans(self, width: int, items: int | None) -> Iterator[Span]:
        begun_s = clock.monotonic_s()
        started = 0
        while True:
            while len(self._working) < width and self._wants_more(started, width, items, begun_s):
                self._start()
                started += 1
            if not self._working:
                return
            yield from self._ended()

    def _wants_more(self, started: int, width: int, items: int | None, begun_s: float) -> bool:
        if items is not None:
            return started < items
        if started < WAVES_MIN * width:
            return True
        return started < ITEMS_MAX and clock.monotonic_s() - begun_s < MEASURE_S

    def _start(self) -> None:
        command, begun_s = self._command, clock.monotonic_s()
        self._count += 1
        env = command.env
        if command.values is not None:
            number = str(self._count)
            env = env | {"TIDEGATE_RUN_ID": f"scale-{number}", "TIDEGATE_OUTPUT": str(command.values / number)}
        try:
            process = subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd=command.cwd,
                env=env,
                umask=command.umask,
                start_new_session=True,  # a group of its own, to be ended as a whole
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            where = command.cwd if isinstance(error, OSError) and error.filename == command.cwd else command.argv[0]
            raise ItemFailedError(f"{where} cannot be started: {why}") from error
        self._admit(process, begun_s)

    def _admit(self, process: subprocess.Popen[bytes], begun_s: float) -> None:
        """From here on it is ended with the others."""
        assert process.stderr is not None
        try:
            item = _Item(process, begun_s, begun_s + self._command.timeout_s)
        except OSError as error:  # no descriptor left
            process.kill()
            process.wait()
            raise ItemFailedError(f"an item cannot be watched: {error.strerror}; raise ulimit -n") from error
        self._working[process.pid] = item
        os.set_blocking(process.stderr.fileno(), False)
        self._selector.register(item.pidfd, selectors.EVENT_READ, item)
        self._selector.register(process.stderr, selectors.EVENT_READ, item)
        if self._command.nice is not None:
            try:
                os.setpriority(os.PRIO_PGRP, process.pid, self._command.nice)
            except (PermissionError, ProcessLookupError):
                pass  # only root may be less nice than others; and one that ended needs nothing

    def _ended(self) -> Iterator[Span]:
        """Waits until something happens; the items that ended by it."""
        deadline_s = min(item.deadline_s for item in self._working.values())
        ready = self._selector.select(max(0.0, deadline_s - clock.monotonic_s()))
        now_s = clock.monotonic_s()
        if self._stop is not None:
            raise StoppedError(self._stop)
        for key, _ in ready:
            item: _Item | None = key.data
            if item is None or item.process.pid not in self._working:
                continue
            if key.fd != item.pidfd:
                if not item.read():
                    self._selector.unregister(key.fileobj)
                continue
            exit_code = self._reap(item, self._command.leaves_children)
            if exit_code not in self._command.success_exit_codes:
                raise ItemFailedError(f"an item {_ending(exit_code)}", item.said())
            yield Span(item.begun_s, now_s)
        for item in self._working.values():
            if now_s >= item.deadline_s:
                allowed = f"{self._command.timeout_s:g} s"
                raise ItemFailedError(f"an item did not end within its timeout of {allowed}", item.said())

    def _reap(self, item: _Item, spares_others: bool = False) -> int:
        """Takes the exit code. Its group first: as long as the leader is not reaped, nobody else has that number."""
        if not spares_others:
            _signal_group(item, signal.SIGKILL)
        item.read()
        del self._working[item.process.pid]
        self._selector.unregister(item.pidfd)
        assert item.process.stderr is not None
        if item.process.stderr in self._selector.get_map():
            self._selector.unregister(item.process.stderr)
        os.close(item.pidfd)
        item.process.stderr.close()
        return item.process.wait()

    def _end_all(self) -> None:
        """TERM first, KILL after the grace or at another signal."""
        self._stop = None
        for item in self._working.values():
            _signal_group(item, signal.SIGTERM)
        self._reap_until(clock.monotonic_s() + self._command.kill_grace_s)
        for item in self._working.values():
            _signal_group(item, signal.SIGKILL)
        self._stop = None
        self._reap_until(clock.monotonic_s() + REAP_S)

    def _reap_until(self, deadline_s: float) -> None:
        while self._working and self._stop is None:
            left_s = deadline_s - clock.monotonic_s()
            if left_s <= 0:
                return
            for key, _ in self._selector.select(left_s):
                item: _Item | None = key.data
                if item is None:
                    self._drain_wakeups()
                elif item.process.pid in self._working:
                    if key.fd == item.pidfd:
                        self._reap(item)
                    elif not item.read():
                        self._selector.unregister(key.fileobj)

    def _drain_wakeups(self) -> None:
        try:
            self._woken.recv(PIECE_BYTES)
        except BlockingIOError:
            pass


def throughput_per_s(spans: list[Span], width: int) -> float:
    """Items a second while all workers had one, each item counted by the share of it that lies in that time.

    Counting whole items over the whole time would blame the width for the end, where the last items run with
    fewer and fewer beside them. Where the items end before so many are begun, that whole time is all there is.
    """
    begun_s = sorted(span.begun_s for span in spans)
    full_s = begun_s[min(width, len(spans)) - 1]
    drained_s = sorted(span.ended_s for span in spans)[max(0, len(spans) - width)]
    if drained_s <= full_s:
        return len(spans) / (max(span.ended_s for span in spans) - begun_s[0])
    done = sum(
        max(0.0, min(span.ended_s, drained_s) - max(span.begun_s, full_s)) / (span.ended_s - span.begun_s)
        for span in spans
    )
    return done / (drained_s - full_s)


def _signal_group(item: _Item, number: signal.Signals) -> None:
    try:
        os.killpg(item.process.pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # nobody left in it, or only what became another user's


def _ending(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exited with {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"
