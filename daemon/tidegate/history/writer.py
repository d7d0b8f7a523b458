"""History as the daemon writes it: entries go in without waiting, one thread writes them in order, and says so.

Nothing is reported written that is not. What cannot be written waits, in order, and is tried again.
"""

import asyncio
import errno
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, assert_never

from msgspec import Struct

from tidegate import clock
from tidegate.failpoint import hit
from tidegate.history.blame import lock_holder
from tidegate.history.entry import Entry, Memory, Note, Unended
from tidegate.history.fold import ENDED, fold
from tidegate.history.prune import STEP_ROWS, Pass
from tidegate.history.store import Store, busy, damaged
from tidegate.model.command import Fact, Record
from tidegate.model.limits import HISTORY_PENDING_MAX
from tidegate.model.plan import HistorySettings

LINGER_S: Final = 0.05  # what nobody waits for may wait this long for company
GATHERED_MAX: Final = 256
RETRY_S: Final = 0.2
RETRY_S_MAX: Final = 5.0
LOCKED_S: Final = 1.0  # somebody else's lock is told when it has lasted this long
CLOSE_S: Final = 10.0  # what a file does not take within this at the end of the daemon is given up, and said
PAGES_PER_CHECKPOINT: Final = 1000  # about 4 MB of log, by this reckoning:
PAGES_A_COMMIT: Final = 10  # one run touches its row and the ends of six indexes
ROWS_A_PAGE: Final = 4
SWEEP_EVERY_S: Final = 86_400.0  # files without a row are looked for
REST_S: Final = 2.0  # nothing was written for this long: time for a checkpoint
REST_PAGES: Final = 64  # … of so much: the first write after one costs a sync more


class Work(Struct):
    """What one call of `write` handed over."""

    entries: Sequence[Entry]
    ticket: int
    keeper: str


class Close(Struct):
    """The last item of the queue."""


class Prune(Struct):
    """Time to look for what need not be kept."""


class Settings(Struct):
    """A reload: these hold from now on."""

    settings: HistorySettings


class Done(Struct):
    """What one transaction wrote."""

    ticket: int
    entries: int
    refused: list[tuple[str, str]]
    seconds: float


