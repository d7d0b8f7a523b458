"""A memory cgroup to starve in: a limit of its own, and the kernel's count of whom it killed there. Version 1 below the
cgroup that this runs in; version 2 below the top, where the controller is on.

Bans: it holds only what is put into it, and is gone with its context.
"""

import contextlib
import itertools
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final

from tests.bench.ground import Ground, Missed, until

V1: Final = Path("/sys/fs/cgroup/memory")
V2: Final = Path("/sys/fs/cgroup")
GONE_S: Final = 10.0
LOOK_S: Final = 0.2
_numbers = itertools.count()


def own_v1() -> Path | None:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return V1 / path.strip("/")
    return None


def home() -> tuple[Path, bool] | None:
    """Where a cell can be made, and whether that is version 2; None: nowhere here."""
    below = own_v1()
    if below is not None and os.access(below, os.W_OK):
        return below, False
    control = V2 / "cgroup.subtree_control"
    if control.exists() and "memory" in control.read_text().split() and os.access(V2, os.W_OK):
        return V2, True
    return None


class Cell:
    """A context. `wrap(program)` is a program that goes into it first."""

    def __init__(self, ground: Ground, limit_bytes: int) -> None:
        found = home()
        if found is None:
            raise Missed("no memory cgroup can be made here: it needs root, and the memory controller")
        below, self._unified = found
        self.limit_bytes = limit_bytes
        self.folder = below / f"tidegate-bench-{os.getpid()}-{next(_numbers)}"
        self._ground = ground
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._begin_s = time.monotonic()
        self.used: list[tuple[float, float]] = []  # seconds since the begin, MiB without what can be given back

    def __enter__(self) -> "Cell":
        self.folder.mkdir()
        name = "memory.max" if self._unified else "memory.limit_in_bytes"
        (self.folder / name).write_text(str(self.limit_bytes))
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        with contextlib.suppress(Missed):
            until(self._is_gone, GONE_S, f"{self.folder} is empty")

    def _is_gone(self) -> bool:
        try:
            self.folder.rmdir()
        except OSError:  # somebody is still in it
            return False
        return True

    def _live(self) -> None:
        name = "memory.current" if self._unified else "memory.usage_in_bytes"
        cache = "inactive_file" if self._unified else "total_inactive_file"
        while not self._over.wait(LOOK_S):
            used = int((self.folder / name).read_text()) - self._field("memory.stat", cache)
            self.used.append((round(time.monotonic() - self._begin_s, 2), round(used / (1 << 20), 1)))

    def _field(self, file: str, name: str) -> int:
        for line in (self.folder / file).read_text().splitlines():
            if line.startswith(name + " "):
                return int(line.split()[1])
        return 0

    @property
    def oom_kills(self) -> int:
        """Processes in it that the kernel has killed."""
        return self._field("memory.events" if self._unified else "memory.oom_control", "oom_kill")

    def wrap(self, program: str) -> str:
        """The path of a program that enters the cell and becomes `program`."""
        path = self._ground.folder("into-cell") / Path(program).name
        path.write_text(f'#!/bin/sh\necho $$ >{self.folder}/cgroup.procs && exec {program} "$@"\n')
        path.chmod(0o755)
        return str(path)
