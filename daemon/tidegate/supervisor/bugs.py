"""What nobody caught on the loop. It decides only whether the daemon can go on."""

import errno
import traceback
from collections.abc import Callable
from typing import Any, Final

from loguru import logger

from tidegate import clock

SCARCE: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)  # … for a connection; asyncio tries again
SCARCE_S: Final = 60.0  # it fails each second, and is told this often
VITAL: Final = ("tidegate.supervisor", "tidegate.engine", "tidegate.executors", "apscheduler")


class Scarcity:
    """That nobody can be answered for want of descriptors: a state of the machine, no bug. Told now and then."""

    def __init__(self) -> None:
        self._again_mono_s = 0.0

    def tell(self, error: OSError) -> None:
        """Now, or not again so soon."""
        now_mono_s = clock.monotonic_s()
        if now_mono_s < self._again_mono_s:
            return
        self._again_mono_s = now_mono_s + SCARCE_S
        logger.bind(event="daemon.scarce").error(
            "nobody can connect: {}; jobs go on. Raise the limit (LimitNOFILE= of the unit, ulimit -n), or end what "
            "holds leases or connections; tried again each second",
            error.strerror,
        )


_scarcity: Final = Scarcity()


def heard(context: dict[str, Any], fail: Callable[[str], None]) -> None:
    """A part of the daemon that has failed half-way cannot be trusted: it ends, and whoever keeps the service starts it
    anew. A client's connection that failed is only told."""
    error = context.get("exception")
    if "socket" in context and isinstance(error, OSError) and error.errno in SCARCE:
        _scarcity.tell(error)
        return
    frames = traceback.walk_tb(error.__traceback__) if error is not None else ()
    rooms = [str(frame.f_globals.get("__name__", "")) for frame, _ in frames]
    log = logger.bind(event="daemon.bug").opt(exception=error)
    if "handle" in context and any(room.startswith(VITAL) for room in rooms):
        log.critical("a bug in tidegate, please report it: {!r}", error)
        fail("ended by a bug; what runs goes on under the keeper, start the daemon again")
    else:
        log.error("{}: {!r}", context.get("message"), error)
