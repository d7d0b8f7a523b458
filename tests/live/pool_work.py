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
