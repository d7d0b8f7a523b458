"""What the machine bears right now: one look at it (`Reading`), and what two of them tell (`Sample`). Pure values and
the arithmetic between them; reads nothing. What is not known is None, never a made-up zero."""

from datetime import datetime
from typing import Final, Literal

from msgspec import Struct

EVIDENCE_S: Final = 0.01  # our processes ran or waited for less than this: their run-delay tells nothing
LITTLE_CORES: Final = 0.05  # so little use is little waiting, too
DELAY_SHARE_MAX: Final = 0.98  # 1/(1 − w) beyond it is 50 threads a core: no reading is that exact

LoadSource = Literal["runnable", "run_delay", "pressure", "load_average", "none"]
Scope = Literal["machine", "cgroup", "none"]


class Pressure(Struct, frozen=True):
    """Time lost for want of something, in all (PSI's `total`)."""

    some_us: int  # at least one task waited
    full_us: int  # nobody got on; 0 where the kernel does not say


class Disk(Struct, frozen=True):
    """One whole disk since boot."""

    name: str
    read_bytes: int
    written_bytes: int
    busy_s: float


class Memory(Struct, frozen=True):
    """What can still be taken, without swap: the least of the machine and of every cgroup above us."""

    available_bytes: int
    limit_bytes: int  # the smallest limit: the machine's memory or a cgroup's


class Reading(Struct, frozen=True, kw_only=True):
    """One look. Times and bytes are running totals unless they say otherwise: any two readings make a `Sample`."""

    at: datetime
    at_s: float  # monotonic
    cores: float  # usable now: affinity, and the CPU quota of every cgroup above us
    cpus: int  # online in the machine
    runnable_sum: float | None  # threads that ran or wanted to, summed over all looks; without the one that looks
    runnable_looks: int
    load_average: float | None  # of one minute, now
    busy_s: float | None  # all CPUs of the machine, time stolen by a hypervisor included
    idle_s: float | None
    own_cpu_s: float | None  # our processes, living and reaped
    own_run_s: float | None  # first threads of our processes, while they were looked at: on a CPU
    own_wait_s: float | None  # … and waiting for one
    quota_used_s: float | None  # CPU time of the cgroup whose quota is the tightest
    throttled_s: float | None  # that it was held back by its quota
    pressure_of: Scope
    cpu: Pressure | None
    memory: Pressure | None
    io: Pressure | None
    available_bytes: int | None  # now
    memory_limit_bytes: int | None  # now
    swap_total_bytes: int | None  # now
    swap_free_bytes: int | None  # now
    swapped_in_bytes: int | None
    swapped_out_bytes: int | None
    disks: tuple[Disk, ...] | None


class Sample(Struct, frozen=True, kw_only=True):
    """The machine over the time between two readings. Ratios are shares: 0.3 is 30 %. Of a first reading, with none
    before it, everything that needs two is None."""

    at: datetime
    at_s: float  # monotonic
    interval_s: float | None
    cores: float  # usable by us
    cpus: int  # online in the machine
    load_ratio: float | None  # threads that run or want to, for each usable core: above 1 somebody waits
    load_source: LoadSource  # where load_ratio is from
    busy_ratio: float | None  # of the usable cores, 0 to 1
    foreign_cores: float | None  # of the usable cores, taken by others than us
    own_cores: float | None  # used by our own processes
    run_delay_ratio: float | None  # share of the time in which our processes wanted a CPU and had none
    throttled_ratio: float | None  # share of the time in which a CPU quota held us back; above 1 with several cores
    pressure_of: Scope  # whose pressure the next six are
    cpu_some_ratio: float | None
    cpu_full_ratio: float | None
    memory_some_ratio: float | None
    memory_full_ratio: float | None
    io_some_ratio: float | None
    io_full_ratio: float | None
    available_bytes: int | None
    memory_limit_bytes: int | None
    memory_used_ratio: float | None  # of the smallest limit
    fill_bytes_per_s: float | None  # how fast available_bytes falls; negative while it rises
    swap_total_bytes: int | None
    swap_used_ratio: float | None  # None where there is no swap
    swap_in_bytes_per_s: float | None
    swap_out_bytes_per_s: float | None
    disk_read_bytes_per_s: float | None
    disk_write_bytes_per_s: float | None
    disk_busy_ratio: float | None  # the busiest disk


