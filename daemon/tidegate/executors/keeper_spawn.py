"""From a spawn request to a process. Part of the keeper's process: standard library only, no protocol, no waiting.

posix_spawn and not fork: forking the keeper costs 120 µs of its own time and twice the wall time (measured). What
posix_spawn cannot set for the child (folder, umask, a better nice value) the keeper, which has one thread, sets for
itself around the call.
"""

import errno
import os
import signal

from tidegate.executors.keeper_output import OutputFile, Spares, open_journal

# Python ignores PIPE and XFSZ, the keeper HUP and INT. What is ignored stays ignored across exec, so it is said here.
DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT)
_umask_now = [0o077]  # of this process; become_keeper sets it
PATH_DEFAULT = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class SpawnRefused(Exception):
    """Nothing was started; the text is a sentence for a person: what, where, what to do."""


def spawn(request: dict[str, object], own_nice: int, journal: str, spares: Spares) -> tuple[int, OutputFile | None]:
    """Start the request's program in its own session. Raises SpawnRefused."""
    argv, env, cwd = request["argv"], request["env"], request["cwd"]
    nice = request.get("nice", own_nice)
    assert isinstance(argv, list) and isinstance(env, dict) and isinstance(cwd, str)
    assert isinstance(nice, int)
    _enter(cwd)
    program = _find(argv[0], str(env.get("PATH", PATH_DEFAULT)))
    umask = int(str(request.get("umask", 0o022)))
    if request["output"] == "file":
        output = _open_file(request, spares)
        try:
            return _exec(program, argv, env, output.fd, umask, (own_nice, nice)), output
        except BaseException:
            os.close(output.fd)
            output.fd = -1
            output.end()
            raise
        finally:
            if output.fd >= 0:
                os.close(output.fd)
    fd = _open_other(request, journal)
    try:
        return _exec(program, argv, env, fd, umask, (own_nice, nice)), None
    finally:
        if fd >= 0:
            os.close(fd)


def _enter(cwd: str) -> None:
    try:
        os.chdir(cwd)
    except FileNotFoundError:
        raise SpawnRefused(f"cwd {cwd!r} is not there; make the folder or correct cwd") from None
    except NotADirectoryError:
        raise SpawnRefused(f"cwd {cwd!r} is not a folder; correct cwd") from None
    except PermissionError:
        raise SpawnRefused(f"cwd {cwd!r} may not be entered by this user; change its permissions") from None
    except (OSError, ValueError) as error:
        raise SpawnRefused(f"cwd {cwd!r} cannot be entered: {error}") from None


def _find(name: str, path: str) -> str:
    """The program's file: as written where there is a slash in it, else searched in the job's own PATH."""
    if "/" in name:
        return name
    refused = ""
    for folder in path.split(":"):
        candidate = f"{folder or '.'}/{name}"
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
        if not refused and os.path.isfile(candidate):
            refused = candidate
    if refused:
        raise SpawnRefused(f"{refused!r} is not executable; chmod +x it or correct the command")
    raise SpawnRefused(f"program {name!r} was not found in PATH ({path}); install it or write its full path")


def _open_file(request: dict[str, object], spares: Spares) -> OutputFile:
    path, output_max = str(request["output_path"]), request.get("output_max_bytes", 0)
    assert isinstance(output_max, int)
    umask = os.umask(0o077) if _umask_now[0] & 0o700 else None
    try:
        return OutputFile(path, output_max, spares if request["attempt"] == 1 else None)
    except OSError as error:
        raise _no_output(path, error) from None
    finally:
        if umask is not None:
            os.umask(umask)


def _open_other(request: dict[str, object], journal: str) -> int:
    """A descriptor for 1 and 2; -1: the keeper's own, which is /dev/null."""
    if request["output"] != "journal":
        return -1
    try:
        return open_journal(str(request.get("identifier", "tidegate")), journal)
    except OSError as error:
        raise SpawnRefused(
            f'journald\'s stream socket {journal} is not there ({error.strerror or error}); set output = "file"'
        ) from None


def _no_output(path: str, error: OSError) -> SpawnRefused:
    what = {errno.ELOOP: "it is a symbolic link", errno.EEXIST: "a part of its path is not a folder"}.get(
        error.errno or 0, error.strerror
    )
    return SpawnRefused(f"output file {path!r} cannot be written: {what}; check its folder, permissions and free space")


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
        raise SpawnRefused(_why(program, error)) from None
    finally:
        if nice < own_nice:
            os.setpriority(os.PRIO_PROCESS, 0, own_nice)
    if nice > own_nice:
        try:
            os.setpriority(os.PRIO_PGRP, pid, nice)
        except OSError:
            pass  # it ended already
    return pid


def _why(program: str, error: Exception) -> str:
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.ENOENT:
        if os.path.exists(program):
            return f"{program!r}: the interpreter in its first line is not there; install it or correct the #! line"
        return f"program {program!r} is not there; install it or correct the command"
    if code == errno.EACCES:
        if os.path.isdir(program):
            return f"{program!r} is a folder, not a program; correct the command"
        return f"{program!r} is not executable for this user; chmod +x it, or check its folders and mount options"
    if code == errno.ENOTDIR:
        return f"program {program!r}: a part of its path is not a folder; correct the command"
    if code == errno.ENOEXEC:
        return f"{program!r} is not a program: no #! line, or built for another machine; add one, such as #!/bin/sh"
    if code == errno.E2BIG:
        return f"{program!r}: argument list and environment are too long for the kernel; pass the data in a file"
    if code in (errno.EAGAIN, errno.ENOMEM):
        return f"{program!r} could not be started: {os.strerror(code)}; the machine is out of processes or memory"
    if code == errno.ETXTBSY:
        return f"{program!r} is being written to; start it when its file is complete"
    return f"{program!r} could not be started: {error}"
