"""What processes of a pool are given to do. A module of its own, and a light one: each of them imports it."""

import os
import signal
import time
from pathlib import Path


def boom() -> None:
    raise ValueError("it went wrong")  # this line is looked for


class Awkward(Exception):
    """Cannot be unpickled: its arguments are not those that it is made of."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} {second}")


def raise_awkward() -> None:
    raise Awkward(1, 2)


def pid_after(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def once_then(path: str, what: str) -> str:
    """Fails the first time: ends its process, hangs or raises."""
    if Path(path).exists():
        return "second"
    Path(path).touch()
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        time.sleep(60)
    raise ValueError("first")


def grow_to(size_mib: int, gate: str) -> int:
    """Takes memory, 4 MiB at a time and slowly, and keeps it until the gate is there."""
    taken = []
    while len(taken) * 4 < size_mib:
        taken.append(b"\1" * (4 << 20))
        time.sleep(0.02)
    while not Path(gate).exists():
        time.sleep(0.005)
    return len(taken)


def count_to(path: str, number: int) -> int:
    """Writes how far it has come."""
    for each in range(number):
        Path(path).write_text(str(each))
        time.sleep(0.01)
    return number
