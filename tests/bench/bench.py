"""What every part is handed: the tools, the ground, and how often and how much. And how a part names a contender."""

import time
from collections.abc import Sequence

from msgspec import Struct
from tests.bench.fetch import Tools
from tests.bench.ground import Ground

TIDEGATE = "tidegate"
TIDEGATE_NICE = "tidegate, nice = 10 (its default)"
C_FLOOR = "C floor"
PYTHON_FLOOR = "Python floor"
APS_THREADS = "bare APScheduler, threads"
APS_ASYNC = "bare APScheduler, async"
YACRON = "yacron"
CRON = "Debian cron"
SUPERCRONIC = "supercronic"
PARALLEL = "GNU parallel -j4"
HUEY = "huey, SQLite"
DRAMATIQ = "dramatiq, redis"
DRAMATIQ_DURABLE = "dramatiq, redis with appendfsync always"
DRAMATIQ_STUB = "dramatiq, in memory"  # where there is no redis


ROUNDS = 2  # of each measure, unless asked for more


class Bench(Struct, frozen=True):
    tools: Tools
    ground: Ground
    repeat: int | None  # None: each part's own number
    quick: bool
    full: bool = False  # what takes longer than half an hour too

    def rounds(self, usual: int) -> int:
        """`usual`: with --full. Without it few enough for all parts to end within half an hour."""
        return self.repeat or (1 if self.quick else usual if self.full else min(usual, ROUNDS))

    def amount(self, usual: int, quick: int) -> int:
        return quick if self.quick else usual


def next_instant(lead_s: float) -> int:
    """The first whole second at least lead_s from now: time to start and settle."""
    return int(time.time() + lead_s) + 1


def next_minute(lead_s: float) -> int:
    return (int(time.time() + lead_s) // 60 + 1) * 60


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """Each round begins with another contender, so that none is always first or always after the same."""
    turn %= max(len(names), 1)
    return [*names[turn:], *names[:turn]]
