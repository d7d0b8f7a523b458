"""From a spawn request to a process. Part of the keeper's process: standard library only, no protocol, no waiting.

posix_spawn and not fork: forking the keeper costs 120 µs of its own time and twice the wall time (measured). What
posix_spawn cannot set for the child (folder, umask, a better nice value) the keeper, which has one thread, sets for
itself around the call.
"""

import errno
import os
import resource
import signal

from tidegate.executors.keeper_fork import Birth, fork_exec, session_nice
from tidegate.executors.keeper_output import OutputFile, Spares, open_journal
from tidegate.executors.keeper_refusal import PATH_DEFAULT, SpawnRefused, enter, find, no_output, not_started

# Python ignores PIPE and XFSZ, the keeper HUP and INT. What is ignored stays ignored across exec, so it is said here.
DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT)
RESERVE = 16  # descriptors kept for all but starting: to look, to signal, to be connected to
_umask_now = [0o077]  # of this process; become_keeper sets it


class Ready:
    """A start of which all is done but the process itself. It is to be begun or given up, once."""

    def __init__(self, request: dict[str, object], own_nice: int, journal: str, spares: Spares) -> None:
        """Opens the output. Raises SpawnRefused; where the request makes no sense, what `spawn` raises then."""
        self._request, self._own_nice = request, own_nice
        self.output = open_file(request, spares, None) if request["output"] == "file" else None
        self.fd = self.output.fd if self.output is not None else open_other(request, journal)

    def begin(self) -> int:
        """Start it; the pid. Raises what `spawn` does, and has given up then."""
        try:
            enter(str(self._request["cwd"]))
            pid = begin(self._request, self._own_nice, self.fd, None)
        except BaseException:
            self.give_up()
            raise
        if self.fd >= 0:
            os.close(self.fd)
        return pid

    def give_up(self) -> None:
        """It is not started: nothing of it stays open."""
        if self.fd >= 0:
            os.close(self.fd)
        if self.output is not None:
            self.output.fd = -1
            self.output.end()


def spawn(
    request: dict[str, object], own_nice: int, journal: str, spares: Spares, birth: Birth | None
) -> tuple[int, OutputFile | None]:
    """Start the request's program in its own session. Raises SpawnRefused."""
    if birth is None:
        enter(str(request["cwd"]))
    if request["output"] == "file":
        output = open_file(request, spares, birth.uid if birth is not None else None)
        try:
            return begin(request, own_nice, output.fd, birth), output
        except BaseException:
            os.close(output.fd)
            output.fd = -1
            output.end()
            raise
        finally:
            if output.fd >= 0:
                os.close(output.fd)
    fd = open_other(request, journal)
    try:
        return begin(request, own_nice, fd, birth), None
    finally:
        if fd >= 0:
            os.close(fd)


def begin(request: dict[str, object], own_nice: int, fd: int, birth: Birth | None) -> int:
    """Start the program with `fd` as its 1 and 2, in the folder that was entered. Raises SpawnRefused."""
    argv, env, nice = request["argv"], request["env"], request.get("nice", own_nice)
    assert isinstance(argv, list) and isinstance(env, dict) and isinstance(nice, int)
    if fd >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVE:
        raise not_started(argv[0], OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    if birth is not None:
        return fork_exec(request, fd, nice, birth)
    program = find(argv[0], str(env.get("PATH", PATH_DEFAULT)))
    return _exec(program, argv, env, fd, int(str(request.get("umask", 0o022))), (own_nice, nice))


def open_file(request: dict[str, object], spares: Spares, uid: int | None) -> OutputFile:
    """Of another user it is the user's own, so that /dev/stdout can be opened; nobody reaches it by its path. Our group
    may read it, as a supervisor without capabilities has no other right to. It serves no other run afterwards."""
    path, output_max = str(request["output_path"]), request.get("output_max_bytes", 0)
    assert isinstance(output_max, int)
    umask = os.umask(0o077) if _umask_now[0] & 0o700 else None
    try:
        output = OutputFile(path, output_max, spares if request["attempt"] == 1 and uid is None else None)
        if uid is not None:
            os.fchmod(output.fd, 0o640)
            os.fchown(output.fd, uid, -1)  # the keeper is root then, and root may
        return output
    except OSError as error:
        raise no_output(path, error) from None
    finally:
        if umask is not None:
            os.umask(umask)


def open_other(request: dict[str, object], journal: str) -> int:
    """A descriptor for 1 and 2; -1: the keeper's own, which is /dev/null."""
    if request["output"] != "journal":
        return -1
    try:
        return open_journal(str(request.get("identifier", "tidegate")), journal)
    except OSError as error:
        raise SpawnRefused(
            f'journald\'s stream socket {journal} is not there ({error.strerror or error}); set output = "file"',
            error.errno,
        ) from None


def _exec(program: str, argv: list[str], env: dict[str, str], fd: int, umask: int, nices: tuple[int, int]) -> int:
    own_nice, nice = nices
    if umask != _umask_now[0]:
        os.umask(umask)
        _umask_now[0] = umask
    # 0, 1 and 2 of the keeper are /dev/null, /dev/null and its log. Each action costs 2 µs.
    fd = fd if fd >= 0 else 1
    actions = [(os.POSIX_SPAWN_DUP2, fd, 1), (os.POSIX_SPAWN_DUP2, fd, 2)]
    if nice < own_nice:  # needs a privilege, so it must be known before the program runs
        try:
            os.setpriority(os.PRIO_PROCESS, 0, nice)
        except PermissionError:
            raise SpawnRefused(f"nice {nice} is not permitted to this user; set nice to {own_nice} or more") from None
    try:
        pid = os.posix_spawn(
            program, argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=DEFAULT_SIGNALS
        )
    except (OSError, ValueError, TypeError) as error:
        raise not_started(program, error) from None
    finally:
        if nice < own_nice:
            os.setpriority(os.PRIO_PROCESS, 0, own_nice)
    if nice > own_nice:
        try:
            os.setpriority(os.PRIO_PGRP, pid, nice)
        except OSError:
            pass  # it ended already
    session_nice(pid, nice)
    return pid
