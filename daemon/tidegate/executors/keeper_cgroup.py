"""Control groups for trees, where the kernel lets us make them. Part of the keeper's process: standard library only.

A cgroup holds a tree together whatever it forks, so nothing of it can hide. Moving a process into one costs 400 µs
(an RCU grace period, mkdir only 21), so an attempt moves there when it has lived for a moment, and its cgroup is used
again by the next. Until then, and where there is none, the keeper finds the tree as its subreaper (keeper_tree.py).
"""

import os

CPU_PERIOD_US = 100_000  # the kernel's own
CPU_QUOTA_US_MIN = 1000  # the kernel takes no less
WORDS = ("run-", "limited-")  # how cgroups of attempts are called
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


def freeze(cgroup: str, still: bool) -> bool:
    """Hold everything in it still, or let it go on. KILL reaches it all the same. False before Linux 5.2."""
    return write(f"{cgroup}/cgroup.freeze", "1" if still else "0")


def memory_bytes(cgroup: str) -> int | None:
    """Anonymous and shared memory of all in it; None where the memory controller is not there."""
    try:
        with open(f"{cgroup}/memory.stat", "rb") as file:
            return sum(int(line.split()[1]) for line in file if line.split()[0] in MEMORY)
    except OSError:
        return None


def oom_kills(cgroup: str) -> int:
    """Processes of it that the kernel has killed for want of memory, its own limit's or the machine's."""
    try:
        with open(f"{cgroup}/memory.events", "rb") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(b"oom_kill ")), 0)
    except OSError:
        return 0


def limit_files(name: str, limit: int | float) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The controller that keeps this limit, and what to write. The first file must be there, the others may."""
    if name == "memory_bytes":  # without swap, or a program would only become slow; and the whole run ends, not a part
        return "memory", (("memory.max", str(limit)), ("memory.swap.max", "0"), ("memory.oom.group", "1"))
    if name == "cpu_cores":
        quota_us = max(round(limit * CPU_PERIOD_US), CPU_QUOTA_US_MIN)
        return "cpu", (("cpu.max", f"{quota_us} {CPU_PERIOD_US}"),)
    if name == "pids":
        return "pids", (("pids.max", str(limit)),)
    return "io", (("io.weight", str(limit)),)


class Cgroups:
    """One cgroup for each attempt that needs one; empty ones wait for the next."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._free: list[str] = []
        self._ended: list[str] = []  # to be removed
        self._enabled = {"memory", "pids"}  # controllers asked for; cpu and io cost everybody, so only where wanted
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
        for name in os.listdir(root):
            if name.startswith(WORDS):
                freeze(f"{root}/{name}", False)  # of a keeper that was killed: nobody else would ever let it go on
        return cls(root)

    def take_limited(self, limits: dict[str, int | float]) -> tuple[str | None, list[str]]:
        """A new cgroup with these limits, and the names of those that could not be set. None where no limit could."""
        cgroup = self._make("limited")
        if cgroup is None:
            return None, list(limits)
        unkept = []
        for name, limit in limits.items():
            controller, (first, *more) = limit_files(name, limit)
            if controller not in self._enabled:
                write(f"{self.root}/cgroup.subtree_control", f"+{controller}")
                self._enabled.add(controller)
            if not write(f"{cgroup}/{first[0]}", first[1]):
                unkept.append(name)
                continue
            for file, text in more:
                write(f"{cgroup}/{file}", text)
        if len(unkept) == len(limits):
            self.give_back(cgroup)
            return None, unkept
        return cgroup, unkept

    def take(self) -> str | None:
        while self._free:
            cgroup = self._free.pop()
            if not processes(cgroup):
                return cgroup
        return self._make("run")

    def _make(self, word: str) -> str | None:
        while True:
            self._made += 1
            cgroup = f"{self.root}/{word}-{self._made}"
            try:
                os.mkdir(cgroup)
            except FileExistsError:
                continue  # of an earlier keeper; what lives there is not ours
            except OSError:
                return None
            return cgroup

    def give_back(self, cgroup: str) -> None:
        """Nothing of its attempt is left."""
        if not cgroup.startswith(f"{self.root}/limited-"):
            self._free.append(cgroup)
            return
        try:
            os.rmdir(cgroup)  # its limits are one job's
        except OSError:
            self._ended.append(cgroup)  # the kernel is still taking down what was in it

    def end(self) -> None:
        """Leave nothing behind but what still lives."""
        for cgroup in self._free + self._ended:
            try:
                os.rmdir(cgroup)
            except OSError:
                continue
