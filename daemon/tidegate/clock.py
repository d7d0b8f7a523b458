"""The only reader of wall and monotonic time. Nothing else in the house may ask what time it is.

`executors/keeper.py` runs in a process of its own on the standard library alone and reads its own clock.
"""

import time
from datetime import UTC, datetime


def wall() -> datetime:
    """The wall clock, aware, in UTC. Fires are wall time."""
    return datetime.now(UTC)


def monotonic_s() -> float:
    """Seconds on CLOCK_MONOTONIC: it never steps and stands still during suspend. Deadlines are monotonic."""
    return time.monotonic()


def monotonic_us() -> int:
    """Microseconds on CLOCK_MONOTONIC, as sd_notify's MONOTONIC_USEC wants them."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def boottime_s() -> float:
    """Seconds on CLOCK_BOOTTIME: like monotonic, but it counts suspend. Tells a suspend from a clock step."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def thread_cpu_s() -> float:
    """CPU seconds that the calling thread has used."""
    return time.thread_time()
