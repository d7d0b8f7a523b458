"""The daemon's signals: held back while it starts, then each one a call on its loop. Decides nothing."""

import asyncio
import signal
from collections.abc import Callable, Mapping
from typing import Final

# Their default action would end a daemon that is still starting, and as PID 1 the kernel drops them.
HELD: Final = frozenset({signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1})


def hold() -> None:
    """From here on they wait. Call before any thread is started: threads inherit the mask."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def listen(calls: Mapping[signal.Signals, Callable[[], None]]) -> None:
    """Each signal calls its function on the running loop; those that waited come now."""
    loop = asyncio.get_running_loop()
    for number, call in calls.items():
        loop.add_signal_handler(number, call)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
