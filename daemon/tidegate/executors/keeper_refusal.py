"""Why something could not be started, in sentences for a person, and the two looks that tell most of them before an
exec could. Part of the keeper's process: standard library only; nothing is started here.
"""

import errno
import os

PATH_DEFAULT = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TRANSIENT = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)  # the machine is short of something, for now


class SpawnRefused(Exception):
    """Nothing was started; the text is a sentence for a person: what, where, what to do."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.code = code or 0
        self.transient = code in TRANSIENT


def enter(cwd: str) -> None:
    """Make it the working folder."""
    try:
        os.chdir(cwd)
    except FileNotFoundError:
        raise SpawnRefused(f"cwd {cwd!r} is not there; make the folder or correct cwd") from None
    except NotADirectoryError:
        raise SpawnRefused(f"cwd {cwd!r} is not a folder; correct cwd") from None
    except PermissionError:
        raise SpawnRefused(f"cwd {cwd!r} may not be entered by this user; change its permissions") from None
    except (OSError, ValueError) as error:
        raise SpawnRefused(f"cwd {cwd!r} cannot be entered: {error}", getattr(error, "errno", None)) from None


def find(name: str, path: str) -> str:
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


def no_output(path: str, error: OSError) -> SpawnRefused:
    """The output file could not be opened."""
    what = {errno.ELOOP: "it is a symbolic link", errno.EEXIST: "a part of its path is not a folder"}.get(
        error.errno or 0, error.strerror
    )
    mend = "check its folder, permissions and free space"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        mend = "the keeper or the machine is out of descriptors"
    reason = f"output file {path!r} cannot be written: {what}; {mend}"
    return SpawnRefused(reason, error.errno)


def not_started(program: str, error: Exception) -> SpawnRefused:
    """The exec, or the fork before it, failed."""
    code = error.errno if isinstance(error, OSError) else None
    return SpawnRefused(_why(program, code, error), code)


def _why(program: str, code: int | None, error: Exception) -> str:
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
    if code in (errno.EMFILE, errno.ENFILE):
        return f"{program!r} could not be started: {os.strerror(code)}; the keeper or the machine is out of descriptors"
    if code == errno.ETXTBSY:
        return f"{program!r} is being written to; start it when its file is complete"
    return f"{program!r} could not be started: {error}"
