"""Reading the configuration again, in a process of its own: parsing 10,000 jobs must not hold the loop.

A good file becomes one PlanLoaded event; a broken one changes nothing and its problems are handed back.
However many are asked for, one runs and at most one waits.
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from tidegate.model.plan import Plan
from tidegate.settings.child import decode
from tidegate.settings.read import SettingsError

READ_S_MAX: Final = 60.0  # 10,000 jobs take under a second; a reader that hangs must not hold reloads for ever


class Reloader:
    """Reads CONFIG on request and hands over what it found."""

    def __init__(
        self,
        config: Path,
        begin: Callable[[], None],
        good: Callable[[Plan], None],
        bad: Callable[[list[str]], None],
        ending: Callable[[], bool],
    ) -> None:
        self._config = config
        self._begin = begin
        self._good = good
        self._bad = bad
        self._ending = ending
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._asked: list[asyncio.Future[list[str]]] = []  # for the next read

    def request(self) -> "asyncio.Future[list[str]]":
        """Ask for a reload. One that comes while another reads is done once more afterwards.

        The future has the problems found, none where the new configuration is live.
        """
        answer: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self._start()
        return answer

    def _start(self) -> None:
        if self._task is not None:
            self._again = True
            return
        self._task = asyncio.get_running_loop().create_task(self._work())
        self._task.add_done_callback(_raise_failure)

    async def _work(self) -> None:
        try:
            while True:
                self._again = False
                asked, self._asked = self._asked, []
                self._begin()
                problems = await self._once()
                for answer in asked:
                    if not answer.done():
                        answer.set_result(problems)
                if not self._again:
                    return
        finally:
            self._task = None

    async def _once(self) -> list[str]:
        problems: list[str] = []
        try:
            # Off the loop: 10,000 jobs take 45 ms, and between its steps the loop may turn.
            plan = await asyncio.to_thread(decode, await _read(self._config))
        except SettingsError as error:
            problems = [str(problem) for problem in error.problems]
        except (OSError, ReadFailedError) as error:
            problems = [f"{self._config}: could not be read again: {error}"]
        except (ValueError, msgspec.MsgspecError) as error:
            problems = [f"{self._config}: another version of tidegate read it ({error}); restart the daemon"]
        else:
            if self._ending():  # nothing fires any more: with a new schedule on record, what is due now would be lost
                problems = ["tidegate is stopping; the next start reads the configuration"]
            else:
                self._good(plan)
        if problems:
            self._bad(problems)
        return problems


def _raise_failure(task: "asyncio.Task[None]") -> None:
    """A bug must not end a reload in silence: the loop's exception handler hears of it."""
    if not task.cancelled():
        task.result()


class ReadFailedError(Exception):
    """The reading process itself failed."""


async def _read(config: Path) -> bytes:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # a module in the daemon's working directory is never imported
        "-m",
        "tidegate.settings.child",
        str(config),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), READ_S_MAX)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise ReadFailedError(f"no answer within {READ_S_MAX:.0f} s") from None
    if process.returncode != 0 or not out:
        last = err.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise ReadFailedError(f"the reader ended with status {process.returncode}: {last[0]}")
    return out
