"""Asks history, in threads: never on the loop. Each thread has a reader of its own. It knows no question."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from tidegate.api.control import Reader
from tidegate.model.refusal import Refused

T = TypeVar("T")


class Archive:
    """Past runs. Raises Refused("unavailable") while history cannot be read."""

    def __init__(self, open_reader: Callable[[], Reader], threads: Executor) -> None:
        self._open_reader = open_reader
        self._threads = threads
        self._of_thread = threading.local()

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """The answer of history to a question."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, question)

    def _ask(self, question: Callable[[Reader], T]) -> T:
        try:
            if not hasattr(self._of_thread, "reader"):
                self._of_thread.reader = self._open_reader()
            return question(self._of_thread.reader)
        except (sqlite3.Error, OSError) as error:
            raise Refused("unavailable", f"history cannot be read: {error}") from error
