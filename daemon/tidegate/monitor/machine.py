"""The machine as it is now: kernel files to `Reading`. Keeps no history, decides nothing, changes nothing; for one
thread at a time. Where a file is missing, the next best source serves, and `readings_in_use` says which."""

import os
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from tidegate import clock as real_clock
from tidegate.model.sample import Disk, InUse, Memory, Pressure, Reading, Scope
from tidegate.monitor import formats, process
from tidegate.monitor.cgroup import Cgroups, Level
from tidegate.monitor.kept import Kept
from tidegate.monitor.portable import Portable

PID_NAMESPACE_FIRST: Final = "pid:[4026531836]"  # PROC_PID_INIT_INO: the machine's own; any other is a container's
STAT_BYTES: Final = 64 * 1024  # as much of /proc/stat as tells all CPUs of any machine
CORES_MIN: Final = 0.01  # under the kernel's own smallest quota (1 ms of 100): nothing is ever divided by zero
VMSTAT: Final = (b"pswpin", b"pswpout")
MEMINFO: Final = (b"MemTotal", b"MemAvailable", b"MemFree", b"Cached", b"SwapTotal", b"SwapFree")


class Clock(Protocol):
    """What is asked for the time: `tidegate.clock`, or a fake."""

    def wall(self) -> datetime: ...
    def monotonic_s(self) -> float: ...


def usable_cpus(pid: int) -> int:
    """CPUs that the affinity of a process leaves it."""
    if hasattr(os, "sched_getaffinity"):
        try:
            return len(os.sched_getaffinity(pid))
        except OSError:  # it has ended
            return os.cpu_count() or 1
    return os.cpu_count() or 1


class Machine:
    """Reads for one process (ours, unless `pid` names another), whose cgroups and affinity count; `root` is for
    tests."""

    def __init__(
        self,
        root: Path = Path("/"),
        pid: int | None = None,
        *,
        clock: Clock = real_clock,
        affinity: Callable[[int], int] = usable_cpus,
        portable: Portable | None = None,
    ) -> None:
        self._root = str(root).rstrip("/")
        self._proc = f"{self._root}/proc"
        self._pid = pid if pid is not None else os.getpid()
        self._clock = clock
        self._affinity = affinity
        self._portable = portable or Portable()
        self._watched: tuple[str, ...] = (str(self._pid),)
        self._cgroups = Cgroups(self._root, str(self._pid))
        self._kept: dict[str, Kept] = {}
        self._runnable_sum = 0.0
        self._looks = 0
        self._counted = False  # whether the last look told anything
        self._load_average: float | None = None
        self._delays = process.Delays()
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")
        self._in_use: dict[str, InUse] = {}
        self._whole_disks = self._find_disks()
        self._contained = self._find_container()
        listed = process.lists_children(self._proc, str(self._pid))
        self._family: process.Family = "listed" if listed else "scanned"

    # --- asked from outside ---------------------------------------------------------------------

    def watch(self, pids: Iterable[int]) -> None:
        """These processes are ours too, with all below them, beside our own; in place of those named before."""
        named = tuple(dict.fromkeys((str(self._pid), *map(str, pids))))
        if len(named) > process.PROCESSES_MAX:
            raise ValueError(f"at most {process.PROCESSES_MAX - 1} processes can be watched, not {len(named) - 1}")
        self._watched = named

    def glance(self) -> None:
        """Count the runnable threads once more: one read. The more often, the better the mean of the next sample."""
        found = formats.loadavg(self._read("loadavg", 256))
        self._counted = found is not None
        if found is None:
            self._load_average = self._portable.load_average()
            return
        self._load_average = found[0]
        self._runnable_sum += max(0, found[1] - 1)  # whoever reads is running
        self._looks += 1

    def available(self) -> Memory | None:
        """What can be taken now, without swap."""
        self._cgroups.look()
        told = formats.fields(self._read("meminfo", 4096), MEMINFO)
        return self._available(told, self._cgroups.limits())

    def read(self, own: bool = True) -> Reading:
        """Everything, with a glance of its own. `own`: also what our processes use, about 60 µs for each of them."""
        self.glance()
        self._cgroups.look()
        cpu = self._cpu_times()
        cpus = max(1, cpu[2] if cpu is not None and cpu[2] else os.cpu_count() or 1)
        cores, tightest = self._cores(cpus)
        limits = self._cgroups.limits()
        told = formats.fields(self._read("meminfo", 4096), MEMINFO)
        memory = self._available(told, limits)
        swap = self._swap(told)
        used = self._own() if own else None
        if used is not None:
            self._delays.add(used.delays)
        delayed = used is not None and used.delays
        scope, pressures = self._pressures(tightest, [level for _, level in limits])
        if used is not None:
            self._tell_load(cores, cpus, used, pressures[0])
        return Reading(
            at=self._clock.wall(),
            at_s=self._clock.monotonic_s(),
            cores=cores,
            cpus=cpus,
            runnable_sum=self._runnable_sum if self._looks else None,
            runnable_looks=self._looks,
            load_average=self._load_average,
            busy_s=None if cpu is None else cpu[0],
            idle_s=None if cpu is None else cpu[1],
            own_cpu_s=None if used is None else used.cpu_s,
            own_run_s=self._delays.run_s if delayed else None,
            own_wait_s=self._delays.wait_s if delayed else None,
            quota_used_s=None if tightest is None else tightest.used_s(),
            throttled_s=None if tightest is None else tightest.throttled_s(),
            pressure_of=scope,
            cpu=pressures[0],
            memory=pressures[1],
            io=pressures[2],
            available_bytes=None if memory is None else memory.available_bytes,
            memory_limit_bytes=None if memory is None else memory.limit_bytes,
            swap_total_bytes=swap[0],
            swap_free_bytes=swap[1],
            swapped_in_bytes=swap[2],
            swapped_out_bytes=swap[3],
            disks=self._disks(),
        )

    def readings_in_use(self) -> tuple[InUse, ...]:
        """Where each kind of reading is from, and what is missing where it is not the first choice."""
        if not self._in_use:
            self.read()
        return tuple(self._in_use.values())

    def close(self) -> None:
        """Give all descriptors back. A later reading opens them again."""
        self._cgroups.close()
        for kept in self._kept.values():
            kept.close()

    # --- each kind of reading -------------------------------------------------------------------

    def _read(self, name: str, bytes_max: int) -> bytes | None:
        kept = self._kept.get(name)
        if kept is None:
            kept = self._kept[name] = Kept(f"{self._proc}/{name}")
        return kept.read(bytes_max)

    def _say(self, what: str, source: str, instead: str = "") -> None:
        self._in_use[what] = InUse(what, source, instead)

    def _cores(self, cpus: int) -> tuple[float, Level | None]:
        allowed = min(self._affinity(self._pid), cpus)
        quota = self._cgroups.quota()
        if quota is None or quota[0] >= allowed:
            self._say("cores", "affinity")
            return float(max(1, allowed)), None
        self._say("cores", f"CPU quota of {self._name(quota[1])}")
        return max(CORES_MIN, quota[0]), quota[1]

    def _name(self, level: Level) -> str:
        return f"{level.folder.removeprefix(self._root)} (cgroup v{2 if level.unified else 1})"

    def _cpu_times(self) -> tuple[float, float, int] | None:
        found = formats.cpu_times(self._read("stat", STAT_BYTES), self._ticks_per_s)
        if found is not None:
            self._say("cpu", "/proc/stat")
            return found
        found = self._portable.cpu_times()
        self._say("cpu", "psutil" if found is not None else "none", "/proc/stat cannot be read")
        return found

    def _own(self) -> process.Own:
        own = process.own(self._proc, self._watched, self._ticks_per_s, self._family)
        if own.cpu_s is None:
            spent = self._portable.own_cpu_s(self._pid)
            self._say("own", "psutil" if spent is not None else "none", f"/proc/{self._pid}/stat cannot be read")
            return process.Own(spent, own.delays, True, "none")
        missing = []
        if own.family != "listed":
            missing.append("the kernel lists no children (CONFIG_PROC_CHILDREN): all processes are looked through")
        if not own.complete:
            missing.append(
                f"there are more than {process.PROCESSES_MAX} processes of ours, the others count as foreign"
            )
        self._say("own", "/proc/PID/stat of our processes", "; ".join(missing))
        return own

    def _tell_load(self, cores: float, cpus: int, own: process.Own, pressure: Pressure | None) -> None:
        if cores >= cpus and self._counted:
            self._say("load", "runnable threads (/proc/loadavg)")
            return
        missing = "/proc/loadavg cannot be read" if cores >= cpus else "only a part of the machine is ours"
        if own.delays:
            self._say("load", "run-delay of our processes (/proc/PID/schedstat)", missing)
        elif pressure is not None:
            self._say("load", "pressure (PSI)", missing + ", no schedstat")
        elif self._load_average is not None:
            self._say("load", "load average", missing + ", no schedstat, no PSI")
        else:
            self._say("load", "none", missing + ", no schedstat, no PSI, no load average")

    def _available(self, told: dict[bytes, int], limits: list[tuple[Memory, Level]]) -> Memory | None:
        whole: Memory | None
        if b"MemTotal" in told and b"MemAvailable" in told:
            whole = Memory(told[b"MemAvailable"], told[b"MemTotal"])
            source, missing = "MemAvailable", ""
        elif b"MemTotal" in told and b"MemFree" in told:  # before Linux 3.14, and where somebody hides it
            whole = Memory(told[b"MemFree"] + told.get(b"Cached", 0) // 2, told[b"MemTotal"])
            source, missing = "MemFree and half of Cached", "/proc/meminfo has no MemAvailable"
        else:
            whole, missing = self._portable.memory(), "/proc/meminfo cannot be read"
            source = "psutil" if whole is not None else "none"
        if limits:
            source += " and the limits of " + ", ".join(self._name(level) for _, level in limits)
        self._say("memory", source, missing)
        found = [memory for memory, _ in limits] + ([whole] if whole is not None else [])
        if not found:
            return None
        return Memory(min(memory.available_bytes for memory in found), min(memory.limit_bytes for memory in found))

    def _swap(self, told: dict[bytes, int]) -> tuple[int | None, int | None, int | None, int | None]:
        total, free = told.get(b"SwapTotal"), told.get(b"SwapFree")
        if total is None or free is None:
            found = self._portable.swap()
            self._say("swap", "psutil" if found is not None else "none", "/proc/meminfo does not tell it")
            return found if found is not None else (None, None, None, None)
        if not total:  # 30 µs saved where there is nothing to be told
            self._say("swap", "there is none")
            return total, free, 0, 0
        pages = formats.fields(self._read("vmstat", STAT_BYTES), VMSTAT)
        moved = [pages[name] * self._page_bytes if name in pages else None for name in VMSTAT]
        self._say("swap", "/proc/meminfo, /proc/vmstat", "" if len(pages) == 2 else "/proc/vmstat tells no traffic")
        return total, free, moved[0], moved[1]

    def _disks(self) -> tuple[Disk, ...] | None:
        found = formats.diskstats(self._read("diskstats", STAT_BYTES), self._whole_disks)
        if found is not None:
            self._say("disk", "/proc/diskstats")
            return found
        found = self._portable.disks()
        self._say("disk", "psutil" if found is not None else "none", "/proc/diskstats cannot be read")
        return found

    def _pressures(
        self, tightest: Level | None, limited: list[Level]
    ) -> tuple[Scope, tuple[Pressure | None, Pressure | None, Pressure | None]]:
        """The machine's; that of the nearest cgroup with a limit, or of the whole container, where we are in one."""
        unified = self._cgroups.unified
        bound = [level.folder for level in (*limited, *([tightest] if tightest is not None else []))]
        nearest = next((level for level in unified if level.folder in bound), None)
        if nearest is None and self._contained and unified:
            nearest = unified[-1]
        if nearest is not None:
            cpu, memory, io = (formats.pressure(nearest.read(f"{name}.pressure")) for name in ("cpu", "memory", "io"))
            if cpu is not None or memory is not None or io is not None:
                self._say("pressure", f"that of {self._name(nearest)}")
                return "cgroup", (cpu, memory, io)
        cpu, memory, io = (formats.pressure(self._read(f"pressure/{name}", 512)) for name in ("cpu", "memory", "io"))
        told = {"cpu": cpu, "memory": memory, "io": io}
        lacking = [name for name, pressure in told.items() if pressure is None]
        if len(lacking) == len(told):
            self._say("pressure", "none", "the kernel tells no pressure (PSI; boot with psi=1)")
            return "none", (None, None, None)
        missing = f"no pressure on {', '.join(lacking)} is told" if lacking else ""
        if nearest is not None:
            missing = "; ".join(filter(None, (f"{self._name(nearest)} tells no pressure of its own", missing)))
        self._say("pressure", "the machine's (/proc/pressure)", missing)
        return "machine", (cpu, memory, io)

    # --- looked at once -------------------------------------------------------------------------

    def _find_disks(self) -> frozenset[str]:
        """Disks with hardware beneath: no loops, no memory, nothing made of other disks."""
        folder = f"{self._root}/sys/block"
        try:
            with os.scandir(folder) as entries:
                return frozenset(entry.name for entry in entries if os.access(f"{folder}/{entry.name}/device", os.F_OK))
        except OSError:
            return frozenset()

    def _find_container(self) -> bool:
        try:
            return Path(f"{self._proc}/{self._pid}/ns/pid").readlink().as_posix() != PID_NAMESPACE_FIRST
        except OSError:
            return False
