"""The Python floor: os.posix_spawn in a loop, and nothing else. The same three modes as floor.c.

floor.py burst INSTANT_NS COUNT PROGRAM [ARG...]
floor.py each FIRST_S COUNT PROGRAM [ARG...]
floor.py queue COUNT IN_FLIGHT RECORDS PROGRAM [ARG...]
"""

import os
import sys
import time
from pathlib import Path

QUIET = [
    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
    (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
]


def sleep_until(instant_s: float) -> None:
    while (left_s := instant_s - time.time()) > 0:
        time.sleep(left_s)


def burst(instant_ns: int, count: int, argv: list[str]) -> None:
    sleep_until(instant_ns / 1e9)
    for _ in range(count):
        os.posix_spawn(argv[0], argv, os.environ, file_actions=QUIET)
    for _ in range(count):
        os.wait()


def each(first_s: int, count: int, argv: list[str]) -> None:
    for second in range(first_s, first_s + count):
        sleep_until(second)
        os.posix_spawn(argv[0], argv, os.environ, file_actions=QUIET)
        os.wait()


def queue(count: int, in_flight: int, records: str, argv: list[str]) -> None:
    with Path(records).open("wb", buffering=0) as file:
        begin_s = time.monotonic()
        started = min(in_flight, count)
        for _ in range(started):
            os.posix_spawn(argv[0], argv, os.environ, file_actions=QUIET)
        for _ in range(count):
            pid, status = os.wait()
            if started < count:
                os.posix_spawn(argv[0], argv, os.environ, file_actions=QUIET)
                started += 1
            file.write(b'{"pid":%d,"status":%d,"ended_ns":%d}\n' % (pid, status, time.time_ns()))
        print(f"{time.monotonic() - begin_s:.6f}")


def main() -> None:
    match sys.argv[1:]:
        case ["burst", instant_ns, count, *argv] if argv:
            burst(int(instant_ns), int(count), argv)
        case ["each", first_s, count, *argv] if argv:
            each(int(first_s), int(count), argv)
        case ["queue", count, in_flight, records, *argv] if argv:
            queue(int(count), int(in_flight), records, argv)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
