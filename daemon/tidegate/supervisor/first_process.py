"""tidegate as PID 1, as in a container: a parent that reaps and passes signals on, and the daemon as its child.

Nothing is decided here, and nothing of the daemon's is known. A process of its own, because whoever reaps every orphan
of a container would take the exit status of the daemon's own children away from it. Nothing but the standard library.
"""

import os
import signal
import sys
from collections.abc import MutableMapping
from typing import Final, NoReturn

MARK: Final = "TIDEGATE_FIRST_PROCESS"  # in the environment of a daemon whose parent this is
PASSED_ON: Final = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1})
SIGNALLED: Final = 128  # added to the number of the signal that ended the daemon, as shells report it


def split(environ: MutableMapping[str, str]) -> None:
    """As PID 1: returns in a child, and nowhere else. Otherwise returns at once. Call before any thread is started."""
    if os.getpid() != 1:
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON | {signal.SIGCHLD})
    child = os.fork()
    if child:
        _become_small(child)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.setsid()  # Ctrl-C of `docker run -it` comes once, from the parent, and not from the terminal as well
    os.dup2(1, 2)  # what a container says is read from its standard output
    environ[MARK] = "1"


def _become_small(child: int) -> NoReturn:
    """This file as a program instead of the daemon's modules: a quarter of the memory. Children and the mask stay."""
    try:
        os.execv(sys.executable, [sys.executable, "-I", "-S", __file__, str(child)])
    except OSError:
        _serve(child)


def _serve(child: int) -> NoReturn:
    """Until the child ends; then the kernel ends whatever else there is. Blocked signals reach even PID 1."""
    while True:
        number = signal.sigwaitinfo(PASSED_ON | {signal.SIGCHLD}).si_signo
        if number != signal.SIGCHLD:
            os.kill(child, number)
            continue
        while ended := _reap():
            pid, status = ended
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else SIGNALLED - code)


def _reap() -> tuple[int, int] | None:
    """One that has ended, or None."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
