"""Row 38: whoever reads the log may be slow, stuck or gone; the daemon goes on, counts what it lost, and says so."""

import contextlib
import json
import logging
import os
import pty
import select
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import pytest
from loguru import logger

from tidegate.model.command import Fact, Record
from tidegate.model.run import Outcome, Run, State
from tidegate.telemetry.logs import QUEUE_RECORDS_MAX, Logs, configure

pytestmark = pytest.mark.live

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PATIENCE_S = 20.0


def started(number: int = 0) -> Record:
    run = Run(run_id=f"r{number}", job="a", scheduled_at=T0, queued_at=T0, state=State.RUNNING, pid=number)
    return Record(fact=Fact.RUN_STARTED, at=T0, job="a", run=run)


def finished(outcome: Outcome) -> Record:
    run = Run(run_id="r", job="a", scheduled_at=T0, queued_at=T0, state=State.FINISHED, outcome=outcome)
    return Record(fact=Fact.RUN_FINISHED, at=T0, job="a", run=run)


class Pipe:
    """A pipe as standard error, and its reader."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        self.stream: TextIO = os.fdopen(writer, "w")
        self._rest = b""

    def rows(self, until: str) -> list[dict[str, Any]]:
        """JSON lines up to the first whose event is `until`."""
        rows: list[dict[str, Any]] = []
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if select.select([self.reader], [], [], 1.0)[0]:
                self._rest += os.read(self.reader, 1 << 16)
            *lines, self._rest = self._rest.split(b"\n")
            for index, line in enumerate(lines):
                rows.append(json.loads(line))
                if rows[-1]["event"] == until:
                    self._rest = b"".join(kept + b"\n" for kept in lines[index + 1 :]) + self._rest
                    return rows
        raise AssertionError(f"no {until} in {len(rows)} lines, the last: {rows[-3:]}")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.reader)
        with contextlib.suppress(OSError):
            self.stream.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@contextlib.contextmanager
def logging_to(stream: TextIO, format: str = "json", level: str = "info", **options: Any) -> Iterator[Logs]:
    logs = configure(format, level, stream=stream, environ=options.pop("environ", {}), **options)
    try:
        yield logs
    finally:
        logs.close(0.2)
        logger.remove()
        logging.basicConfig(force=True)
        logging.captureWarnings(False)


def wait_until(what: Any, deadline_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + deadline_s
    while not what():
        assert time.monotonic() < deadline, "it did not come true"
        threading.Event().wait(0.01)


# --- the three ways in ------------------------------------------------------------------------------------


def test_records_plain_messages_and_libraries_take_the_same_way(pipe: Pipe) -> None:
    with logging_to(pipe.stream) as logs:
        logs.observe(started(7))
        logger.bind(event="clock.stepped", job="a", step_s=2.5).warning("the clock was set by {} s", 2.5)
        logging.getLogger("apscheduler.scheduler").error("odd %s", "thing")
        logging.getLogger("apscheduler.scheduler").info("chatter")
        try:
            raise ValueError("inner\x1b[2J")
        except ValueError:
            logger.bind(event="end").exception("boom")
        first, plain, library, last = pipe.rows("end")
    assert (first["event"], first["level"], first["job"], first["run_id"]) == ("run.started", "info", "a", "r7")
    assert (plain["event"], plain["job"], plain["step_s"]) == ("clock.stepped", "a", 2.5)
    assert plain["message"] == "a: the clock was set by 2.5 s"
    assert (library["level"], library["message"], library["logger"]) == ("error", "odd thing", "apscheduler.scheduler")
    assert last["exception"][-1] == "ValueError: inner\\x1b[2J"


def test_values_of_variables_never_reach_the_log(pipe: Pipe) -> None:
    with logging_to(pipe.stream):
        password = "hunter2"
        try:
            raise ValueError(len(password) // 0)
        except ZeroDivisionError:
            logger.bind(event="end").exception("boom")
        assert password not in json.dumps(pipe.rows("end"))


def test_the_level_decides_what_is_written_and_may_change(pipe: Pipe) -> None:
    with logging_to(pipe.stream, level="warning") as logs:
        logs.observe(started())
        logs.observe(finished(Outcome.SUCCEEDED))
        logger.info("quiet")
        logs.observe(finished(Outcome.FAILED))
        rows = pipe.rows("run.finished")
        assert [row["level"] for row in rows] == ["error"]
        logs.set_level("info")
        logs.observe(started())
        assert pipe.rows("run.started")


def test_the_last_words_are_written_before_close_returns(pipe: Pipe) -> None:
    with logging_to(pipe.stream) as logs:
        for number in range(100):
            logs.observe(started(number))
        logger.bind(event="end").info("bye")
        logs.close()
        assert select.select([pipe.reader], [], [], 0)[0]
        written = os.read(pipe.reader, 1 << 16).splitlines()
    assert len(written) == 101


# --- nobody reads -----------------------------------------------------------------------------------------


def test_a_pipe_nobody_reads_costs_records_not_time(pipe: Pipe) -> None:
    with logging_to(pipe.stream) as logs:
        many = QUEUE_RECORDS_MAX + 3000
        slowest_s = 0.0
        for number in range(many):
            before = time.monotonic()
            logs.observe(started(number))
            slowest_s = max(slowest_s, time.monotonic() - before)
        assert slowest_s < 0.5
        wait_until(lambda: logs.dropped > 0)
        lost = logs.dropped
        rows, told = [], 0
        while told < lost:  # more than one line where there was room for a moment in between
            rows += pipe.rows("log.dropped")
            assert rows[-1]["level"] == "warning"
            told += rows[-1]["count"]
        assert told == lost
        logger.bind(event="end").info("still here")
        rows += pipe.rows("end")
        kept = sum(row["event"] == "run.started" for row in rows)
        assert kept + lost == many


def test_closing_gives_up_on_a_stuck_reader_in_time(pipe: Pipe) -> None:
    with logging_to(pipe.stream) as logs:
        for number in range(2000):
            logs.observe(started(number))
        before = time.monotonic()
        logs.close(0.5)
        assert 0.3 < time.monotonic() - before < 1.5


def test_a_reader_that_went_away_is_counted_not_raised(pipe: Pipe) -> None:
    with logging_to(pipe.stream) as logs:
        os.close(pipe.reader)
        logs.observe(started())
        wait_until(lambda: logs.dropped == 1)
        logs.observe(started())
        wait_until(lambda: logs.dropped >= 2)


def test_a_descriptor_that_somebody_made_non_blocking_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.stream.fileno(), False)
    with logging_to(pipe.stream) as logs:
        for number in range(3000):
            logs.observe(started(number))
        logger.bind(event="end").info("end")
        rows = pipe.rows("end")
        assert len(rows) == 3001 and logs.dropped == 0


# --- which format -----------------------------------------------------------------------------------------


def test_auto_on_a_terminal_is_the_console() -> None:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as stream, logging_to(stream, "auto", environ={"TERM": "xterm"}) as logs:
        logs.observe(started(7))
        shown = b""
        while b"started" not in shown:
            assert select.select([leader], [], [], PATIENCE_S)[0]
            shown += os.read(leader, 4096)
        assert b"\x1b[36m" in shown and "▸".encode() in shown
    os.close(leader)


def test_auto_on_a_pipe_is_json(pipe: Pipe) -> None:
    with logging_to(pipe.stream, "auto", environ={"JOURNAL_STREAM": "1:2"}) as logs:
        logs.observe(started())
        assert pipe.rows("run.started")[0]["message"] == "a: started (pid 0)"


def test_auto_under_systemd_is_the_journal(pipe: Pipe, tmp_path: Path) -> None:
    found = os.fstat(pipe.stream.fileno())
    environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(tmp_path / "journal"))
        journald.settimeout(PATIENCE_S)
        with logging_to(pipe.stream, "auto", environ=environ, journal_socket=str(tmp_path / "journal")) as logs:
            logs.observe(started(7))
            assert b"MESSAGE=a: started (pid 7)\n" in journald.recv(1 << 16)
    assert not select.select([pipe.reader], [], [], 0)[0]


def test_without_a_journal_the_log_is_json_and_says_why(pipe: Pipe, tmp_path: Path) -> None:
    with logging_to(pipe.stream, "journal", journal_socket=str(tmp_path / "none")) as logs:
        logs.observe(started())
        fallback, row = pipe.rows("run.started")
    assert fallback["event"] == "log.fallback" and "No such file" in fallback["message"]
    assert row["run_id"] == "r0"


def test_python_warnings_become_log_lines(pipe: Pipe) -> None:
    with logging_to(pipe.stream), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
        assert "old thing" in pipe.rows("library.message")[0]["message"]
