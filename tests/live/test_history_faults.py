"""What befalls the history file: a full disk, a failing fsync, a lock, damage, a later version, kill -9.

Nothing is told as written that is not on the disk, nothing is lost that was told, and it heals by itself.
"""

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Final

import pytest
from tests.unit.history_world import (
    NOW,
    SETTINGS,
    Opened,
    a_lease,
    a_run,
    at,
    finished,
    known,
    of_lease,
    queued,
    remembered,
    skipped,
    starting,
)
from tests.unit.test_history_read import fill

from tidegate.history.entry import CorruptError, Entry, HistoryError, Meta, NewerSchemaError
from tidegate.history.read import Reader
from tidegate.history.schema import VERSION
from tidegate.history.store import SET_ASIDE, Store
from tidegate.history.writer import History
from tidegate.model.command import Fact, Record
from tidegate.model.limits import HISTORY_PENDING_MAX
from tidegate.model.plan import HistorySettings

pytestmark = pytest.mark.live

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = 4096
ENDS_S: Final = 30.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


@contextmanager
def process(*command: str) -> "Iterator[subprocess.Popen[str]]":
    """Ended with the test, however that ends; what it says later than that is a failure of its own."""
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        watchdog = threading.Timer(ENDS_S, child.kill)
        watchdog.start()
        try:
            yield child
        finally:
            child.kill()
            watchdog.cancel()


def driver(
    path: Path, *arguments: object, before: tuple[str, ...] = ()
) -> "AbstractContextManager[subprocess.Popen[str]]":
    return process(*before, sys.executable, "-m", "tests.live.history_driver", str(path), *map(str, arguments))


def until(lines: IO[str], begin: str) -> list[str]:
    """Lines up to one that begins so."""
    seen = []
    for line in lines:
        seen.append(line.rstrip("\n"))
        if line.startswith(begin):
            return seen
    raise AssertionError(f"no line begins with {begin!r}: {seen}")


def run_ids(path: Path) -> list[str]:
    with sqlite3.connect(path) as db:
        found = [run_id for (run_id,) in db.execute("SELECT run_id FROM runs ORDER BY seq")]
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    return found


def expected(count: int) -> list[str]:
    return [f"r{n:06}" for n in range(1, count + 1)]


# --- the disk is full (rows 19 and 20) -----------------------------------------------------------------------------


def test_a_full_disk_is_told_nothing_is_lost_and_it_heals_by_itself(path: Path) -> None:
    with driver(path, 400, 600_000) as child:
        assert child.stdin and child.stdout and child.stderr
        told = until(child.stdout, "failing")
        assert "history cannot be written" in told[-1]
        reached = sum(line.startswith("written") for line in told)
        assert 0 < reached < 400
        child.stdin.write("\n")
        child.stdin.flush()
        told += until(child.stdout, "closed")
        assert child.stderr.read() == ""
    assert "failing " in told, "that it is mended was not told"
    assert [line for line in told if line.startswith("written")] == [f"written {n}" for n in range(1, 401)]
    assert run_ids(path) == expected(400)


def test_a_file_system_without_room_is_told_and_takes_what_waited_when_there_is_some(tmp_path: Path) -> None:
    script = (
        'mount -t tmpfs -o size=1m none "$1" && dd if=/dev/zero of="$1/ballast" bs=1k count=400 status=none && '
        'exec "$2" -m tests.live.history_driver "$1/history.sqlite" 40'
    )
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "-", tmp_path, sys.executable]
    with process(*map(str, command)) as child:
        assert child.stdin and child.stdout
        told = until(child.stdout, "failing")
        assert "full" in told[-1]
        child.stdin.write(f"{tmp_path}/ballast\n")
        child.stdin.flush()
        told += until(child.stdout, "closed")
    assert [line for line in told if line.startswith("written")] == [f"written {n}" for n in range(1, 41)]


