"""A lease ends with its holder, and with nothing else."""

import asyncio
import errno
import os
import resource
import subprocess
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from tidegate.model.event import LeaseReleased
from tidegate.model.lease import Lease
from tidegate.supervisor import control
from tidegate.supervisor.control import Control
from tidegate.supervisor.process import start_ticks

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
PATIENCE_S = 10.0


def test_watched_holders_leave_half_of_the_descriptors_to_others(monkeypatch):
    read, write = os.pipe()
    try:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (2 * (write + 1), 4096))
        assert control.with_room_left(write) == write
        monkeypatch.setattr(resource, "getrlimit", lambda _: (2 * write, 4096))
        with pytest.raises(OSError, match="Too many open files"):
            control.with_room_left(write)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(write)
    finally:
        os.close(read)


def test_a_holder_that_cannot_be_watched_for_want_of_descriptors_keeps_its_units_until_it_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "WATCH_AGAIN_S", 0.01)
    pidfd_open, failed = os.pidfd_open, []

    def short_of_descriptors(pid: int) -> int:
        if len(failed) < 3:
            failed.append(pid)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        watched.set()
        return pidfd_open(pid)

    monkeypatch.setattr(os, "pidfd_open", short_of_descriptors)
    told: list[LeaseReleased] = []
    watched, ended = asyncio.Event(), asyncio.Event()

    def post(event: LeaseReleased) -> None:
        told.append(event)
        ended.set()

    async def play() -> None:
        holder = subprocess.Popen(["sleep", "1000"])
        try:
            under = Control(None, SimpleNamespace(post=post), None, None, tmp_path)  # type: ignore[arg-type]  # posts only
            under.restore(
                Lease(lease_id="l1", uses={"db": 1}, holder="x", pid=holder.pid, pid_start=start_ticks(holder.pid),
                      run_id="", asked_at=NOW, granted_at=NOW)
            )  # fmt: skip
            async with asyncio.timeout(PATIENCE_S):
                await watched.wait()
                assert told == []
                holder.kill()
                await ended.wait()
            assert [event.lease_id for event in told] == ["l1"]
            under.close()
        finally:
            holder.kill()
            holder.wait()

    asyncio.run(play())
