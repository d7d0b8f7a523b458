"""@reboot: once per boot id, however often the daemon restarts. The mark is on disk before the jobs fire."""

import os
from pathlib import Path

BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")


def boot_id(path: Path = BOOT_ID_PATH) -> str:
    """The kernel's id of this boot; empty where there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def claim(state_dir: Path, current: str) -> bool:
    """True for the first daemon on this state in this boot. Durable before it returns. Raises OSError.

    A boot without an id cannot be told from the one before: better an @reboot job too often than never again.
    """
    mark = state_dir / "boot-id"
    try:
        if mark.read_text(encoding="ascii", errors="replace").strip() == current and current:
            return False
    except FileNotFoundError:
        pass
    fresh = state_dir / "boot-id.new"
    with fresh.open("w", encoding="ascii") as file:
        file.write(current + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(mark)
    folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True
