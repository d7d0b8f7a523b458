"""Runs with limits, and what is said where this machine cannot keep one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from keeper_world import World
from loguru import logger

from tidegate.model.event import Started, StartFailed
from tidegate.model.job import Limits, RunAs

pytestmark = pytest.mark.live

MIB = 1024 * 1024
GREEDY = "import sys; data = bytearray(int(sys.argv[1])); print(len(data))"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.open()
    yield world
    world.close()


def failed(world: World, run_id: str) -> StartFailed:
    world.failed(run_id)
    return next(event for event in world.events if isinstance(event, StartFailed) and event.run_id == run_id)


def told(world: World, run_id: str) -> str:
    """All that the run wrote, once it has ended well."""
    exited = world.exited(run_id)
    text = world.output(run_id).decode()
    assert (exited.exit_code, exited.signal) == (0, None), text
    return text


def test_a_limit_that_nothing_keeps_is_said(world: World) -> None:
    run_id = world.command("true", limits=Limits(cpu_cores=0.5, io_weight=50, pids=10))
    note = world.started(run_id).note
    for key in ("cpu_max is not kept", "io_weight is not kept", "pids_max is not kept"):
        assert key in note
    assert world.started(world.command("true")).note == ""


def test_it_is_said_once_for_each_job_in_the_log(world: World) -> None:
    said: list[str] = []
    sink = logger.add(lambda message: said.append(message.record["message"]), level="WARNING")
    try:
        for name in ("one", "two", "one"):
            world.started(world.command("true", name=name, limits=Limits(io_weight=50)))
    finally:
        logger.remove(sink)
    about = "io_weight is not kept (no control group with what that takes is delegated to tidegate)"
    assert said == [f"job one: {about}", f"job two: {about}"]


def test_memory_max_ends_a_program_that_takes_more(world: World) -> None:
    more, less = (
        world.command("/usr/bin/env", "python3", "-c", GREEDY, str(size), limits=Limits(memory_bytes=64 * MIB))
        for size in (256 * MIB, MIB)
    )
    assert world.exited(more).exit_code == 1 and b"MemoryError" in world.output(more)
    assert told(world, less) == f"{MIB}\n"
    assert "memory_max holds for each of its processes" in world.started(more).note


def test_limits_do_not_change_what_else_a_run_is(world: World) -> None:
    script = (
        "umask; nice; pwd; cut -d' ' -f1,5,6 /proc/$$/stat; ls -l /proc/self/fd | wc -l; cat /proc/self/oom_score_adj"
    )
    run_id = world.shell(script, umask=0o027, nice=7, cwd="/usr", oom_score_adj=300)
    umask, nice, cwd, ids, fds, adjust = told(world, run_id).splitlines()
    assert (umask, nice, cwd, fds, adjust) == ("0027", "7", "/usr", "5", "300")  # 0, 1, 2, ls's own and a headline
    pid, group, session = ids.split()
    assert pid == group == session == str(world.started(run_id).pid)
    fields = dict(
        line.split(":", 1)
        for line in told(world, world.command("cat", "/proc/self/status", oom_score_adj=300)).splitlines()
    )
    internal = 0b11 << 31
    assert [int(fields[name], 16) & ~internal for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]


def test_what_cannot_be_started_with_limits_is_said_as_without(world: World) -> None:
    limits = Limits(memory_bytes=64 * MIB)
    missing = failed(world, world.command("/no/such", limits=limits))
    assert missing.reason == "program '/no/such' is not there; install it or correct the command"
    assert not missing.transient
    assert "cwd '/no' is not there" in failed(world, world.command("true", cwd="/no", limits=limits)).reason
    assert "was not found in PATH" in failed(world, world.command("nosuchprogram", limits=limits)).reason


def test_only_root_starts_a_run_as_somebody_else(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    run_id = world.shell("id", run_as=RunAs(user="games"))
    assert "only root can start it" in failed(world, run_id).reason
    assert not any(isinstance(event, Started) for event in world.events)
