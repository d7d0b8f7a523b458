"""The journal sink against a socket of our own in journald's place: what it gets, and what happens when it is stuck."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tidegate.model.command import Fact, Record
from tidegate.model.run import Run, State
from tidegate.telemetry.journal import JournalSink
from tidegate.telemetry.logs import QUEUE_RECORDS_MAX, Logs

pytestmark = pytest.mark.live

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PATIENCE_S = 20.0


def started(number: int) -> Record:
    run = Run(run_id=f"r{number}", job="a", scheduled_at=T0, queued_at=T0, state=State.RUNNING, pid=number)
    return Record(fact=Fact.RUN_STARTED, at=T0, job="a", run=run)


@contextlib.contextmanager
def journald(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(PATIENCE_S)
        yield sock
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[Logs]:
    logs = Logs(JournalSink(str(path)), "info")
    try:
        yield logs
    finally:
        logs.close(0.2)


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it did not come true"
        threading.Event().wait(0.01)


def receive(sock: socket.socket, until: bytes) -> list[bytes]:
    got = [sock.recv(1 << 16)]
    while until not in got[-1]:
        got.append(sock.recv(1 << 16))
    return got


def test_one_datagram_a_record_in_order(tmp_path: Path) -> None:
    with journald(tmp_path / "j") as sock, logging_to(tmp_path / "j") as logs:
        for number in range(50):
            logs.observe(started(number))
        got = receive(sock, b"TIDEGATE_RUN_ID=r49\n")
    assert [f"TIDEGATE_RUN_ID=r{number}\n".encode() in data for number, data in enumerate(got)] == [True] * 50
    assert all(b"SYSLOG_IDENTIFIER=tidegate\n" in data and b"PRIORITY=6\n" in data for data in got)


def test_a_full_journald_costs_records_not_time_and_the_loss_is_told(tmp_path: Path) -> None:
    with journald(tmp_path / "j") as sock, logging_to(tmp_path / "j") as logs:
        many = QUEUE_RECORDS_MAX + 2000
        slowest_s = 0.0
        for number in range(many):
            before = time.monotonic()
            logs.observe(started(number))
            slowest_s = max(slowest_s, time.monotonic() - before)
        assert slowest_s < 0.5
        lost = logs.dropped
        assert lost > 0
        # Others in this process go on: the sink waits without the interpreter lock.
        before = time.monotonic()
        sum(range(100_000))
        assert time.monotonic() - before < 1.0
        told = 0
        while told < lost:  # more than one line where there was room for a moment in between
            line = receive(sock, b"TIDEGATE_EVENT=log.dropped\n")[-1]
            assert b"PRIORITY=4\n" in line
            told += int(line.partition(b"TIDEGATE_COUNT=")[2].split(b"\n")[0])
        assert told == lost


def test_a_journald_that_is_gone_is_counted_and_one_that_returns_is_used(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        with journald(tmp_path / "j") as sock:
            logs = stack.enter_context(logging_to(tmp_path / "j"))
            logs.observe(started(1))
            receive(sock, b"TIDEGATE_RUN_ID=r1\n")
        logs.observe(started(2))
        wait_until(lambda: logs.dropped == 1)
        again = stack.enter_context(journald(tmp_path / "j"))
        logs.observe(started(3))
        got = receive(again, b"TIDEGATE_EVENT=log.dropped\n")
        assert any(b"TIDEGATE_RUN_ID=r3\n" in data for data in got)
        assert b"TIDEGATE_COUNT=1\n" in got[-1]


def test_a_journald_that_dies_while_we_wait_for_it_frees_the_writer(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with contextlib.ExitStack() as stack:
        with journald(tmp_path / "j"):
            logs = stack.enter_context(logging_to(tmp_path / "j"))
            for number in range(100):  # more than net.unix.max_dgram_qlen
                logs.observe(started(number))
        wait_until(lambda: logs.dropped > 0)
        logs.close()
        assert set(threading.enumerate()) <= before


def test_a_missing_journald_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        JournalSink(str(tmp_path / "none"))
