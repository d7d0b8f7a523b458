"""The loads of the pool's benchmarks, as command lines of work.c. Pure: the same seed, the same work for everybody."""

import random

from msgspec import Struct

MIB = 1 << 20
GIB = 1 << 30
SEED = 7
MIXED_PARTS = 5
CELL_BYTES = 4 * GIB
HOG_BYTES = (CELL_BYTES // 80, CELL_BYTES * 3 // 8)  # 0.2 to 6 GiB on 16 GiB, scaled: 0.05 to 1.5 GiB on 4 GiB
HOG_RAMP_BYTES = (GIB // 5, GIB)  # a second

Command = tuple[str, ...]


class Load(Struct, frozen=True):
    """`sizes`: fixed pools that make sense for it, on two cores."""

    name: str
    words: str
    commands: tuple[Command, ...]
    sizes: tuple[int, ...]


def cpu(count: int, span_s: float) -> Load:
    chance = random.Random(SEED)
    commands = tuple(("cpu", f"{span_s * chance.uniform(0.9, 1.1):.4f}") for _ in range(count))
    return Load("cpu", f"{count} × {span_s:g} s of CPU", commands, (1, 2, 3, 4, 6, 8, 12, 16, 24, 32))


def sleep(count: int, span_s: float) -> Load:
    chance = random.Random(SEED)
    commands = tuple(("wait", f"{span_s * chance.uniform(0.95, 1.05):.4f}") for _ in range(count))
    return Load("sleep", f"{count} × {span_s:g} s of sleep", commands, (16, 24, 32))


def mixed(count: int, span_s: float, share: float = 0.2) -> Load:
    """Each waits and computes by turns."""
    chance = random.Random(SEED)

    def one() -> Command:
        words: list[str] = []
        for _ in range(MIXED_PARTS):
            words += ["wait", f"{span_s * (1 - share) / MIXED_PARTS * chance.uniform(0.5, 1.5):.4f}"]
            words += ["cpu", f"{span_s * share / MIXED_PARTS * chance.uniform(0.5, 1.5):.4f}"]
        return tuple(words)

    words = f"{count} × {span_s:g} s, {1 - share:.0%} wait and {share:.0%} CPU by turns"
    return Load("mixed", words, tuple(one() for _ in range(count)), (4, 6, 8, 12, 16, 24, 32))


def hogs(count: int) -> Load:
    """Each takes memory at up to 1 GiB a second, then keeps it for a while."""
    chance = random.Random(SEED)

    def one() -> Command:
        peak, ramp = chance.randint(*HOG_BYTES), chance.randint(*HOG_RAMP_BYTES)
        return ("hold", str(peak), str(ramp), f"{chance.uniform(0.5, 2.0):.3f}")

    low, high = HOG_BYTES
    words = f"{count} × {low / GIB:.2f} to {high / GIB:g} GiB at up to 1 GiB a second, in {CELL_BYTES / GIB:g} GiB"
    return Load("hogs", words, tuple(one() for _ in range(count)), (1, 2, 3, 4, 6))


def held_s(command: Command) -> float:
    """How long a hog takes when nobody stops it."""
    _, peak, ramp, rest = command
    return int(peak) / int(ramp) + float(rest)
