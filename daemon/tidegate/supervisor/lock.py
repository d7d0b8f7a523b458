"""One daemon per state directory, by flock. The lock dies with its holder, so there are no stale ones."""

import fcntl
import os
from pathlib import Path
from typing import IO


class StateLockedError(Exception):
    """Another daemon holds the state directory; the text says which."""


def acquire(state_dir: Path) -> IO[str]:
    """Hold the state directory for as long as the returned file is open. Raises StateLockedError at once."""
    path = state_dir / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    file = os.fdopen(descriptor, "r+", encoding="ascii", errors="replace")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = file.read(200).strip() or "another process"
        file.close()
        raise StateLockedError(
            f"{state_dir} is in use by {holder}; stop it first, or give this daemon another state directory"
            " (STATE_DIRECTORY) and another runtime directory (RUNTIME_DIRECTORY)"
        ) from error
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"tidegate, pid {os.getpid()}\n".encode())
    except OSError:
        pass  # a full disk: the lock holds all the same, only its holder is not named
    return file
