"""A process that writes history as the daemon does, for tests that fail it from outside: strace, limits, kill -9.

    python -m tests.live.history_driver PATH RUNS [BYTES_MAX]

One line for each thing that is told. With BYTES_MAX no file may grow beyond, until a line comes in on stdin; that may
name a file to remove.
"""

import asyncio
import resource
import signal
import sys
from pathlib import Path

from tests.unit.history_world import NOW, SETTINGS, a_run, finished, queued, starting

from tidegate.history.entry import HistoryError
from tidegate.history.writer import History


def limit(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as a full disk, an error and no signal
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


async def play(path: Path, runs: int) -> None:
    try:
        history = History.open(path, SETTINGS, boot_id="boot-1", now=NOW)
    except HistoryError as error:
        print(f"refused {error}", flush=True)
        return
    told = asyncio.Queue[int]()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), relieve, loop)

    def written(ticket: int) -> None:
        print(f"written {ticket}", flush=True)
        told.put_nowait(ticket)

    history.on_written(written)
    history.on_failing(lambda reason: print(f"failing {reason}", flush=True))
    history.on_set_aside(lambda aside: print(f"aside {aside}", flush=True))
    print("open", flush=True)
    for n in range(1, runs + 1):
        run = a_run(f"r{n:06}", n)
        ticket = history.write([queued(run), starting(run), *([finished(run)] if n % 2 else [])], True)
        while await told.get() < ticket:
            pass
    await history.close()
    print("closed", flush=True)


def relieve(loop: asyncio.AbstractEventLoop) -> None:
    Path(sys.stdin.readline().strip() or "none").unlink(missing_ok=True)
    loop.remove_reader(sys.stdin.fileno())
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


if __name__ == "__main__":
    if len(sys.argv) > 3:
        limit(int(sys.argv[3]))
    asyncio.run(play(Path(sys.argv[1]), int(sys.argv[2])))
