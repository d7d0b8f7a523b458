"""The cgroups above a process, version 1 and 2, nested, in containers: how much CPU and memory they leave it. Reads
only."""

import re
from typing import Final

from msgspec import Struct

from tidegate.model.sample import Memory
from tidegate.monitor import formats
from tidegate.monitor.kept import Kept, read_once

LEVELS_MAX: Final = 64  # cgroups above a process; deeper trees are not made by people
_OCTAL: Final = re.compile(r"\\(\d{3})")  # how mountinfo writes blanks


class Mount(Struct, frozen=True):
    """One hierarchy where it is mounted."""

    root: str  # which of its cgroups is seen at `point`: not "/" in containers without a namespace
    point: str
    controllers: frozenset[str]  # of version 1; empty for version 2
    unified: bool


def mounts(text: str) -> list[Mount]:
    """From /proc/PID/mountinfo. Of two mounts at one place the later one is seen."""
    found: dict[str, Mount] = {}
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        place, kind = left.split(), right.split()
        if len(place) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        root, point = (_OCTAL.sub(lambda code: chr(int(code[1], 8)), word) for word in place[3:5])
        unified = kind[0] == "cgroup2"
        found[point] = Mount(root, point, frozenset() if unified else frozenset(kind[2].split(",")), unified)
    return list(found.values())


def paths(text: str) -> dict[str, str]:
    """/proc/PID/cgroup: controller → cgroup; version 2 as ""."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            found |= dict.fromkeys(parts[1].split(","), parts[2])
    return found


def chain(mount: Mount, path: str) -> list[str]:
    """Folders from the process's own cgroup up to where the hierarchy is mounted. What is above that cannot be seen."""
    inside = path if mount.root == "/" else ""
    if mount.root != "/" and (path == mount.root or path.startswith(mount.root + "/")):
        inside = path[len(mount.root) :]
    names = [name for name in inside.split("/") if name]
    if ".." in names:  # of a namespace that we are not in
        names = []
    names = names[:LEVELS_MAX]
    return [mount.point + "".join("/" + name for name in names[:depth]) for depth in range(len(names), -1, -1)]


class Level:
    """One cgroup of the chain, with its files kept open."""

    def __init__(self, folder: str, unified: bool) -> None:
        self.folder = folder
        self.unified = unified
        self.accounts: Level | None = None  # version 1: the same cgroup in cpuacct, where that is mounted by itself
        self._kept: dict[str, Kept] = {}

    def read(self, name: str) -> bytes | None:
        kept = self._kept.get(name)
        if kept is None:
            kept = self._kept[name] = Kept(f"{self.folder}/{name}")
        return kept.read()

    def close(self) -> None:
        for kept in self._kept.values():
            kept.close()
        if self.accounts is not None:
            self.accounts.close()

    def quota_cores(self) -> float | None:
        """None: no quota."""
        if self.unified:
            return formats.quota_v2(self.read("cpu.max"))
        quota = formats.number(self.read("cpu.cfs_quota_us"))  # -1, no number to us, is none
        period = formats.number(self.read("cpu.cfs_period_us"))
        return quota / period if quota and period else None

    def used_s(self) -> float | None:
        """CPU time of all in it."""
        if self.unified:
            usage_us = formats.fields(self.read("cpu.stat"), (b"usage_usec",)).get(b"usage_usec")
            return None if usage_us is None else usage_us / 1e6
        usage_ns = formats.number((self.accounts or self).read("cpuacct.usage"))
        return None if usage_ns is None else usage_ns / 1e9

    def throttled_s(self) -> float | None:
        name, unit = (b"throttled_usec", 1e6) if self.unified else (b"throttled_time", 1e9)
        throttled = formats.fields(self.read("cpu.stat"), (name,)).get(name)
        return None if throttled is None else throttled / unit

    def memory(self) -> Memory | None:
        """None: no limit. Page cache that was not used of late can be taken back, so it counts as available.

        memory.high counts as a limit: the kernel holds back whoever is above it until nothing moves.
        """
        if self.unified:
            limits = [formats.number(self.read(name)) for name in ("memory.max", "memory.high")]
            usage, cache = "memory.current", b"inactive_file"
        else:
            limits = [formats.number(self.read("memory.limit_in_bytes"))]
            usage, cache = "memory.usage_in_bytes", b"total_inactive_file"
        kept = [limit for limit in limits if limit is not None and limit < formats.NO_LIMIT_BYTES]
        used = formats.number(self.read(usage)) if kept else None
        if used is None:
            return None
        idle = formats.fields(self.read("memory.stat"), (cache,)).get(cache, 0)
        return Memory(max(0, min(kept) - used + min(idle, used)), min(kept))


class Cgroups:
    """All cgroups above one process, found anew when it is moved."""

    def __init__(self, root: str, process: str) -> None:
        self._root = root.rstrip("/")
        self._process = f"{self._root}/proc/{process}"
        self._where = Kept(f"{self._process}/cgroup")
        self._found: bytes | None = None
        self.memory: list[Level] = []
        self.cpu: list[Level] = []
        self.unified: list[Level] = []

    def look(self) -> None:
        """Follow the process if it was moved: one read."""
        where = self._where.read()
        if where == self._found:
            return
        self._release()
        self._found = where
        told = paths((where or b"").decode(errors="surrogateescape"))
        mounted = mounts((read_once(f"{self._process}/mountinfo", 1 << 20) or b"").decode(errors="surrogateescape"))
        self.memory = self._levels(mounted, told, "memory")
        self.cpu = self._levels(mounted, told, "cpu")
        self.unified = self._levels(mounted, told, "")
        if told.get("cpu") == told.get("cpuacct"):
            for level, accounts in zip(self.cpu, self._levels(mounted, told, "cpuacct"), strict=False):
                level.accounts = accounts

    def _levels(self, mounted: list[Mount], told: dict[str, str], controller: str) -> list[Level]:
        first = [mount for mount in mounted if controller in mount.controllers]
        second = [mount for mount in mounted if mount.unified]
        name = controller if first else ""
        if not (first or second) or name not in told:
            return []
        mount = (first or second)[-1]
        return [Level(self._root + folder, mount.unified) for folder in chain(mount, told[name])]

    def quota(self) -> tuple[float, Level] | None:
        """The tightest CPU quota above us, in cores, and whose it is."""
        found = [(cores, level) for level in self.cpu if (cores := level.quota_cores()) is not None]
        return min(found, key=lambda pair: pair[0], default=None)

    def limits(self) -> list[tuple[Memory, Level]]:
        """Every memory limit above us."""
        return [(memory, level) for level in self.memory if (memory := level.memory()) is not None]

    def _release(self) -> None:
        for level in (*self.memory, *self.cpu, *self.unified):
            level.close()

    def close(self) -> None:
        self._where.close()
        self._release()
        self._found = None
