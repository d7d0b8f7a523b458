"""Asks history, in a thread: never on the loop. It knows no question."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from tidegate.api.control import Reader
from tidegate.model.refusal import Refused

T = TypeVar("T")


class Archive:
    """Past runs. `thread` has one thread: a reader serves one at a time.

    Raises Refused("unavailable") while history cannot be read.
    """

    def __init__(self, open_reader: Callable[[], Reader], thread: Executor) -> None:
        self._open_reader = open_reader
        self._thread = thread
        self._reader: Reader | None = None

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """The answer of history to a question."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, question)

    def _ask(self, question: Callable[[Reader], T]) -> T:
        try:
            if self._reader is None:
                self._reader = self._open_reader()
            return question(self._reader)
        except (sqlite3.Error, OSError) as error:
            raise Refused("unavailable", f"history cannot be read: {error}") from error
