"""The formats of kernel files, from bytes to numbers. Pure. Anything that is not as the kernel writes it gives None."""

import re
from typing import Final

from tidegate.model.sample import Disk, Pressure

SECTOR_BYTES: Final = 512  # /proc/diskstats counts in these whatever the disk's own are
NO_LIMIT_BYTES: Final = 1 << 60  # cgroup v1 writes 2^63 less a page for "none"; no machine has an exabyte
DIGITS_MAX: Final = 20  # as 2^64 has; nothing longer is a number of the kernel's
_TOTAL: Final = re.compile(rb"^(some|full) .*\btotal=(\d{1,20})$", re.M)
_RUNNABLE: Final = re.compile(rb"^(\d{1,20}\.\d{1,20}) \S+ \S+ (\d{1,20})/\d+ ")


def _whole(word: bytes) -> bool:
    return word.isdigit() and len(word) <= DIGITS_MAX


def number(text: bytes | None) -> int | None:
    """A file with one whole number."""
    stripped = (text or b"").strip()
    return int(stripped) if _whole(stripped) else None


def pressure(text: bytes | None) -> Pressure | None:
    """PSI. Before Linux 5.13 cpu has no line for `full`."""
    totals = {name: int(total) for name, total in _TOTAL.findall(text or b"")}
    return Pressure(totals[b"some"], totals.get(b"full", 0)) if b"some" in totals else None


def loadavg(text: bytes | None) -> tuple[float, int] | None:
    """Load average of one minute, and threads that run or want to (whoever reads is one of them)."""
    found = _RUNNABLE.match(text or b"")
    return (float(found[1]), int(found[2])) if found else None


def cpu_times(text: bytes | None, ticks_per_s: int) -> tuple[float, float, int] | None:
    """/proc/stat: seconds busy, seconds idle, CPUs. Guests' time is in user's; waiting for disks is idle."""
    line, _, rest = (text or b"").partition(b"\n")
    words = line.split()
    if len(words) < 5 or words[0] != b"cpu" or not all(_whole(word) for word in words[1:]):
        return None
    ticks = [int(word) for word in words[1:9]] + [0] * (9 - len(words))
    user, nice, system, idle, iowait, irq, softirq, steal = ticks[:8]
    cpus = len(re.findall(rb"^cpu\d", rest, re.M))
    busy = user + nice + system + irq + softirq + steal
    return busy / ticks_per_s, (idle + iowait) / ticks_per_s, cpus


def fields(text: bytes | None, names: tuple[bytes, ...]) -> dict[bytes, int]:
    """`name value` or `name: value kB` lines, of these names, kB as bytes; what is missing or no number is left out."""
    found: dict[bytes, int] = {}
    for line in (text or b"").splitlines():
        words = line.split()
        if len(words) < 2:
            continue
        name = words[0].rstrip(b":")
        if name in names and _whole(words[1]):
            found[name] = int(words[1]) * (1024 if words[2:] == [b"kB"] else 1)
    return found


def process_cpu(text: bytes | None, ticks_per_s: int) -> float | None:
    """/proc/PID/stat: seconds of CPU, with those of children that were reaped. The name may hold anything but NUL."""
    words = (text or b"").rpartition(b")")[2].split()
    if len(words) < 15 or not all(_whole(word) for word in words[11:15]):
        return None
    return sum(int(word) for word in words[11:15]) / ticks_per_s


def parent(text: bytes | None) -> str | None:
    """/proc/PID/stat: the parent's pid."""
    words = (text or b"").rpartition(b")")[2].split()
    return words[1].decode() if len(words) > 1 and _whole(words[1]) else None


def pids(text: bytes | None) -> list[str]:
    """/proc/PID/task/TID/children."""
    return [word.decode() for word in (text or b"").split() if _whole(word)]


def schedstat(text: bytes | None) -> tuple[float, float] | None:
    """/proc/PID/schedstat: seconds on a CPU, seconds waiting for one. Of the first thread only."""
    words = (text or b"").split()
    if len(words) != 3 or not all(_whole(word) for word in words):
        return None
    return int(words[0]) / 1e9, int(words[1]) / 1e9


def quota_v2(text: bytes | None) -> float | None:
    """cpu.max in cores; None for "max"."""
    words = (text or b"").split()
    if len(words) != 2 or not all(_whole(word) for word in words) or not int(words[1]) or not int(words[0]):
        return None
    return int(words[0]) / int(words[1])


def diskstats(text: bytes | None, whole: frozenset[str]) -> tuple[Disk, ...] | None:
    """The whole disks among what the kernel counts; all that look like one where `whole` is empty."""
    disks = []
    for line in (text or b"").splitlines():
        words = line.split()
        if len(words) < 14 or not all(_whole(word) for word in (words[5], words[9], words[12])):
            continue
        name = words[2].decode(errors="replace")
        if (name in whole) if whole else _like_a_disk(name):
            disks.append(Disk(name, int(words[5]) * SECTOR_BYTES, int(words[9]) * SECTOR_BYTES, int(words[12]) / 1000))
    return tuple(disks) if text else None


def _like_a_disk(name: str) -> bool:
    """Neither a partition nor made of other disks, which would count twice."""
    return re.fullmatch(r"(?:[shv]d[a-z]+|xvd[a-z]+|nvme\d+n\d+|mmcblk\d+)", name) is not None
