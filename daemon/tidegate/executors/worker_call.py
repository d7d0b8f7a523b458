"""One call of a function of a python job: how it is found, called and judged, and the socket that asks for it. Like all
of the worker it runs in the user's interpreter: standard library only, nothing that Python 3.8 does not have.

There it is the module `tidegate_context` too: user code may import `tidegate_context` from it, and nothing else.
"""

from __future__ import annotations

import contextvars
import difflib
import importlib
import inspect
import io
import json
import os
import select
import socket
import struct
import sys
import traceback
import types
from collections.abc import Callable
from datetime import datetime

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio  # takes 0.1 s: only where there are coroutines

RESULT_BYTES_MAX = 16 * 1024  # a result is a summary: what is larger belongs in a file
ERROR_CHARS_MAX = 4096  # of a traceback its end says most
NAMES_MAX = 1000  # among which a near one is looked for
PACKET_BYTES_MAX = 1024 * 1024  # the kernel lets the keeper send half of that
FD = struct.Struct("i")
PAGE_BYTES = os.sysconf("SC_PAGESIZE")


class Refused(Exception):
    """The function cannot be called; the text is a sentence for a person."""


class Context:
    """What a run knows of itself; what TIDEGATE_* variables say to a command."""

    def __init__(self, env: dict[str, str]) -> None:
        self.job = env.get("TIDEGATE_JOB", "")
        self.task = env.get("TIDEGATE_TASK", "")
        self.run_id = env.get("TIDEGATE_RUN_ID", "")
        self.attempt = int(env.get("TIDEGATE_ATTEMPT", "1"))
        self.scheduled_at = datetime.fromisoformat(env["TIDEGATE_SCHEDULED_AT"])  # aware, in the job's zone
        self.catch_up = env.get("TIDEGATE_CATCH_UP") == "1"
        self.output = env.get("TIDEGATE_OUTPUT", "")  # the file that takes name=value lines
        self.stopping = False  # it was told to end: timed out or cancelled; a thread that looks at this can obey


class Run:
    """One call: what to call, for whom, and where its output goes."""

    def __init__(self, message: dict[str, object], fd: int) -> None:
        env = message["env"]
        assert isinstance(env, dict)
        self.number = message["run"]
        self.target = str(message["target"])
        self.args, self.kwargs = message["args"], message["kwargs"]
        self.cwd, self.umask = str(message["cwd"]), message["umask"]
        self.env: dict[str, str] = env
        self.context = Context(env)
        self.fd = fd
        self.stream: io.TextIOWrapper | None = None  # of a run among others
        self.task: asyncio.Task[None] | None = None


current: contextvars.ContextVar[Run | None] = contextvars.ContextVar("tidegate_run", default=None)


def tidegate_context() -> Context:
    """What the run that calls this knows of itself. LookupError where no run does."""
    run = current.get()
    if run is None:
        raise LookupError("no run of tidegate calls this; a thread of its own needs contextvars.copy_context().run")
    return run.context


# --- calling --------------------------------------------------------------------------------------------------


class Caught:
    """Whatever a block raised: a worker outlives the functions it calls."""

    error: BaseException | None = None
    traceback: types.TracebackType | None = None

    def __enter__(self) -> Caught:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> bool:
        self.error, self.traceback = error, trace
        return True


class Ended:
    """How a call ended: the exit code (negative: a signal), the result as JSON, and what went wrong."""

    def __init__(self, code: int, result: str | None = None, error: str = "") -> None:
        self.code, self.result, self.error = code, result, error


def load(target: str) -> Callable[..., object]:
    """The function that module:function names. Refused where there is none; what its module raises goes through."""
    name, _, path = target.partition(":")
    try:
        found: object = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name + ".").startswith(error.name + "."):
            raise
        raise Refused(
            f"module {error.name!r} was not found by {sys.executable}; add its folder to python_path, "
            "or set interpreter to the Python that has it"
        ) from None
    for part in path.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found)[:NAMES_MAX], 1)
            raise Refused(f"{target!r}: there is no {part!r}{f'; did you mean {near[0]!r}?' if near else ''}")
        found = getattr(found, part)
    if not callable(found):
        raise Refused(f"{target!r} is a {type(found).__name__}, and cannot be called; name a function")
    return found


