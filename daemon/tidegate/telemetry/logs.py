"""The daemon's own log: a bounded queue, one writer thread, three formats. It never blocks whoever logs.

Facts come as `Record`s through `observe`; plain messages come through loguru, and libraries' through stdlib logging.
All take the same way. When nobody reads the log, records are dropped and counted, and the loss is told once there
is room again. Formatting happens on the writer thread; no sentence is written here.
"""

import errno
import logging
import os
import select
import sys
import threading
import traceback
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

from loguru import logger

from tidegate import clock
from tidegate.model.command import Record
from tidegate.telemetry.formats import Console, Json
from tidegate.telemetry.journal import SOCKET_PATH, JournalSink, is_our_stderr
from tidegate.telemetry.line import LEVEL_NUMBERS, LOUDEST, WARNING, Line, line_of

if TYPE_CHECKING:
    from loguru import Message

QUEUE_RECORDS_MAX: Final = 10_000  # about 10 MB at worst; two seconds of the fastest stream of runs
BATCH_RECORDS_MAX: Final = 32  # formatted in one go: about 0.5 ms with the interpreter lock
COALESCE_S: Final = 0.05  # a burst of fires is over before the writer asks for the interpreter lock; nobody sees it
FLUSH_S: Final = 2.0
TRACE_LINES_MAX: Final = 200
DEFAULT_EVENT: Final = "daemon.message"


class Sink(Protocol):
    """Where lines go; called from the writer thread alone, and may block it."""

    def write(self, lines: list[Line]) -> int:
        """Write the lines; how many were lost."""
        ...

    def close(self) -> None:
        """Let go of what the sink opened."""
        ...


class Renderer(Protocol):
    """A line as bytes, with its newline."""

    def render(self, line: Line) -> bytes:
        """Pure but for its own column widths."""
        ...


class StreamSink:
    """Lines as text on a descriptor that somebody else opened (standard error)."""

    def __init__(self, fd: int, renderer: Renderer) -> None:
        self._fd = fd
        self._render = renderer.render

    def write(self, lines: list[Line]) -> int:
        """One write for the batch. A reader that went away loses it; a slow one makes this thread wait."""
        data = memoryview(b"".join([self._render(line) for line in lines]))
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                # Whoever shares the descriptor made it non-blocking.
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()
            except OSError:
                return len(lines)
        return 0

    def close(self) -> None:
        """The descriptor is not ours."""


class Logs:
    """The one log of a process. Made by `configure`; its methods may be called from any thread."""

    def __init__(self, sink: Sink, level: str) -> None:
        self._sink = sink
        self._queue: deque[Line | Record] = deque()
        self._woken = threading.Event()
        self._closing = threading.Event()
        self._count_lock = threading.Lock()
        self._turned_away = 0  # the queue was full
        self._lost = 0  # the sink could not deliver; the writer's own
        self._loguru_id: int | None = None
        self.set_level(level)
        self._writer = threading.Thread(target=self._write_all, name="tidegate-log", daemon=True)
        try:
            self._writer.start()
        except RuntimeError as error:  # all that Python says of EAGAIN
            raise OSError(errno.EAGAIN, "no thread can be started for the log") from error

    def set_level(self, level: str) -> None:
        """Change what is loud enough: trace, debug, info, warning or error."""
        self._level = LEVEL_NUMBERS[level]
        self._silent = frozenset(fact for fact, loudest in LOUDEST.items() if loudest < self._level)
        if self._loguru_id is not None:
            logger.remove(self._loguru_id)
        self._loguru_id = logger.add(
            self._take,
            level=self._level,
            format=_no_format,
            backtrace=False,
            diagnose=False,  # values of variables may be secrets; tracebacks are made by `_trace` anyway
        )

    @property
    def dropped(self) -> int:
        """Records lost so far, because the queue was full or the journal was gone."""
        return self._turned_away + self._lost

    def observe(self, record: Record) -> None:
        """Log a fact, if it is loud enough."""
        if record.fact not in self._silent:
            self._put(record)

    def close(self, timeout_s: float = FLUSH_S) -> None:
        """Write what is queued, for at most timeout_s; later messages go nowhere."""
        if self._loguru_id is not None:
            logger.remove(self._loguru_id)
            self._loguru_id = None
        self._closing.set()
        self._woken.set()
        self._writer.join(timeout_s)
        if not self._writer.is_alive():
            self._sink.close()

    # --- the callers' side ----------------------------------------------------------------------------

    def _put(self, item: Line | Record) -> None:
        if len(self._queue) >= QUEUE_RECORDS_MAX:
            with self._count_lock:
                self._turned_away += 1
            return
        self._queue.append(item)
        if not self._woken.is_set():
            self._woken.set()

    def _take(self, message: "Message") -> None:
        """loguru's sink: everything that is about no run."""
        record = message.record
        fields: dict[str, Any] = dict(record["extra"])
        event = str(fields.pop("event", DEFAULT_EVENT))
        job = str(fields.pop("job", ""))
        self._put(
            Line(
                at=record["time"],
                level=record["level"].no,
                event=event,
                text=record["message"],
                job=job,
                fields={key: value if _is_plain(value) else str(value) for key, value in fields.items()},
                trace=_trace(record["exception"]),
            )
        )

    # --- the writer's side ----------------------------------------------------------------------------

    def _write_all(self) -> None:
        told = 0
        while True:
            self._woken.wait()
            self._closing.wait(COALESCE_S)
            self._woken.clear()
            while self._queue:
                lost = self._sink.write(self._next_batch())
                self._lost += lost
                if not lost and self.dropped > told:
                    missing, told = self.dropped - told, self.dropped
                    self._lost += self._sink.write([_loss(missing)])
            if self._closing.is_set():
                return

    def _next_batch(self) -> list[Line]:
        batch: list[Line] = []
        while self._queue and len(batch) < BATCH_RECORDS_MAX:
            item = self._queue.popleft()
            line = line_of(item) if isinstance(item, Record) else item
            if line.level >= self._level:
                batch.append(line)
        return batch


