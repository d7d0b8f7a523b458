"""Opens the history at the start of the daemon. Where that cannot be, as on a full disk, nothing may start: it says so
and tries again until it can."""

import asyncio
import signal
from pathlib import Path
from typing import Final

from loguru import logger

from tidegate import clock
from tidegate.history.entry import CorruptError, HistoryError, NewerSchemaError
from tidegate.history.writer import History
from tidegate.model.plan import HistorySettings
from tidegate.supervisor import signals

AGAIN_S: Final = 5.0


async def history(path: Path, settings: HistorySettings, boot_id: str) -> History | None:
    """The open history; None where SIGTERM or SIGINT came first.

    Raises NewerSchemaError, CorruptError: no waiting mends those.
    """
    told = ""
    ended = asyncio.Event()
    while not ended.is_set():
        try:
            opened = History.open(path, settings, boot_id=boot_id, now=clock.wall())
        except (NewerSchemaError, CorruptError):
            raise
        except (HistoryError, OSError) as error:
            if str(error) != told:
                told = str(error)
                logger.bind(event="history.unavailable").error(
                    "nothing starts until the history can be opened, which is tried again every {:.0f} s: {}",
                    AGAIN_S,
                    error,
                )
                signals.listen({signal.SIGTERM: ended.set, signal.SIGINT: ended.set})
            try:
                async with asyncio.timeout(AGAIN_S):
                    await ended.wait()
            except TimeoutError:
                pass
        else:
            if told:
                logger.bind(event="history.available").info("the history is open")
            return opened
    return None
