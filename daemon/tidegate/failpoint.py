"""Failpoints: places in the shells at which a test may end, stall or fail the daemon. They decide nothing, and without
a test build they cannot be armed at all.

TIDEGATE_FAILPOINT names one, or several with commas between them; `count` is which hit of it counts, by default the
first:

    name[:count]                    kill -9 of this process, as a crash would
    name[:count]=stall:SECONDS      stand still, as a blocked disk or a stopped process would
    name[:count]=error:ERRNO        raise OSError with this errno (ENOSPC, EIO …), as a failed call would

Only the count-th hit does anything: what came before and what comes after goes on as ever.
"""

import errno
import os
import signal
from collections.abc import Mapping
from threading import Event, Lock
from typing import Final

VARIABLE: Final = "TIDEGATE_FAILPOINT"
ALLOWED_BY: Final = "TIDEGATE_TEST_BUILD"  # has to be "1": nobody arms a failpoint in production by one slip

# Every failpoint there is, in the order of a run's life. A test reads the source and finds each of them hit.
NAMES: Final = (
    "recover.begin",  # nothing of the earlier life has been taken up yet
    "recover.after_claim",  # runs of the earlier life are in the engine, and not yet written again
    "fire.before_claim",  # the engine has decided, nothing of it is written
    "claim.before_commit",  # in the writer's thread, the transaction is open
    "claim.after_commit",  # it is written, and the loop does not know yet
    "start.before_send",  # it is written, the keeper has not been asked
    "start.after_send",  # the keeper has been asked and may not have answered
    "exit.before_outcome",  # the end of an attempt was heard, the engine not asked
    "outcome.before_commit",  # as with claims
    "outcome.after_commit",
    "ack.after_send",  # the keeper was told that it may forget
    "lease.granted",  # units are taken, nobody was told
    "hook.before",  # an occasion is known, its hook not called
)


class FailpointError(Exception):
    """What TIDEGATE_FAILPOINT says cannot be done; the text says why."""


class Trap:
    """One armed failpoint."""

    def __init__(self, count: int, action: str, value: str) -> None:
        self._left = count
        self._action = action
        self._value = value
        self._lock = Lock()  # the loop and the history's writer may hit at once

    def hit(self) -> None:
        with self._lock:
            self._left -= 1
            due = self._left == 0
        if not due:
            return
        match self._action:
            case "stall":
                Event().wait(float(self._value))
            case "error":
                number = getattr(errno, self._value)
                raise OSError(number, f"{os.strerror(number)} (failpoint)")
            case _:
                os.kill(os.getpid(), signal.SIGKILL)


_traps: dict[str, Trap] = {}


def hit(name: str) -> None:
    """Execution has come here. Does nothing, in about 40 ns, unless armed."""
    if _traps and name in _traps:
        _traps[name].hit()


def arm(environ: Mapping[str, str]) -> None:
    """Arm what the environment asks for, and nothing else. Raises FailpointError."""
    _traps.clear()
    text = environ.get(VARIABLE, "")
    if not text:
        return
    if environ.get(ALLOWED_BY) != "1":
        raise FailpointError(
            f"{VARIABLE} is set: that is for tests of tidegate, which set {ALLOWED_BY}=1 as well; unset it to run jobs"
        )
    _traps.update(_read(part) for part in text.split(","))


def _read(part: str) -> tuple[str, Trap]:
    """ "name:3=stall:0.5" → its trap."""
    where, _, what = part.strip().partition("=")
    name, _, count = where.partition(":")
    action, _, value = what.partition(":")
    if name not in NAMES:
        raise FailpointError(f'{VARIABLE}: there is no failpoint "{name}"; there are {", ".join(NAMES)}')
    if count and not (count.isdecimal() and int(count)):
        raise FailpointError(f'{VARIABLE}: {name}: the count must be 1 or more, got "{count}"')
    match action:
        case "":
            pass
        case "stall" if _is_seconds(value):
            pass
        case "error" if isinstance(getattr(errno, value, None), int):
            pass
        case _:
            raise FailpointError(
                f'{VARIABLE}: {name}: expected nothing (kill -9), stall:SECONDS or error:ERRNO, got "{what}"'
            )
    return name, Trap(int(count or 1), action, value)


def _is_seconds(text: str) -> bool:
    try:
        return 0 <= float(text) < 3600
    except ValueError:
        return False