def wanted_cores(sample: Sample) -> float | None:
    """Cores that our processes use or wait for; None where either is not known."""
    if sample.own_cores is None:
        return None
    if sample.run_delay_ratio is None:  # there was too little to tell, or nothing that tells
        return sample.own_cores if sample.own_cores < LITTLE_CORES else None
    return sample.own_cores / (1 - min(DELAY_SHARE_MAX, sample.run_delay_ratio))


class InUse(Struct, frozen=True):
    """One kind of reading: where it is from, and why from nowhere better."""

    what: str  # cores, load, cpu, own, pressure, memory, swap, disk
    source: str
    instead: str = ""  # what is missing; empty where this is the first choice


def sample(before: Reading | None, after: Reading) -> Sample:
    """What happened between two readings of one machine, the earlier one first."""
    span_s = None if before is None or after.at_s <= before.at_s else after.at_s - before.at_s
    earlier = before if before is not None and span_s is not None else after
    each = _PerSecond(earlier, after, span_s)
    busy = _busy_ratio(earlier, after, each)
    load, source = _load(earlier, after, each, busy)
    own = each.rate(earlier.own_cpu_s, after.own_cpu_s)
    pressed = each if earlier.pressure_of == after.pressure_of else _PerSecond(after, after, None)
    return Sample(
        at=after.at,
        at_s=after.at_s,
        interval_s=span_s,
        cores=after.cores,
        cpus=after.cpus,
        load_ratio=load,
        load_source=source,
        busy_ratio=busy,
        foreign_cores=_foreign(earlier, after, each, own),
        own_cores=own,
        run_delay_ratio=_delay(earlier, after, each),
        throttled_ratio=each.rate(earlier.throttled_s, after.throttled_s),
        pressure_of=after.pressure_of,
        cpu_some_ratio=pressed.some(earlier.cpu, after.cpu),
        cpu_full_ratio=pressed.full(earlier.cpu, after.cpu),
        memory_some_ratio=pressed.some(earlier.memory, after.memory),
        memory_full_ratio=pressed.full(earlier.memory, after.memory),
        io_some_ratio=pressed.some(earlier.io, after.io),
        io_full_ratio=pressed.full(earlier.io, after.io),
        available_bytes=after.available_bytes,
        memory_limit_bytes=after.memory_limit_bytes,
        memory_used_ratio=_share_used(after.available_bytes, after.memory_limit_bytes),
        fill_bytes_per_s=each.change(after.available_bytes, earlier.available_bytes),
        swap_total_bytes=after.swap_total_bytes,
        swap_used_ratio=_share_used(after.swap_free_bytes, after.swap_total_bytes),
        swap_in_bytes_per_s=each.rate(earlier.swapped_in_bytes, after.swapped_in_bytes),
        swap_out_bytes_per_s=each.rate(earlier.swapped_out_bytes, after.swapped_out_bytes),
        disk_read_bytes_per_s=each.disks("read_bytes"),
        disk_write_bytes_per_s=each.disks("written_bytes"),
        disk_busy_ratio=each.busiest(),
    )