def test_what_waits_is_bounded_and_what_was_left_out_is_counted(path: Path) -> None:
    async def play() -> None:
        opened = Opened(path)
        with sqlite3.connect(path, isolation_level=None) as holder:
            holder.execute("BEGIN IMMEDIATE")
            opened.history.write([queued(a_run("first"))], True)
            await opened.until(opened.failing)
            over = 500
            runs = [a_run(f"r{n}", n) for n in range(1, HISTORY_PENDING_MAX + over)]
            for run in runs:
                opened.history.write([skipped(run)], False)
            last = opened.history.write([queued(a_run("kept", 10**6))], True)
            holder.execute("ROLLBACK")
        holder.close()
        await opened.written(last)
        await opened.close()
        assert opened.history._pending == 0

    asyncio.run(play())
    kept = run_ids(path)
    assert len(kept) == HISTORY_PENDING_MAX + 1
    assert kept[-1] == "kept"
    with sqlite3.connect(path) as db:
        reasons = [reason for (reason,) in db.execute("SELECT reason FROM decisions")]
    db.close()
    assert reasons == ["500 skipped fires are not on record: history could not be written"]


# --- calls that fail (row 21) --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [*range(1, 10), 12])
@pytest.mark.parametrize("call", ["fdatasync,fsync", "pwrite64"])
def test_a_call_that_fails_leaves_no_claim_that_was_told_and_is_not_there(path: Path, call: str, n: int) -> None:
    """The n-th sync or write of the process fails; a step of a few more writes each time."""
    number = n if "sync" in call else 4 * n + 20
    error = "EIO" if "sync" in call else "ENOSPC"
    trace = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}")
    with driver(path, 3, before=(*trace, "-e", f"inject={call}:error={error}:when={number}")) as child:
        told, errors = child.communicate(timeout=ENDS_S)
    lines = told.splitlines()
    assert "Traceback" not in errors, errors
    assert lines[-1] == "closed" or lines[-1].startswith("refused")
    written = sum(line.startswith("written") for line in lines)
    if lines[-1] == "closed":
        assert written == 3
        failed = [line for line in lines if line.startswith("failing")]
        assert len(failed) % 2 == 0, failed  # what was told is taken back
    again = History.open(path, SETTINGS, boot_id="boot-1", now=NOW)
    asyncio.run(again.close())
    assert run_ids(path)[:written] == expected(written)


def test_a_commit_whose_fsync_fails_is_not_told_as_written_and_done_again(path: Path) -> None:
    asyncio.run(remembered(path, []))
    # The first two are of a new log: its header, and its name in the folder.
    trace = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync")
    with driver(path, 3, before=(*trace, "-e", "inject=fdatasync:error=EIO:when=3")) as child:
        told, errors = child.communicate(timeout=ENDS_S)
    lines = told.splitlines()
    assert "disk I/O error" in next(line for line in lines if line.startswith("failing")), (told, errors)
    assert [line for line in lines if line.startswith("written")] == ["written 1", "written 2", "written 3"]
    assert run_ids(path) == expected(3)


def test_full_durability_syncs_each_commit_and_normal_does_not(path: Path) -> None:
    for durability, value in (("full", 2), ("normal", 1)):
        store = Store.open(path, HistorySettings(durability=durability), now=NOW)
        assert store.db.execute("PRAGMA synchronous").fetchone() == (value,)
        assert store.db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        store.close()


# --- kill -9 -------------------------------------------------------------------------------------------------------


def test_whatever_was_told_as_written_survives_kill_9(path: Path) -> None:
    chance = random.Random(3)
    for _ in range(6):
        with driver(path, 100_000) as child:
            assert child.stdout
            told = until(child.stdout, f"written {chance.randrange(1, 60)}")
            child.kill()
            told += child.stdout.read().splitlines()
        newest = max(int(line.split()[1]) for line in told if line.startswith("written") and line.split()[1:])
        found = set(run_ids(path))
        assert set(expected(newest)) <= found
        with sqlite3.connect(path) as db:
            odd = db.execute("SELECT count(*) FROM runs WHERE state = 'finished'").fetchone()[0]
        db.close()
        assert odd >= (newest + 1) // 2
        for name in path.parent.iterdir():
            name.unlink()


def test_memory_after_kill_9_is_what_had_been_claimed(path: Path) -> None:
    with driver(path, 100_000) as child:
        assert child.stdout
        until(child.stdout, "written 20")
        child.kill()
    history = History.open(path, SETTINGS, boot_id="boot-2", now=at(200_000))
    asyncio.run(history.close())
    unended = [one.run.run_id for one in history.memory.runs]
    assert set(expected(20)[1::2]) <= set(unended)
    assert unended == sorted(unended)


# --- locked (row 22) -----------------------------------------------------------------------------------------------


