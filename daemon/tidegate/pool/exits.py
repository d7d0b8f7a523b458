"""What becomes of pools when the interpreter ends or the process forks: at the end all that was submitted is done, as
with concurrent.futures; in a forked child the parent's pools are closed, as none of their threads exist there."""

import os
import threading

from tidegate.pool.core import EXITING, Core

_cores: set[Core] = set()
_guard = threading.Lock()
_exiting = False


def register(core: Core) -> None:
    """From now on until `forget`, this core is cared for."""
    with _guard:
        if _exiting:
            raise RuntimeError(EXITING)
        _cores.difference_update([each for each in _cores if each.closed is not None and not each.staff])
        _cores.add(core)


def forget(core: Core) -> None:
    """It has nothing left that could need care."""
    with _guard:
        _cores.discard(core)


def _finish_all() -> None:
    global _exiting
    with _guard:
        _exiting = True
        cores = list(_cores)
    for core in cores:
        core.shut(EXITING)
    for core in cores:
        core.join()


def _in_child() -> None:
    global _guard
    _guard = threading.Lock()
    for core in _cores:
        core.forked()
    _cores.clear()


# As concurrent.futures does: before other threads are joined, while new ones can still begin.
threading._register_atexit(_finish_all)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_in_child)