def configure(
    format: str,
    level: str,
    *,
    stream: TextIO | None = None,
    environ: Mapping[str, str] | None = None,
    journal_socket: str = SOCKET_PATH,
) -> Logs:
    """Start the log of this process: `format` is auto, journal, json or console, `level` as in tidegate.toml.

    auto: the journal where systemd connected our standard error to it, the console on a terminal, else JSON.
    Where the journal is wanted and cannot be reached, JSON on standard error, and a line that says so.
    """
    stream = stream or sys.stderr
    environ = os.environ if environ is None else environ
    fd = stream.fileno()
    if format == "auto":
        format = "journal" if is_our_stderr(environ, fd) else "console" if os.isatty(fd) else "json"
    trouble = ""
    sink: Sink
    if format == "journal":
        try:
            sink = JournalSink(journal_socket)
        except OSError as error:
            trouble = f"cannot log to the journal at {journal_socket} ({error.strerror}): logging JSON here instead"
            sink = StreamSink(fd, Json())
    elif format == "console":
        sink = StreamSink(fd, Console(colour=_has_colour(fd, environ), encoding=stream.encoding or "utf-8"))
    else:
        sink = StreamSink(fd, Json())
    logger.remove()
    logs = Logs(sink, level)
    route_stdlib()
    if trouble:
        logger.bind(event="log.fallback").warning("{}", trouble)
    return logs


class FromStdlib(logging.Handler):
    """Brings what libraries log through stdlib logging to loguru, at its level and with the library's name."""

    def emit(self, record: logging.LogRecord) -> None:
        """One library message."""
        bound = logger.bind(event="library.message", logger=record.name)
        bound.opt(exception=record.exc_info).log(_loguru_level(record.levelno), "{}", record.getMessage().rstrip())


def route_stdlib() -> None:
    """Warnings and worse from libraries (and Python's own warnings) go through loguru."""
    logging.basicConfig(handlers=[FromStdlib()], level=logging.WARNING, force=True)
    logging.captureWarnings(True)


def _loguru_level(levelno: int) -> str:
    for name in ("CRITICAL", "ERROR", "WARNING", "INFO"):
        if levelno >= logging.getLevelName(name):
            return name
    return "DEBUG"


def _has_colour(fd: int, environ: Mapping[str, str]) -> bool:
    return os.isatty(fd) and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def _no_format(_record: object) -> str:
    return ""  # the line is formatted later, by the writer


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | bool | int | float)


def _trace(exception: Any) -> tuple[str, ...]:
    if exception is None or exception.value is None:
        return ()
    text = "".join(traceback.format_exception(exception.type, exception.value, exception.traceback))
    lines = text.rstrip("\n").split("\n")
    if len(lines) > TRACE_LINES_MAX:
        lines = [f"({len(lines) - TRACE_LINES_MAX} lines left out)", *lines[-TRACE_LINES_MAX:]]
    return tuple(lines)


def _loss(count: int) -> Line:
    what = "record was" if count == 1 else "records were"
    return Line(
        at=clock.wall(),
        level=WARNING,
        event="log.dropped",
        text=f"{count} log {what} lost: the log was not read fast enough, or not at all",
        fields={"count": count},
    )