class _PerSecond:
    """Differences of running totals over a span; None where there is no span or one of the two is not known."""

    def __init__(self, before: Reading, after: Reading, span_s: float | None) -> None:
        self._before = {disk.name: disk for disk in before.disks or ()}
        self._after = after.disks
        self.span_s = span_s

    def change(self, before: float | None, after: float | None) -> float | None:
        if self.span_s is None or before is None or after is None:
            return None
        return (after - before) / self.span_s

    def rate(self, before: float | None, after: float | None) -> float | None:
        """Of what only grows: where it fell, somebody began anew (a process ended, a disk was changed)."""
        found = self.change(before, after)
        return None if found is None else max(0.0, found)

    def some(self, before: Pressure | None, after: Pressure | None) -> float | None:
        if before is None or after is None:
            return None
        return _at_most_one(self.rate(before.some_us / 1e6, after.some_us / 1e6))

    def full(self, before: Pressure | None, after: Pressure | None) -> float | None:
        if before is None or after is None:
            return None
        return _at_most_one(self.rate(before.full_us / 1e6, after.full_us / 1e6))

    def disks(self, what: str) -> float | None:
        if self._after is None or self.span_s is None:
            return None
        both = ((self._before[disk.name], disk) for disk in self._after if disk.name in self._before)
        return sum(self.rate(getattr(old, what), getattr(new, what)) or 0.0 for old, new in both)

    def busiest(self) -> float | None:
        if self._after is None or self.span_s is None:
            return None
        both = ((self._before[disk.name], disk) for disk in self._after if disk.name in self._before)
        return _at_most_one(max((self.rate(old.busy_s, new.busy_s) or 0.0 for old, new in both), default=0.0))


def _at_most_one(ratio: float | None) -> float | None:
    return None if ratio is None else min(1.0, ratio)


def _share_used(free: int | None, whole: int | None) -> float | None:
    return None if free is None or not whole else min(1.0, max(0.0, 1 - free / whole))


def _busy_ratio(before: Reading, after: Reading, each: _PerSecond) -> float | None:
    """Of the usable cores. Under a quota the time used of it counts: the machine's CPUs may idle all the same."""
    used = each.rate(before.quota_used_s, after.quota_used_s)
    if used is not None and after.cores < after.cpus:
        return min(1.0, used / after.cores)
    busy, idle = each.rate(before.busy_s, after.busy_s), each.rate(before.idle_s, after.idle_s)
    return None if busy is None or idle is None or not busy + idle else busy / (busy + idle)


def _delay(before: Reading, after: Reading, each: _PerSecond) -> float | None:
    ran, waited = each.rate(before.own_run_s, after.own_run_s), each.rate(before.own_wait_s, after.own_wait_s)
    if ran is None or waited is None or each.span_s is None or (ran + waited) * each.span_s < EVIDENCE_S:
        return None
    return waited / (ran + waited)


def _load(before: Reading, after: Reading, each: _PerSecond, busy: float | None) -> tuple[float | None, LoadSource]:
    """Runnable threads for each usable core, from the best source there is.

    Counting them is exact, but counts the whole machine: of no use where only a part of it is ours. Waiting shows the
    same where cores are full: runnable/cores = 1/(1 − w), with w the share of run-delay, and 1 + PSI up to 2.
    """
    if each.span_s is None:  # a single look says nothing of a mean
        return None, "none"
    looks = after.runnable_looks - before.runnable_looks
    if after.cores >= after.cpus and looks > 0 and after.runnable_sum is not None:
        return max(0.0, after.runnable_sum - (before.runnable_sum or 0.0)) / looks / after.cores, "runnable"
    full = 1.0 if busy is None else busy
    delay = _delay(before, after, each)
    if delay is not None:
        return full / (1 - min(DELAY_SHARE_MAX, delay)), "run_delay"
    waiting = each.some(before.cpu, after.cpu) if before.pressure_of == after.pressure_of else None
    if waiting is not None:
        return full + waiting if busy is not None else 1 + waiting, "pressure"
    if after.load_average is not None:
        return after.load_average / after.cpus, "load_average"
    return None, "none"


def _foreign(before: Reading, after: Reading, each: _PerSecond, own: float | None) -> float | None:
    """Cores that others take from the ones we may use. What they take of the others costs us nothing."""
    busy = each.rate(before.busy_s, after.busy_s)
    if busy is None or own is None:
        return None
    elsewhere = max(0.0, after.cpus - after.cores)
    foreign = max(0.0, busy - own - elsewhere)
    shared = each.rate(before.quota_used_s, after.quota_used_s)  # neighbours under our quota
    if shared is not None:
        foreign = max(foreign, shared - own)
    return min(foreign, after.cores)