class History:
    """`write`, `close` and all callbacks belong to the loop's thread; the database to the thread in here."""

    def __init__(self, store: Store, settings: HistorySettings, boot_id: str) -> None:
        self.memory: Memory = store.memory
        self.path = store.path
        self.set_aside: Path | None = store.set_aside  # where a damaged file is now, if one was found
        self.keeper = ""  # who is asked to start runs; goes into the row of each attempt that starts
        self._store = store
        self._settings = settings
        self._boot_id = boot_id
        self._queue: queue.SimpleQueue[Work | Prune | Settings | Close] = queue.SimpleQueue()
        self._tickets = 0
        self._pending = 0  # entries handed over and not yet reported
        self._dropped = 0  # skipped fires that were not kept while nothing could be written
        self._failing = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._written: Callable[[int], None] = _nothing
        self._failed: Callable[[str], None] = _nothing
        self._refused: Callable[[str, str], None] = _nothing
        self._took_s: Callable[[float], None] = _nothing
        self._aside: Callable[[Path], None] = _nothing
        self._closed = asyncio.Event()
        store.memory = Memory()  # whoever opened it has it, and lets go of it
        self._lives: dict[str, Unended] = {one.run.run_id: one for one in self.memory.runs}
        self._orphans: set[str] = set()  # runs whose claim was refused, until their end is told
        self._said = ""  # why nothing can be written, as it was told last
        self._pruning: Iterator[None] | None = None
        self._swept_s: float | None = None
        self._sound = True  # the connection has not failed
        self._damaged = False  # the file is to be set aside
        self._pages = 0  # of log since the last checkpoint, about
        self._gathered: list[Work] = []  # on the loop's side, for LINGER_S at most
        self._due: asyncio.TimerHandle | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # all that Python says of EAGAIN
            store.close()
            raise OSError(errno.EAGAIN, "no thread can be started for the history") from error

    @classmethod
    def open(cls, path: Path, settings: HistorySettings, *, boot_id: str, now: datetime) -> "History":
        """Opens, creates or migrates. Raises NewerSchemaError, CorruptError, HistoryError; blocks for under 2 s."""
        return cls(Store.open(path, settings, now=now), settings, boot_id)

    # --- the loop's side ------------------------------------------------------------------------------

    def write(self, entries: Sequence[Entry], urgent: bool) -> int:
        """Hand over what is to be written, in order; never blocks. Urgent: somebody waits for the ticket."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._tickets += 1
        if self._failing and self._pending >= HISTORY_PENDING_MAX:
            entries = self._without_skips(entries)
        self._pending += len(entries)
        if self._gathered and self._gathered[-1].keeper != self.keeper:
            self._hand_over()
        self._gathered.append(Work(entries, self._tickets, self.keeper))
        if urgent or len(self._gathered) >= GATHERED_MAX:
            self._hand_over()
        elif self._due is None:
            self._due = self._loop.call_later(LINGER_S, self._hand_over)
        return self._tickets

    def _hand_over(self) -> None:
        """What has gathered goes to the thread in one piece: waking it costs more than most of what it writes."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        gathered, self._gathered = self._gathered, []
        if gathered:
            last = gathered[-1]
            entries = [entry for one in gathered for entry in one.entries]
            self._queue.put(Work(entries, last.ticket, last.keeper))

    def on_written(self, callback: Callable[[int], None]) -> None:
        """Everything up to this ticket is on disk. Refusals among it have been told before."""
        self._written = callback

    def on_failing(self, callback: Callable[[str], None]) -> None:
        """Nothing can be written, and why; "" when it can again."""
        self._failed = callback

    def on_refused(self, callback: Callable[[str, str], None]) -> None:
        """(run_id, by_run_id): another run has this fire already, and the first was not written."""
        self._refused = callback

    def on_written_s(self, callback: Callable[[float], None]) -> None:
        """How long a transaction took."""
        self._took_s = callback

    def on_set_aside(self, callback: Callable[[Path], None]) -> None:
        """The file turned out to be damaged and is here now; a fresh one has what is unended and could be read."""
        self._aside = callback

    def prune_soon(self) -> None:
        """Let go of what need not be kept, in small steps while nothing else is to be written. Every PRUNE_EVERY_S."""
        self._queue.put(Prune())

    def configure(self, settings: HistorySettings) -> None:
        """What a reload says about retention, durability and damage."""
        self._queue.put(Settings(settings))

    async def close(self) -> None:
        """Everything is written, or given up after CLOSE_S; the thread has ended."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._closing.set()
        self._hand_over()
        self._queue.put(Close())
        await self._closed.wait()
        self._thread.join()

    def _without_skips(self, entries: Sequence[Entry]) -> list[Entry]:
        """Beyond the bound skipped fires are counted only: what is left is bounded by the runs there can be."""
        kept = [one for one in entries if not (isinstance(one, Record) and one.fact is Fact.RUN_SKIPPED)]
        self._dropped += len(entries) - len(kept)
        return kept

    def _report(self, done: Done) -> None:
        """On the loop's thread. Refusals first: whoever waits for the ticket must not start those runs."""
        self._pending -= done.entries
        for run_id, by_run_id in done.refused:
            self._refused(run_id, by_run_id)
        self._took_s(done.seconds)
        self._written(done.ticket)

    def _report_failing(self, reason: str) -> None:
        self._failing = reason
        if not reason and self._dropped:
            note = f"{self._dropped} skipped fires are not on record: history could not be written"
            self.write([Note(clock.wall(), Fact.REQUEST_REFUSED, "", note)], urgent=False)
            self._dropped = 0
        self._failed(reason)

    # --- the thread's side ----------------------------------------------------------------------------

    def _tell(self, callback: Callable[..., None], *args: object) -> None:
        assert self._loop is not None, "nothing is told before something was written"
        with suppress(RuntimeError):  # the loop is closed: nobody is there to be told
            self._loop.call_soon_threadsafe(callback, *args)

    def _run(self) -> None:
        ended = False
        while not ended:
            work, ended = self._collect()
            if work:
                self._write(work)
            if self._pages >= PAGES_PER_CHECKPOINT or (not work and self._pruning is None):
                self._rest()
            if not work and not ended:
                self._prune()
        self._store.close()
        self._tell(self._closed.set)

    def _collect(self) -> tuple[list[Work], bool]:
        """All that is there; True: there will be no more."""
        work: list[Work] = []
        while True:
            try:
                if not work and self._pruning is None:
                    item = self._queue.get(timeout=REST_S if self._pages >= REST_PAGES else None)
                else:
                    item = self._queue.get_nowait()
            except queue.Empty:
                return work, False
            match item:
                case Close():
                    return work, True
                case Prune():
                    self._begin_pass()
                    if not work:
                        return work, False
                case Settings():
                    self._configure(item.settings)
                case Work():
                    work.append(item)
                case _:
                    assert_never(item)

    def _begin_pass(self) -> None:
        if self._pruning is None and self._sound:
            now_s = clock.monotonic_s()
            sweep = self._swept_s is None or now_s - self._swept_s > SWEEP_EVERY_S
            self._swept_s = now_s if sweep else self._swept_s
            self._pruning = Pass(self._store, self._settings, clock.wall(), sweep=sweep).steps()

    def _prune(self) -> None:
        """One step. What fails is left to the next pass; a damaged file to the next write."""
        if self._pruning is None:
            return
        try:
            next(self._pruning)
            self._pages += STEP_ROWS // ROWS_A_PAGE
        except StopIteration:
            self._pruning = None
        except (sqlite3.Error, OSError) as error:
            self._pruning = None
            if damaged(error):
                self._sound, self._damaged = False, self._settings.on_corruption == "continue"

    def _configure(self, settings: HistorySettings) -> None:
        self._settings = settings
        with suppress(sqlite3.Error):  # a connection that is opened anew takes it then
            self._store.configure(settings)

    def _rest(self) -> None:
        self._pages = 0
        with suppress(sqlite3.Error):  # a log that cannot be written back now is tried again after the next batch
            self._store.checkpoint()

    def _write(self, work: list[Work]) -> None:
        """Until it is written; at the end of the daemon not for longer than CLOSE_S."""
        begun_s = clock.monotonic_s()
        delay_s = RETRY_S
        while True:
            try:
                self._commit(work)
                return
            except (sqlite3.Error, OSError) as error:
                closing = self._closing.is_set()
                if closing and clock.monotonic_s() - begun_s > CLOSE_S:
                    self._say_failing(f"given up at the end of the daemon: {error}")
                    return
                if busy(error):  # the wait was within SQLite, and the connection is sound
                    if clock.monotonic_s() - begun_s > LOCKED_S and not self._said:
                        self._say_failing(f"history is locked by {lock_holder(self.path) or 'another process'}")
                    continue
                self._sound = False
                if damaged(error):
                    self._damaged = self._settings.on_corruption == "continue"
                    self._say_failing(f"history is damaged: {error}")
                else:
                    self._say_failing(f"history cannot be written: {error}")
                if closing:
                    time.sleep(RETRY_S)
                elif not (self._damaged and delay_s == RETRY_S):  # a fresh file needs no patience, a second one does
                    self._closing.wait(delay_s)
                delay_s = min(2 * delay_s, RETRY_S_MAX)

    def _commit(self, work: list[Work]) -> None:
        """One transaction; raises sqlite3.Error or OSError with nothing changed."""
        begun_s = clock.monotonic_s()
        if not self._sound:
            self._mend()
        store = self._store
        entries = [(self._without_orphans(one.entries), one.keeper) for one in work]
        batch = fold(entries, era=store.era, boot_id=self._boot_id, known=self._lives)
        claims = not batch.lives.keys() <= self._lives.keys()
        if claims:
            hit("claim.before_commit")
        if batch.ended:
            hit("outcome.before_commit")
        refused = [pair for pair in store.write(batch) if pair[0] not in batch.ended]
        if claims:
            hit("claim.after_commit")
        if batch.ended:
            hit("outcome.after_commit")
        for run_id in batch.ended:
            self._lives.pop(run_id, None)
        self._lives.update(batch.lives)
        for run_id, _ in refused:
            del self._lives[run_id]
            self._orphans.add(run_id)
        self._pages += PAGES_A_COMMIT + (len(batch.runs) + len(batch.decisions)) // ROWS_A_PAGE
        if self._said:
            self._say_failing("")
        seconds = clock.monotonic_s() - begun_s
        self._tell(self._report, Done(work[-1].ticket, sum(len(one.entries) for one in work), refused, seconds))

    def _mend(self) -> None:
        """A connection that failed is not used again."""
        self._pruning = None
        if self._damaged:
            self._store.abandon()
            self._store = Store.replace(self.path, self._settings, self._lives, now=clock.wall())
            self._damaged = False
            self._tell(self._report_set_aside, self._store.set_aside)
        else:
            self._store.reopen()
        self._sound = True

    def _report_set_aside(self, aside: Path) -> None:
        self.set_aside = aside
        self._aside(aside)

    def _without_orphans(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Leave out what is told about runs whose claim was refused: the fire has its account under another id."""
        if not self._orphans:
            return entries
        kept = []
        for entry in entries:
            if isinstance(entry, Record) and entry.run is not None and entry.run.run_id in self._orphans:
                if entry.run.state in ENDED:
                    self._orphans.discard(entry.run.run_id)
                continue
            kept.append(entry)
        return kept

    def _say_failing(self, reason: str) -> None:
        if reason != self._said:
            self._said = reason
            self._tell(self._report_failing, reason)


def _nothing(*_: object) -> None:
    """Nobody asked to be told."""
