"""How many workers the machine bears, from one sample. Pure: the law of the adaptive pool without its memory of what it
did before, for programs that size a pool of their own."""

import math
from typing import Final, Literal, assert_never

from tidegate.model.sample import Sample

Kind = Literal["cpu", "io"]

MIB: Final = 1 << 20
GIB: Final = 1 << 30
LIMIT_PER_CORE: Final = 32  # more at once for each core never paid on any load that was tried
LOAD_CALM: Final = 1.15  # runnable threads a core up to which more work is more throughput
CORE_SHARE: Final = 0.25  # of a core, that a worker which mostly waits is taken to use
IO_FULL_HIGH: Final = 0.30  # of the time nothing got on for want of the disk: more workers only queue there
IO_SHRINK_MIN: Final = 0.5  # at most halved at once
MEMORY_SOME_HIGH: Final = 0.10  # of the time somebody waited for memory
EMPTY_S: Final = 10.0  # memory would be gone within this
FILL_S: Final = 0.3  # how long it takes until a brake acts
MARGIN: Final = 1.5  # of the reserve: below it nothing more is begun


def reserve_bytes(limit_bytes: int, fill_bytes_per_s: float) -> int:
    """F of the memory gate: min(4 GiB, max(10 % of the limit, min(512 MiB, 15 %))) plus what fills up within 0.3 s,
    in all at most 25 % of the limit."""
    still = min(4 * GIB, max(limit_bytes * 0.10, min(512 * MIB, limit_bytes * 0.15)))
    return int(min(still + max(0.0, fill_bytes_per_s) * FILL_S, limit_bytes * 0.25))


def memory_calm(sample: Sample) -> bool:
    """Whether more may be begun as far as memory goes: A ≥ 1.5 F, not gone within 10 s, nobody waits for it."""
    if sample.memory_some_ratio is not None and sample.memory_some_ratio > MEMORY_SOME_HIGH:
        return False
    if sample.available_bytes is None or sample.memory_limit_bytes is None:
        return True
    fill = max(0.0, sample.fill_bytes_per_s or 0.0)
    reserve = reserve_bytes(sample.memory_limit_bytes, fill)
    spare = sample.available_bytes - reserve
    return sample.available_bytes >= MARGIN * reserve and (not fill or spare / fill >= EMPTY_S)


def optimal_workers(sample: Sample, kind: Kind) -> int:
    """At least 1; 1 where memory is short.

    "cpu": ⌈C − E⌉, the usable cores that others leave. Our own use never lowers it.
    "io":  ⌊(1.15·C − E) / 0.25⌋: until the load is 1.15 a core, with each worker on a CPU for a quarter of its time; at
           least as many as for "cpu", at most 32·C; times 30 %/(io full), at least ½, where the disk is the bottleneck.
    """
    if not memory_calm(sample):
        return 1
    foreign = sample.foreign_cores or 0.0
    cpu = max(1, math.ceil(round(sample.cores - foreign, 6)))
    match kind:
        case "cpu":
            return cpu
        case "io":
            wanted = (LOAD_CALM * sample.cores - foreign) / CORE_SHARE
            full = sample.io_full_ratio or 0.0
            if full > IO_FULL_HIGH:
                wanted *= max(IO_SHRINK_MIN, IO_FULL_HIGH / full)
            return max(cpu, min(math.floor(wanted), math.floor(LIMIT_PER_CORE * sample.cores)))
        case _:
            assert_never(kind)