def judge_call(function: Callable[..., object], run: Run, asynchronous: bool) -> None:
    """Refused where the function cannot be called so."""
    is_coroutine = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 — it is looked at, not asked whether it is there
    )
    if is_coroutine and not asynchronous:
        raise Refused(f'{run.target!r} is a coroutine function; set executor = "async"')
    if asynchronous and not is_coroutine:
        raise Refused(f'{run.target!r} is no coroutine function; write async def, or set executor = "thread"')
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # of C, without one
    assert isinstance(run.args, list) and isinstance(run.kwargs, dict)
    try:
        signature.bind(*run.args, **run.kwargs)
    except TypeError as error:
        raise Refused(
            f"{run.target!r} does not take these args and kwargs: {error}; it is {run.target}{signature}"
        ) from None


def as_json(value: object) -> Ended:
    """A result that is kept, or why it is not: the run succeeded all the same."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        return Ended(0, None, f"the result is not kept: it is no JSON: {error}")
    if size > RESULT_BYTES_MAX:
        more = f"the result is not kept: {size} bytes of JSON, and at most {RESULT_BYTES_MAX} are kept; write a file"
        return Ended(0, None, more)
    return Ended(0, text)


def judged(caught: Caught, value: object) -> Ended:
    """What a call came to. What went wrong is written to the run's output too."""
    error = caught.error
    if error is None:
        last = Caught()
        ended = Ended(0)
        with last:  # a value may be of a class that makes trouble when it is looked at
            ended = as_json(value)
        return ended if last.error is None else Ended(0, None, "the result is not kept: it cannot be looked at")
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return Ended((error.code or 0) & 0xFF)
        print(error.code, file=sys.stderr)
        return Ended(1, None, str(error.code)[-ERROR_CHARS_MAX:])
    if isinstance(error, Refused):
        text = str(error)
    else:
        frames = caught.traceback.tb_next if caught.traceback is not None else None  # the first is ours
        text = "".join(traceback.format_exception(type(error), error, frames)).rstrip("\n")
    print(text, file=sys.stderr)
    return Ended(1, None, text if len(text) <= ERROR_CHARS_MAX else "…" + text[-ERROR_CHARS_MAX:])


class Sources:
    """The files that modules came from: a worker that goes on with code of yesterday would do the wrong thing."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int]] = {}
        self._library = os.path.dirname(os.__file__) + "/"

    def note(self) -> None:
        for module in list(sys.modules.values()):
            path = vars(module).get("__file__") if isinstance(module, types.ModuleType) else None
            if isinstance(path, str) and path not in self._seen and self._may_change(path):
                self._seen[path] = self._stamp(path)

    def changed(self) -> bool:
        return any(self._stamp(path) != was for path, was in self._seen.items())

    def _may_change(self, path: str) -> bool:
        return not path.startswith(self._library) or "-packages/" in path

    @staticmethod
    def _stamp(path: str) -> tuple[int, int]:
        try:
            stat = os.stat(path)
        except OSError:
            return 0, 0
        return stat.st_mtime_ns, stat.st_size


# --- the socket -----------------------------------------------------------------------------------------------


class Link:
    """The keeper's other end. Receives in one thread, sends from any."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._socket = socket.socket(fileno=fd)
        self.fd = fd

    def receive(self) -> tuple[dict[str, object], int] | None:
        """The next message and its descriptor (-1: none). None: the keeper wants nothing more, or is gone."""
        data, ancillary, _, _ = self._socket.recvmsg(
            PACKET_BYTES_MAX, socket.CMSG_SPACE(FD.size), socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            return None
        fds = [FD.unpack(fd[: FD.size])[0] for _, kind, fd in ancillary if kind == socket.SCM_RIGHTS]
        return json.loads(data), fds[0] if fds else -1

    def more(self) -> bool:
        """Whether another message is here already."""
        return bool(select.select([self.fd], [], [], 0)[0])

    def send(self, message: dict[str, object]) -> None:
        """OSError where the keeper is gone: then nobody asks any more."""
        self._socket.send(json.dumps(message).encode(), socket.MSG_NOSIGNAL)  # whole or not at all

    def told(self, message: dict[str, object]) -> None:
        """Send it to whoever is still there."""
        try:
            self.send(message)
        except OSError:
            pass


def message_of(run: Run, ended: Ended) -> dict[str, object]:
    return {"done": run.number, "code": ended.code, "result": ended.result, "error": ended.error}


def flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        caught = Caught()
        with caught:  # a full disk, or an object that user code put there
            stream.flush()