@pytest.fixture
def lock_holder(path: Path) -> Iterator["subprocess.Popen[str]"]:
    asyncio.run(remembered(path, []))
    script = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "db.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    assert child.stdout.readline() == "locked\n"
    yield child
    assert child.stdin
    child.stdin.close()
    child.wait(ENDS_S)
    child.stdout.close()


def test_a_lock_is_named_the_loop_lives_and_it_goes_on_after(path: Path, lock_holder: "subprocess.Popen[str]") -> None:
    async def play() -> None:
        opened = Opened(path)
        pauses_s: list[float] = []

        async def beat() -> None:
            while True:
                begun_s = time.perf_counter()
                await asyncio.sleep(0.005)
                pauses_s.append(time.perf_counter() - begun_s)

        heart = asyncio.create_task(beat())
        ticket = opened.history.write([queued(a_run())], True)
        begun_s = time.perf_counter()
        await opened.until(opened.failing)
        assert 0.9 < time.perf_counter() - begun_s < 5
        assert opened.failing()[0].startswith(f"history is locked by pid {lock_holder.pid} (python")
        assert Reader(path).runs() == ([], None)  # reading goes on
        lock_holder.kill()
        await opened.written(ticket)
        heart.cancel()
        assert opened.failing()[-1] == ""
        assert max(pauses_s) < 0.2
        await opened.close()

    asyncio.run(play())
    assert run_ids(path) == ["r1"]


def test_opening_waits_for_a_lock_where_something_must_be_written(
    path: Path, lock_holder: "subprocess.Popen[str]"
) -> None:
    history = History.open(path, SETTINGS, boot_id="b", now=NOW)  # nothing must be
    asyncio.run(history.close())
    lock_holder.kill()
    lock_holder.wait()
    asyncio.run(remembered(path, [queued(a_run())]))
    with sqlite3.connect(path, isolation_level=None, check_same_thread=False) as holder:
        holder.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.5, holder.execute, ("ROLLBACK",))
        release.start()
        history = History.open(path, SETTINGS, boot_id="b", now=at(-60))  # a new era is written
        release.join()
    holder.close()
    asyncio.run(history.close())
    assert history.memory.era == 1


