"""What a process uses, and what machine this is, from /proc. Reads only."""

import os
import platform
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MIB = 1024 * 1024


def cpu_s(pid: int, *, with_reaped: bool = False) -> float:
    """CPU seconds of a process so far, to 10 ms; with_reaped adds its children that were waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    utime, stime, cutime, cstime = (int(field) for field in fields[11:15])
    return (utime + stime + (cutime + cstime if with_reaped else 0)) * TICK_S


def precise_cpu_s(pid: int) -> float:
    """CPU seconds of a process, its ended threads too, to the nanosecond: an idle minute is less than one tick."""
    clock_id = ((~pid) << 3) | 2  # what clock_getcpuclockid(3) makes of a pid: CPUCLOCK_SCHED of the whole process
    return time.clock_gettime_ns(clock_id) / 1e9


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def rollup_bytes(pid: int) -> dict[str, int]:
    """Rss, Pss and Private_* (as Uss) of smaps_rollup, in bytes."""
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        sizes[name] = int(value.split()[0]) * 1024
    return {
        "rss": sizes["Rss"],
        "pss": sizes["Pss"],
        "uss": sizes["Private_Clean"] + sizes["Private_Dirty"],
    }


def footprint_bytes(pids: Iterable[int]) -> int | None:
    """Physical pages that these processes map, each counted once: their PSS if nothing else ran on the machine.

    PSS shrinks with every other process that shares a library (this benchmark is one); this does not. Needs the
    page frame numbers of /proc/PID/pagemap, hence CAP_SYS_ADMIN: None without it.
    """
    frames: set[int] = set()
    for pid in pids:
        with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                span, *_, name = (line + " ").split(" ", 5)
                if name.strip() in ("[vvar]", "[vsyscall]", "[vdso]", "[vvar_vclock]"):
                    continue
                begin, end = (int(edge, 16) // PAGE_BYTES for edge in span.split("-"))
                pagemap.seek(begin * 8)
                entries = memoryview(pagemap.read((end - begin) * 8)).cast("Q")
                frames.update(entry & ((1 << 55) - 1) for entry in entries if entry >> 63)
    if frames <= {0}:  # the kernel hides the numbers from us
        return None
    return len(frames) * PAGE_BYTES


def memory(pids: list[int]) -> dict[str, float | None]:
    """RSS, PSS, USS and footprint of a group of processes together, MiB."""
    parts = [rollup_bytes(pid) for pid in pids]
    whole = footprint_bytes(pids)
    sums = {f"{key}_mib": round(sum(part[key] for part in parts) / MIB, 2) for key in ("rss", "pss", "uss")}
    return {**sums, "footprint_mib": None if whole is None else round(whole / MIB, 2)}


def description() -> dict[str, object]:
    """The machine and the moment, for the head of each result."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit.stdout.strip() or "unknown",
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_kib / 1024 / 1024, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
    }
