"""Files that hold one secret: a token, a password. Read only where nobody but their owner can. Shows none of it."""

import os
import stat
from pathlib import Path
from typing import Final

SECRET_BYTES_MAX: Final = 4096  # the first line of a file; a token of 4 KiB is no token
CREDENTIALS: Final = "/run/credentials/"  # systemd guards these itself; an ACL there looks like a group's right


def wrong_mode(path: str, status: os.stat_result) -> str:
    """Why nobody should trust this file with a secret, "" if it is well."""
    if not stat.S_ISREG(status.st_mode):
        return "is not a plain file"
    forbidden = 0o007 if path.startswith(CREDENTIALS) else 0o077
    if status.st_mode & forbidden:
        return f"others may read it (mode {stat.S_IMODE(status.st_mode):04o}): chmod 600 {path}"
    return ""


def check_secret(path: str) -> None:
    """Raise ValueError with a sentence where the file is missing or open to others.

    Whoever only checks a configuration may not be the one who can read its secrets: what cannot be looked at passes.
    """
    try:
        status = Path(path).stat()
    except PermissionError:
        return
    except FileNotFoundError:
        if not path.startswith(CREDENTIALS):
            raise ValueError(f"cannot be read: No such file or directory: {path}") from None
        if "CREDENTIALS_DIRECTORY" not in os.environ:
            return  # it is there only while the service runs, and this is not the service
        raise ValueError(f"{path} is not there: LoadCredential= in the unit, and the file it names, bring it") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}: {path}") from None
    wrong = wrong_mode(path, status)
    if wrong:
        raise ValueError(wrong)


def read_secret(path: str) -> str:
    """The first line. Raises ValueError with a sentence where it cannot be read, is open to others or is empty."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}: {path}") from None
    try:
        wrong = wrong_mode(path, os.fstat(descriptor))
        if wrong:
            raise ValueError(wrong)
        data = os.read(descriptor, SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}: {path}") from None
    finally:
        os.close(descriptor)
    try:
        secret = data.decode("utf-8").partition("\n")[0].strip()
    except UnicodeDecodeError:
        raise ValueError(f"is not text: {path}") from None
    if not secret or len(data) > SECRET_BYTES_MAX:
        raise ValueError(f"must hold one line of 1 to {SECRET_BYTES_MAX} bytes: {path}")
    return secret
