"""What a way of telling answers, and work that blocks, in threads of its own. Nothing here knows what is told."""

import asyncio
import errno
import os
import re
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from msgspec import Struct

from tidegate.model.limits import HOOKS_AT_ONCE
from tidegate.settings.places import KEEPER_VARIABLE

if TYPE_CHECKING:
    from tidegate.hooks.notice import Notice

Result = TypeVar("Result")
_NUMBER: Final = re.compile(r"\[Errno (\d+)\]")


class Sent(Struct, frozen=True):
    """What became of one try. `reason` is a sentence that says what to do; a delivered one may have one too."""

    delivered: bool
    reason: str = ""
    again: bool = False  # it may work later
    after_s: float | None = None  # not before: the other side asks for it


class Way(Protocol):
    """How a message gets out. One try; it may raise TimeoutError and is cancelled at the end of its time."""

    async def send(self, notice: "Notice", /) -> Sent: ...


def fence() -> str:
    """What a unit forbids looks like a server that is down: names are not found, connections time out."""
    if KEEPER_VARIABLE not in os.environ:  # the units set it
        return ""
    return "; the unit reaches only what its IPAddressAllow= names, at first this machine alone (docs/how-to/harden.md)"


def trouble(error: OSError) -> str:
    """Why a connection failed, in the system's words: asyncio has its own, with tuples in them."""
    if isinstance(error, socket.gaierror) or not error.args:
        return error.strerror or str(error)
    numbers = [error.errno] if error.errno else map(int, _NUMBER.findall(str(error)))  # of several addresses
    return ", ".join(dict.fromkeys(map(os.strerror, numbers))) or error.strerror or str(error)


class TooManyThreadsError(OSError):
    """Threads that nobody waits for any more are still at work."""


class Threads:
    """Runs what blocks in daemon threads: one that hangs keeps neither the loop nor the end of the daemon waiting."""

    def __init__(self, limit: int = 2 * HOOKS_AT_ONCE) -> None:
        self._limit = limit
        self._alive: set[threading.Thread] = set()

    async def run(self, work: Callable[[], Result]) -> Result:
        """Its result, or what it raised. Cancelled, the thread is left to end by itself. Raises TooManyThreadsError."""
        self._alive = {thread for thread in self._alive if thread.is_alive()}
        if len(self._alive) >= self._limit:
            raise TooManyThreadsError(f"{len(self._alive)} earlier tries still hang")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def settle(result: Result | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]  # without an error there is a result

        def body() -> None:
            result: Result | None = None
            failed: BaseException | None = None
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001  # handed to whoever waits, and raised there
                failed = error
            try:
                loop.call_soon_threadsafe(settle, result, failed)
            except RuntimeError:
                pass  # the loop is closed: nobody waits

        thread = threading.Thread(target=body, name="hook", daemon=True)
        self._alive.add(thread)
        try:
            thread.start()
        except RuntimeError as error:  # all that Python says of EAGAIN
            self._alive.discard(thread)
            raise OSError(errno.EAGAIN, "no thread can be started for the hook") from error
        return await future