def test_the_end_of_the_daemon_does_not_wait_for_ever_for_a_lock(
    path: Path, lock_holder: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.history.writer.CLOSE_S", 0.3)

    async def play() -> Opened:
        opened = Opened(path)
        opened.history.write([queued(a_run())], True)
        await opened.close()
        return opened

    assert "given up at the end of the daemon" in asyncio.run(play()).failing()[-1]


# --- damage (row 23) -----------------------------------------------------------------------------------------------

ACCOUNT: Final[list[Entry]] = [
    known("backup", "other"),
    Meta("key", "value"),
    queued(a_run("over", 0)),
    finished(a_run("over", 0)),
    queued(a_run("open", 60)),
    starting(a_run("open", 60)),
    Record(fact=Fact.JOB_PAUSED, at=NOW, job="other", reason="by ann"),
    of_lease(Fact.LEASE_GRANTED, a_lease("l1", granted_at=at(1))),
]


def damage(path: Path, first: int, last: int | None = None) -> bytes:
    """Flip every byte from one offset to another; what the file then is."""
    content = bytearray(path.read_bytes())
    for offset in range(first, min(len(content), last or len(content))):
        content[offset] ^= 0xFF
    path.write_bytes(content)
    return bytes(content)


@pytest.mark.parametrize("span", [(0, 100), (100, PAGE), (0, None)])
def test_a_damaged_file_is_set_aside_and_service_goes_on(path: Path, span: tuple[int, int | None]) -> None:
    asyncio.run(remembered(path, ACCOUNT))
    broken = damage(path, *span)
    history = asyncio.run(remembered(path, [queued(a_run("new", 120))]))
    assert [one.run.run_id for one in history.memory.runs] == ["new"]
    (aside,) = [entry for entry in path.parent.iterdir() if ".corrupt-" in entry.name and "Z-" not in entry.name]
    assert aside.read_bytes() == broken
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT fact FROM decisions LIMIT 1").fetchone() == (SET_ASIDE,)
    db.close()


def test_the_history_says_where_the_damaged_file_is(path: Path) -> None:
    path.write_bytes(b"not a database, whatever its name says" * 100)
    history = History.open(path, SETTINGS, boot_id="b", now=NOW)
    asyncio.run(history.close())
    assert history.set_aside == path.with_name("history.sqlite.corrupt-20260301T120000.000000Z")
    assert history.set_aside.exists()


def root_page(path: Path, name: str) -> int:
    with sqlite3.connect(path) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
    db.close()
    return int(page)


@pytest.mark.parametrize("table", ["runs_result", "jobs", "meta", "leases_open", "decisions"])
def test_what_a_damaged_file_still_tells_is_kept(path: Path, table: str) -> None:
    asyncio.run(remembered(path, ACCOUNT))
    page = root_page(path, table)
    damage(path, (page - 1) * PAGE, page * PAGE)
    memory = asyncio.run(remembered(path, [])).memory
    assert [one.run.run_id for one in memory.runs] == ([] if table == "runs_result" else ["open"])
    assert set(memory.jobs) == (set() if table == "jobs" else {"backup", "other"})
    assert memory.meta.get("key") == (None if table == "meta" else "value")
    assert [lease.lease_id for lease in memory.leases] == ([] if table == "leases_open" else ["l1"])
    if table not in ("jobs", "decisions"):
        assert memory.jobs["other"].paused_by == "ann"


def test_damage_stops_the_daemon_where_it_should(path: Path) -> None:
    asyncio.run(remembered(path, ACCOUNT))
    broken = damage(path, 0, 100)
    with pytest.raises(CorruptError, match="restore it from a copy"):
        History.open(path, HistorySettings(on_corruption="stop"), boot_id="b", now=NOW)
    assert path.read_bytes() == broken
    assert [entry.name for entry in path.parent.iterdir()] == ["history.sqlite"]


@pytest.mark.parametrize("choice", ["continue", "stop"])
def test_damage_while_it_is_written_is_told(path: Path, choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.history.writer.CLOSE_S", 0.1)
    store = Store.open(path, SETTINGS, now=NOW)
    fill(store.db, 20_000)
    store.close()

    async def play() -> Opened:
        opened = Opened(path, HistorySettings(on_corruption=choice), now=at(30_000))
        await opened.wrote(known("backup"), queued(a_run("open", 30_000)), urgent=True)
        opened.history._store.checkpoint(truncate=True)
        with sqlite3.connect(path) as db:
            inner = (
                [row[0] for row in db.execute("SELECT pageno FROM dbstat WHERE name = 'runs_job_result'")] if 0 else []
            )
        db.close()
        assert not inner
        with path.open("r+b") as file:  # all but the first pages: schema and roots stay readable
            file.seek(60 * PAGE)
            file.write(os.urandom(path.stat().st_size - 60 * PAGE))
        ticket = opened.history.write([queued(a_run("next", 30_060, job="job-7"))], True)
        if choice == "continue":
            await opened.written(ticket)
        else:
            await opened.until(opened.failing)
            opened.history._closing.set()
        await opened.close()
        return opened

    opened = asyncio.run(play())
    assert opened.failing()[0].startswith("history is damaged: ")
    asides = [what[1] for what in opened.told if what[0] == "aside"]
    if choice == "stop":
        assert not asides
        assert ("written", 2) not in opened.told
        return
    assert opened.failing()[-1] == ""
    assert opened.history.set_aside == asides[0]
    found = run_ids(path)
    assert found[-2:] == ["open", "next"]


# --- a later version (row 24) --------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_log", [False, True])
def test_a_later_schema_is_refused_and_the_file_is_as_it_was(path: Path, in_log: bool) -> None:
    asyncio.run(remembered(path, ACCOUNT))
    writer = sqlite3.connect(path)
    writer.execute(f"PRAGMA user_version = {VERSION + 1}")
    writer.commit()
    if not in_log:
        writer.close()
    before = {entry.name: entry.read_bytes() for entry in path.parent.iterdir() if not entry.name.endswith("-shm")}
    with pytest.raises(NewerSchemaError) as refused:
        History.open(path, SETTINGS, boot_id="b", now=NOW)
    assert f"schema {VERSION + 1}, this one knows {VERSION}" in str(refused.value)
    after = {entry.name: entry.read_bytes() for entry in path.parent.iterdir() if not entry.name.endswith("-shm")}
    assert after == before
    writer.close()


def test_a_folder_that_cannot_be_written_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="cannot be used"):
        History.open(tmp_path / "missing" / "history.sqlite", SETTINGS, boot_id="b", now=NOW)
