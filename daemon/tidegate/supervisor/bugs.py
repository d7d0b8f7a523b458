"""What nobody caught on the loop. It decides only whether the daemon can go on."""

import traceback
from collections.abc import Callable
from typing import Any, Final

from loguru import logger

VITAL: Final = ("tidegate.supervisor", "tidegate.engine", "tidegate.executors", "apscheduler")


def heard(context: dict[str, Any], fail: Callable[[str], None]) -> None:
    """A part of the daemon that has failed half-way cannot be trusted: it ends, and whoever keeps the service starts it
    anew. A client's connection that failed is only told."""
    error = context.get("exception")
    frames = traceback.walk_tb(error.__traceback__) if error is not None else ()
    rooms = [str(frame.f_globals.get("__name__", "")) for frame, _ in frames]
    log = logger.bind(event="daemon.bug").opt(exception=error)
    if "handle" in context and any(room.startswith(VITAL) for room in rooms):
        log.critical("a bug in tidegate, please report it: {!r}", error)
        fail("ended by a bug; what runs goes on under the keeper, start the daemon again")
    else:
        log.error("{}: {!r}", context.get("message"), error)
