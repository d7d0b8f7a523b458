"""The supervisor's end of the keeper: asks for work, hears what became of it. It never blocks the loop, keeps no state
of runs, and decides nothing.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from loguru import logger
from msgspec import Struct

from tidegate import clock
from tidegate.executors.command import SpawnRequests, daemon_lang
from tidegate.executors.credentials import StartFailure, own_identity
from tidegate.executors.reach import KeeperError as KeeperError
from tidegate.executors.reach import connect, launch, resolve
from tidegate.executors.result import unfit_result
from tidegate.model.event import Event, Exited, KeeperLost, RunsUsed, RunUse, Started, StartFailed
from tidegate.model.job import Job
from tidegate.model.run import Cause, Run, Usage

PROTOCOL_VERSION: Final = 1
OPEN_S_MAX: Final = 5.0  # a keeper answers within 0.1 s; on a machine that needs 5 something is wrong
AHEAD_S_MAX: Final = 0.1  # fires are given out a little ahead; after a step of the clock back that is no reason to wait
SAME_S: Final = 0.0005  # two readings of two clocks differ by less, unless the wall clock was set
SEND_AT_ONCE: Final = 8  # spawn requests held back before they are sent: the keeper starts while more are written
WARNED_MAX: Final = 10_000  # notes are a job's, so as many jobs
LEFT_BYTES_MAX: Final = 64  # an instance is 16 digits
RECEIVE_BYTES: Final = 256 * 1024
APART: Final = (
    "stop that daemon first, or give this one a runtime directory (RUNTIME_DIRECTORY) and a state directory"
    " (STATE_DIRECTORY) of its own"
)
_LENGTHS: Final = struct.Struct("<II")  # of the message, of its note (keeper_wire.py)


class Held(Struct, frozen=True):
    """An attempt that the keeper held when it was connected to."""

    run_id: str
    attempt: int
    pid: int
    started_mono_s: float
    run: Run | None  # as it was when it was started; None where an unknown version wrote it
    job: Job | None
    exited: Exited | None  # None: it is still running
    timed_out: bool = False  # the keeper ended it at its time-out, as no supervisor was there
    pid_start: int | None = None  # clock ticks from boot
    frozen_s: float = 0.0  # until then, altogether
    frozen: bool = False


class _Note(Struct, frozen=True):
    """What travels with an attempt, so that a later supervisor can take it up again."""

    run: Run
    job: Job


class _Exit(Struct, frozen=True):
    exit_code: int | None
    signal: int | None
    cpu_s: float | None
    memory_peak_bytes: int | None
    output_bytes: int
    output_dropped_bytes: int
    output_note: str = ""
    duration_s: float | None = None
    timed_out: bool = False
    io_read_bytes: int | None = None
    io_write_bytes: int | None = None
    oom: bool = False
    frozen_s: float | None = None
    result: str | None = None
    error: str = ""


class _Message(Struct, frozen=True):
    """Whatever the keeper says; which fields are set follows from the type."""

    type: str
    run_id: str = ""
    attempt: int = 0
    pid: int = 0
    pid_start: int = 0
    reason: str = ""
    transient: bool = False
    note: str = ""
    instance: str = ""
    version: int = 0
    count: int = 0
    containment: str = ""
    started_mono_s: float = 0.0
    frozen_s: float = 0.0
    frozen: bool = False
    uses: tuple[RunUse, ...] = ()
    afresh: bool = False
    exit: _Exit | None = None


_decode_message: Final = msgspec.json.Decoder(_Message).decode
_decode_note: Final = msgspec.json.Decoder(_Note).decode
_encode: Final = msgspec.json.Encoder().encode


class KeeperLink:
    """One connection to one keeper. `held` is what it held at that moment; afterwards everything comes through post."""

    def __init__(self, connection: socket.socket, requests: SpawnRequests, post: Callable[[Event], None]) -> None:
        self.held: tuple[Held, ...] = ()
        self.keeper_pid = 0
        self.instance = ""  # names this keeper and no other, for ever
        self.containment = ""  # how the keeper holds trees together: "cgroup PATH" or "subreaper"
        self._connection = connection
        self._requests = requests
        self._post = post
        self._loop = asyncio.get_running_loop()
        self._in = bytearray()
        self._out = bytearray()
        self._mono_minus_wall_s = 0.0
        self._warned: set[str] = set()
        self._batch = 0  # spawn requests since the last flush
        self._writing = False
        self._written: asyncio.Future[None] = self._loop.create_future()  # everything queued is sent
        self._lost = self._closing = False
        self._hello: asyncio.Future[None] = self._loop.create_future()
        self._held_count = -1
        self._closed: asyncio.Future[None] = self._loop.create_future()

    @classmethod
    async def open(cls, runtime_dir: Path, state_dir: Path, post: Callable[[Event], None]) -> "KeeperLink":
        """Connect to the keeper that serves runtime_dir, or start one. Raises KeeperError."""
        try:
            async with asyncio.timeout(OPEN_S_MAX):
                return await cls._open(runtime_dir, state_dir, post)
        except TimeoutError:
            raise KeeperError(
                f"the keeper in {runtime_dir} did not answer within {OPEN_S_MAX:g} s; see {state_dir / 'keeper.log'}"
            ) from None
        except OSError as error:
            raise KeeperError(f"no keeper in {runtime_dir}: {error}") from None

    @classmethod
    async def _open(cls, runtime_dir: Path, state_dir: Path, post: Callable[[Event], None]) -> "KeeperLink":
        for name in ("output", "values"):
            (state_dir / name).mkdir(mode=0o700, exist_ok=True)
        while True:
            connection = connect(runtime_dir)
            if connection is None:
                await launch(runtime_dir, state_dir)
                connection = connect(runtime_dir)
            if connection is None:
                raise KeeperError(f"the keeper started, but nothing listens on {runtime_dir / 'keeper.sock'}")
            values_of_others = _values_of_others(runtime_dir) if os.geteuid() == 0 else None
            who = partial(own_identity, os.geteuid(), daemon_lang())
            link = cls(connection, SpawnRequests(who(), state_dir / "output", values_of_others, who), post)
            try:
                await link._greet()
            except ConnectionError:
                link._release()  # it was about to leave: the next try starts another
                await asyncio.sleep(0.01)
                continue
            except BaseException:
                link._release()
                raise
            return link

    # --- asking ------------------------------------------------------------------------------------------------

    def start(self, run: Run, job: Job, memory_bytes: int = 0) -> None:
        """Ask for one attempt that needs this much memory. Answered by Started and later Exited, or by StartFailed."""
        request = self._requests.write(run, job)
        if isinstance(request, StartFailure):
            self._post(StartFailed(run.run_id, run.attempt, request.reason))
            return
        request["memory_bytes"] = memory_bytes
        if run.attempt == 1 and run.cause is Cause.SCHEDULE:
            at_mono_s = self._start_mono_s(run.scheduled_at)
            if at_mono_s is not None:
                request["start_mono_s"] = at_mono_s
        try:
            self._queue(request, _encode(_Note(run, job)))
        except UnicodeEncodeError as error:
            reason = f"a path, name or value of the run is not UTF-8 (at character {error.start + 1} of it); rename it"
            self._post(StartFailed(run.run_id, run.attempt, reason))
            return
        self._batch += 1
        if self._batch % SEND_AT_ONCE == 1:  # the first of a batch at once, so that the keeper begins
            self._send()

    def _start_mono_s(self, scheduled_at: datetime) -> float | None:
        """When a fire that is given out ahead is due, on the keeper's clock; None where that is now."""
        now_s, due_s = clock.wall().timestamp(), scheduled_at.timestamp()
        if not 0 < due_s - now_s < AHEAD_S_MAX:
            return None
        offset_s = clock.monotonic_s() - now_s
        if abs(offset_s - self._mono_minus_wall_s) > SAME_S:  # else the one before: what is due together stays so
            self._mono_minus_wall_s = offset_s
        return due_s + self._mono_minus_wall_s

    def signal(self, run_id: str, attempt: int, signal: int) -> None:
        """Signal every process of the attempt's tree. KILL is repeated until nothing is left of it."""
        self._queue({"type": "signal", "run_id": run_id, "attempt": attempt, "signal": signal})

    def freeze(self, run_id: str, attempt: int) -> None:
        """Hold every process of the attempt's tree still, until thaw, TERM or KILL; nothing of it can refuse. Without
        a supervisor the keeper thaws it; the next one may ask again."""
        self._queue({"type": "freeze", "run_id": run_id, "attempt": attempt})

    def thaw(self, run_id: str, attempt: int) -> None:
        """Let it go on. How long it was held still is told with its end."""
        self._queue({"type": "thaw", "run_id": run_id, "attempt": attempt})

    def retire_idle(self, keep: int = 0) -> None:
        """Warm workers that do nothing end, the largest first, until `keep` are left, those at work among them."""
        self._queue({"type": "retire", "keep": keep})

    def ask_use(self, *, afresh: bool) -> None:
        """Ask what each run holds of the machine: at its last look, or looked at for this. Answered by RunsUsed."""
        self._queue({"type": "use", "afresh": afresh})
        self._send()

    def acknowledge(self, run_id: str, attempt: int) -> None:
        """The end of this attempt is on record; the keeper forgets it."""
        self._queue({"type": "acknowledge", "run_id": run_id, "attempt": attempt})

    def flush(self) -> None:
        """Send what is written so far: the batch is over."""
        self._batch = 0
        self._send()

    def _send(self) -> None:
        """What the socket does not take now follows when it does."""
        if self._writing or self._lost or not self._out:
            return
        try:
            sent = self._connection.send(self._out, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._break(str(error))
            return
        del self._out[:sent]
        if self._out:
            self._writing = True
            self._written = self._loop.create_future()
            self._loop.add_writer(self._connection, self._on_writable)

    async def close(self, *, shutdown: bool) -> None:
        """Let go. With shutdown the keeper ends too: it TERMs, then KILLs what still runs, and this waits for that."""
        if self._lost:
            return
        self._closing = True
        if shutdown:
            self._queue({"type": "shutdown"})
        self.flush()
        if shutdown:
            await self._closed
        elif self._writing:
            await asyncio.wait([self._written], timeout=1.0)  # a keeper that takes nothing for so long is stuck
        self._release()

    # --- hearing -----------------------------------------------------------------------------------------------

    async def _greet(self) -> None:
        self._loop.add_reader(self._connection, self._on_readable)
        self._queue({"type": "hello", "version": PROTOCOL_VERSION})
        self.flush()
        await self._hello

    def _queue(self, message: dict[str, Any], note: bytes = b"") -> None:
        data = _encode(message)
        self._out += _LENGTHS.pack(len(data), len(note)) + data + note

    def _on_writable(self) -> None:
        self._loop.remove_writer(self._connection)
        self._writing = False
        self.flush()
        if not self._writing:
            resolve(self._written)

    def _on_readable(self) -> None:
        try:
            data = self._connection.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._break(str(error))
            return
        if not data:
            self._break("it closed the connection")
            return
        self._in += data
        try:
            self._hear_all()
        except msgspec.DecodeError as error:
            self._break(f"it said what cannot be understood ({error})")

    def _hear_all(self) -> None:
        begin, buffer = 0, self._in
        while len(buffer) - begin >= _LENGTHS.size:
            message_bytes, note_bytes = _LENGTHS.unpack_from(buffer, begin)
            middle = begin + _LENGTHS.size + message_bytes
            if middle + note_bytes > len(buffer):
                break
            message = _decode_message(buffer[begin + _LENGTHS.size : middle])
            begin = middle + note_bytes
            self._hear(message, buffer[middle:begin])
        del buffer[:begin]

    def _hear(self, message: _Message, note: bytearray) -> None:
        if message.type == "started":
            started = Started(message.run_id, message.attempt, message.pid, message.pid_start or None, message.note)
            self._post(started)
            self._warn(message.note)
        elif message.type == "exited" and message.exit is not None:
            self._post(_exited(message))
        elif message.type == "start_failed":
            self._post(StartFailed(message.run_id, message.attempt, message.reason, message.transient))
        elif message.type == "use":
            self._post(RunsUsed(message.uses, message.afresh))
        elif message.type == "held":
            self.held += (_held(message, note),)
        elif message.type == "hello":
            self.keeper_pid, self._held_count = message.pid, message.count
            self.instance, self.containment = message.instance, message.containment
        elif message.type == "refused" and not self._hello.done():
            refusal = f"the keeper (pid {message.pid}) refused: {message.reason}; {APART}"
            self._hello.set_exception(KeeperError(refusal))
        if len(self.held) == self._held_count and not self._hello.done():
            self._hello.set_result(None)

    def _warn(self, note: str) -> None:
        """Nobody should believe in a limit that is not there: said once for each job and whatever it lacks."""
        if note and note not in self._warned and len(self._warned) < WARNED_MAX:
            self._warned.add(note)
            logger.bind(event="limits.not_kept").warning("{}", note)

    def _break(self, why: str) -> None:
        """The keeper is gone, or cannot be understood any more. Said once."""
        if self._lost:
            return
        greeted = self._hello.done()
        self._release()
        if not greeted:
            self._hello.set_exception(ConnectionError(why))
        resolve(self._closed)
        if greeted and not self._closing:
            self._post(KeeperLost(f"the keeper (pid {self.keeper_pid}) is gone: {why}"))

    def _release(self) -> None:
        if self._lost:
            return
        self._lost = True
        self._loop.remove_reader(self._connection)
        if self._writing:
            self._loop.remove_writer(self._connection)
            self._writing = False
            resolve(self._written)
        self._connection.close()


def _values_of_others(runtime_dir: Path) -> Path:
    """Made for runs as other users, who cannot pass through the state folder: they can pass here, but not look."""
    folder = runtime_dir / "values"
    folder.mkdir(mode=0o711, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(fd, 0o711)  # whatever the umask was
    finally:
        os.close(fd)
    return folder


def _exited(message: _Message) -> Exited:
    exit = message.exit
    assert exit is not None
    usage = Usage(
        cpu_s=exit.cpu_s,
        memory_peak_bytes=exit.memory_peak_bytes,
        output_bytes=exit.output_bytes,
        output_dropped_bytes=exit.output_dropped_bytes,
        output_note=exit.output_note,
        io_read_bytes=exit.io_read_bytes,
        io_write_bytes=exit.io_write_bytes,
        frozen_s=exit.frozen_s,
    )
    unfit = "" if exit.result is None else unfit_result(exit.result)
    return Exited(
        message.run_id,
        message.attempt,
        exit.exit_code,
        exit.signal,
        usage,
        exit.duration_s,
        oom=exit.oom,
        timed_out=exit.timed_out,
        result=None if unfit else exit.result,
        error=unfit or exit.error,
    )


def _held(message: _Message, note_json: bytearray) -> Held:
    run, job = None, None
    try:
        note = _decode_note(note_json)
    except msgspec.DecodeError:
        pass  # written by another version; the attempt is held all the same, and its supervisor says so
    else:
        run, job = note.run, note.job
    exited = _exited(message) if message.exit is not None else None
    return Held(
        message.run_id,
        message.attempt,
        message.pid,
        message.started_mono_s,
        run,
        job,
        exited,
        timed_out=message.exit is not None and message.exit.timed_out,
        pid_start=message.pid_start or None,
        frozen_s=message.frozen_s if exited is None else exited.usage.frozen_s or 0.0,
        frozen=message.frozen,
    )


def left_clean(runtime_dir: Path) -> str:
    """The instance of the keeper that last left this folder with empty hands: nothing of it runs, no end was lost, and
    what it was not seen to start it never started. "" where none has said so."""
    try:
        fd = os.open(runtime_dir / "keeper.left", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, LEFT_BYTES_MAX).decode(errors="replace").strip()
    except OSError:
        return ""
    finally:
        os.close(fd)
