"""Who holds a lock on the history file, from /proc/locks. Reads, and never raises for what it does not find."""

import os
from pathlib import Path

LOCKS = Path("/proc/locks")


def lock_holder(path: Path, locks: Path = LOCKS) -> str:
    """ "pid 812 (sqlite3)" for another process with a write lock on the file or beside it; "" if none is seen."""
    wanted = set()
    for side in ("", "-wal", "-shm"):
        try:
            status = Path(f"{path}{side}").stat()
        except OSError:
            continue
        wanted.add(f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}")
    try:
        lines = locks.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.split()  # 1: POSIX ADVISORY WRITE 812 fe:00:1234 120 120
        if len(fields) >= 6 and fields[3] == "WRITE" and fields[5] in wanted and fields[4] != str(os.getpid()):
            return f"pid {fields[4]}{_name(fields[4])}"
    return ""


def _name(pid: str) -> str:
    try:
        return f" ({Path('/proc', pid, 'comm').read_text(encoding='utf-8', errors='replace').strip()})"
    except OSError:
        return ""
