"""Room for what runs leave: below a reserve of free disk nothing starts, and the reason says so. It frees nothing."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tidegate.model.event import StartsHeld

GATE: Final = "storage"
LIFT: Final = 1.1  # this much above the reserve before starts go on, so that they do not stutter
MIB: Final = 1024 * 1024


class Space:
    """Looks at the free space of the state folder: at each tick of the daemon, and more often while there is none."""

    def __init__(self, state_dir: Path, post: Callable[[StartsHeld], None]) -> None:
        self._state_dir = state_dir
        self._post = post
        self._held = False

    def look(self, reserve_bytes: int) -> bool:
        """Whether there is room. A change is told to the engine."""
        free_bytes = free(self._state_dir)
        short = free_bytes is not None and free_bytes < reserve_bytes * (LIFT if self._held else 1.0)
        if short and not self._held:
            reason = (
                f"{self._state_dir} has {(free_bytes or 0) // MIB} MiB free, less than the reserve of "
                f"{reserve_bytes // MIB} MiB; free some space, or lower reserve under [history]"
            )
            self._post(StartsHeld(GATE, reason))
        elif self._held and not short:
            self._post(StartsHeld(GATE, ""))
        self._held = short
        return not short


def free(folder: Path) -> int | None:
    """Bytes that the daemon's user can still write there; None where nobody can tell."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize
