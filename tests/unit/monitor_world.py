"""A made-up machine as a folder of kernel files, for what reads them, with a clock that moves when told to."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tidegate.model.sample import Disk, Memory
from tidegate.monitor.machine import Machine
from tidegate.monitor.portable import Portable

PID = 100
MIB = 1 << 20
GIB = 1 << 30
TICKS = 100  # a second
PRESSURE = "some avg10=0.00 avg60=0.00 avg300=0.00 total={some}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total={full}\n"
V2 = "30 20 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1 = (
    "31 20 0:2 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 20 0:3 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
)


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def wall(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=self.now_s)

    def monotonic_s(self) -> float:
        return self.now_s


class Nothing(Portable):
    """A psutil that knows nothing."""

    def cpu_times(self) -> tuple[float, float, int] | None:
        return None

    def own_cpu_s(self, pid: int) -> float | None:
        return None

    def load_average(self) -> float | None:
        return None

    def memory(self) -> Memory | None:
        return None

    def swap(self) -> tuple[int, int, int, int] | None:
        return None

    def disks(self) -> tuple[Disk, ...] | None:
        return None


class World:
    """Four CPUs, 16 GiB of which 8 are available, no swap, one disk; nobody waits for anything."""

    def __init__(self, root: Path, cpus: int = 4) -> None:
        self.root = root
        self.cpus = cpus
        self.clock = FakeClock()
        self.runnable(1)
        self.stat(0, 0)
        self.memory(8 * GIB)
        self.swap(0, 0)
        self.disk(0, 0, 0)
        self.write("sys/block/vda/device", "")
        self.write("sys/block/loop0/size", "")
        for name in ("cpu", "memory", "io"):
            self.pressure(name, 0, 0)
        self.process(PID, parent=1)
        self.cgroup("", "")

    def machine(self, *, affinity: int | None = None, portable: Portable | None = None) -> Machine:
        return Machine(
            self.root,
            PID,
            clock=self.clock,
            affinity=lambda pid: self.cpus if affinity is None else affinity,
            portable=portable or Nothing(),
        )

    def write(self, path: str, text: str | bytes) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text.encode() if isinstance(text, str) else text)

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    def runnable(self, threads: int, load1: float = 0.5) -> None:
        self.write("proc/loadavg", f"{load1:.2f} 0.40 0.30 {threads}/145 1556\n")

    def stat(self, busy_s: float, idle_s: float, *, nice_s: float = 0, steal_s: float = 0, iowait_s: float = 0) -> None:
        ticks = [round(one * TICKS) for one in (busy_s, nice_s, 0, idle_s, iowait_s, 0, 0, steal_s, 0, 0)]
        each = "".join(f"cpu{number} 0 0 0 0 0 0 0 0 0 0\n" for number in range(self.cpus))
        self.write("proc/stat", f"cpu  {' '.join(map(str, ticks))}\n{each}intr 5 1 2\nctxt 99\n")

    def memory(self, available: int, total: int = 16 * GIB) -> None:
        self._available, self._total = available, total
        self._meminfo()

    def swap(self, total: int, free: int) -> None:
        self._swap = (total, free)
        self._meminfo()

    def _meminfo(self) -> None:
        total, free = getattr(self, "_swap", (0, 0))
        self.write(
            "proc/meminfo",
            f"MemTotal: {self._total // 1024} kB\nMemFree: 1024 kB\nMemAvailable: {self._available // 1024} kB\n"
            f"Cached: 4096 kB\nSwapTotal: {total // 1024} kB\nSwapFree: {free // 1024} kB\nHugePages_Total: 0\n",
        )

    def disk(self, read_bytes: int, written_bytes: int, busy_ms: int) -> None:
        counted = f"0 0 {read_bytes // 512} 0 0 0 {written_bytes // 512} 0 0 {busy_ms} 0 0 0 0 0 0 0"
        self.write(
            "proc/diskstats",
            f" 254 0 vda {counted}\n 254 1 vda1 {counted}\n 7 0 loop0 {counted}\n 253 0 dm-0 {counted}\n",
        )

    def pressure(self, name: str, some_us: int, full_us: int, folder: str = "") -> None:
        place = f"{folder}/{name}.pressure" if folder else f"proc/pressure/{name}"
        self.write(place, PRESSURE.format(some=some_us, full=full_us))

    def process(
        self, pid: int, *, parent: int, cpu_s: float = 0, reaped_s: float = 0, ran_s: float = 0, waited_s: float = 0
    ) -> None:
        ticks = f"{round(cpu_s * TICKS)} 0 {round(reaped_s * TICKS)} 0"
        self.write(f"proc/{pid}/stat", f"{pid} (a) b) c) S {parent} 1 1 0 -1 4194304 1 1 0 0 {ticks} 20 0 1 0 5 0\n")
        self.write(f"proc/{pid}/schedstat", f"{round(ran_s * 1e9)} {round(waited_s * 1e9)} 7\n")

    def children(self, pid: int, *pids: int) -> None:
        self.write(f"proc/{pid}/task/{pid}/children", " ".join(map(str, pids)) + " ")

    def cgroup(self, where: str, mounted: str) -> None:
        self.write(f"proc/{PID}/cgroup", where)
        self.write(f"proc/{PID}/mountinfo", mounted)
