"""What runs in a worker's own process: calls come in over a pipe, answers go out. Ends when the pipe does. Imports the
standard library only, so that it starts fast wherever it is started."""

import contextlib
import os
import pickle
import signal
import traceback
from collections.abc import Callable
from concurrent.futures._base import LOGGER
from concurrent.futures.process import _ExceptionWithTraceback
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Final

READY: Final = 0
REFUSED: Final = 1  # its initializer failed
RESULT: Final = 2
ERROR: Final = 3

PR_SET_PDEATHSIG: Final = 1
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

# kind, the result or error in pickled form, the error as text, CPU seconds, peak and present memory in bytes
Answer = tuple[int, bytes, str, float, int | None, int | None]


def serve(
    connection: "Connection[Any, Any]",
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
    strangers: "list[Connection[Any, Any]]",
) -> None:
    """Work until the other end is closed. `strangers`: ends of other workers' pipes that a fork left open here."""
    for each in strangers:
        each.close()
    _go_on_alone()
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):  # the pool is gone, or Ctrl-C between two tasks
        if initializer is not None and not _begin(initializer, initargs):
            connection.send_bytes(pickle.dumps((REFUSED, b"", "", 0.0, None, None)))
            return
        connection.send_bytes(pickle.dumps((READY, b"", "", 0.0, None, present_bytes())))
        while True:
            call = connection.recv_bytes()
            connection.send_bytes(pickle.dumps(answer(call), pickle.HIGHEST_PROTOCOL))


def _go_on_alone() -> None:
    """Held still when the program is killed, this process would stay so for ever: the end of its parent lets it go on,
    to find that its pipe is closed. For a child of a fork server the pool looks otherwise (Process.guarded)."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)


def _begin(initializer: Callable[..., object], initargs: tuple[Any, ...]) -> bool:
    try:
        initializer(*initargs)
    except BaseException:  # noqa: BLE001  # whatever it raises is told, and breaks the pool
        LOGGER.critical("Exception in initializer:", exc_info=True)
        return False
    return True


def answer(call: bytes) -> Answer:
    """Carry out one call. Whatever goes wrong, pickling among it, is its answer."""
    forget_peak()
    before_s = _cpu_s()
    try:
        fn, args, kwargs = pickle.loads(call)
        kind, told, text = RESULT, bytes(ForkingPickler.dumps(fn(*args, **kwargs))), ""
    except BaseException as error:  # noqa: BLE001  # whatever a task raises is its result
        kind, told, text = ERROR, *_error(error)
    return kind, told, text, _cpu_s() - before_s, peak_bytes(), present_bytes()


def _error(error: BaseException) -> tuple[bytes, str]:
    text, trace = "".join(traceback.format_exception(error)), error.__traceback__
    assert trace is not None
    try:
        return bytes(ForkingPickler.dumps(_ExceptionWithTraceback(error, trace))), text
    except Exception:  # noqa: BLE001  # an error that cannot be pickled is told as text
        return b"", text


def _cpu_s() -> float:
    """Of this process and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def forget_peak() -> None:
    """The peak begins anew. Where the kernel does not let us, it stays that of the process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_bytes(b"5")


def peak_bytes() -> int | None:
    """The most that was resident since `forget_peak`."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_bytes().splitlines():
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def present_bytes(pid: int | str = "self") -> int | None:
    """What is resident now."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * PAGE_BYTES
    return None
