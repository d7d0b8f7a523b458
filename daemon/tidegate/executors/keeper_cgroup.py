"""Control groups for trees, where the kernel lets us make them. Part of the keeper's process: standard library only.

A cgroup holds a tree together whatever it forks, so nothing of it can hide. Moving a process into one costs 400 µs
(an RCU grace period, mkdir only 21), so an attempt moves there when it has lived for a moment, and its cgroup is used
again by the next. Until then, and where there is none, the keeper finds the tree as its subreaper (keeper_tree.py).
"""

import os

MEMORY = (b"anon", b"shmem")  # not memory.current: it counts page cache, and one tar would look like all memory


def delegated() -> str | None:
    """Our own cgroup (version 2), if whoever made it said that we may divide it: systemd's Delegate=yes."""
    try:
        with open("/proc/self/cgroup") as file:
            path = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), "/")
        with open("/proc/self/mountinfo") as file:
            mounts = [line.split() for line in file if " - cgroup2 " in line]
    except OSError:
        return None
    if path == "/" or not mounts:
        return None
    folder = mounts[-1][4] + path
    for name in ("trusted.delegate", "user.delegate"):
        try:
            if os.getxattr(folder, name) == b"1":
                return folder
        except OSError:
            continue
    return None


def write(path: str, text: str) -> bool:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def processes(cgroup: str) -> list[int]:
    """What lives there; zombies are not listed."""
    try:
        with open(f"{cgroup}/cgroup.procs", "rb") as file:
            return [int(line) for line in file]
    except OSError:
        return []


def kill(cgroup: str) -> bool:
    """KILL everything in it, in one step. False before Linux 5.14."""
    return write(f"{cgroup}/cgroup.kill", "1")


def memory_bytes(cgroup: str) -> int | None:
    """Anonymous and shared memory of all in it; None where the memory controller is not there."""
    try:
        with open(f"{cgroup}/memory.stat", "rb") as file:
            return sum(int(line.split()[1]) for line in file if line.split()[0] in MEMORY)
    except OSError:
        return None


class Cgroups:
    """One cgroup for each attempt that needs one; empty ones wait for the next."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._free: list[str] = []
        self._made = 0

    @classmethod
    def begin(cls, root: str | None) -> "Cgroups | None":
        """Take the cgroup into use: the keeper itself moves into a leaf, as only leaves may hold processes."""
        root = root or delegated()
        if root is None:
            return None
        try:
            os.makedirs(f"{root}/keeper", exist_ok=True)
        except OSError:
            return None
        if not write(f"{root}/keeper/cgroup.procs", str(os.getpid())):
            return None
        for controller in ("memory", "pids"):
            write(f"{root}/cgroup.subtree_control", f"+{controller}")  # what is not there is done without
        return cls(root)

    def take(self) -> str | None:
        while self._free:
            cgroup = self._free.pop()
            if not processes(cgroup):
                return cgroup
        while True:
            self._made += 1
            cgroup = f"{self.root}/run-{self._made}"
            try:
                os.mkdir(cgroup)
            except FileExistsError:
                continue  # of an earlier keeper; what lives there is not ours
            except OSError:
                return None
            return cgroup

    def give_back(self, cgroup: str) -> None:
        self._free.append(cgroup)

    def end(self) -> None:
        """Leave nothing behind but what still lives."""
        for cgroup in self._free:
            try:
                os.rmdir(cgroup)
            except OSError:
                continue
