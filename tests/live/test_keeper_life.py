"""Who may go and who stays: the supervisor's connection, the keeper itself, and what each then knows."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from keeper_world import World, alive, cmdline_pids, there

from tidegate.executors import keeper
from tidegate.executors.link import KeeperError, left_clean
from tidegate.model.event import Exited, RunsUsed, Started
from tidegate.model.job import Job
from tidegate.model.run import Run

pytestmark = pytest.mark.live


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.open()
    yield world
    world.close()


def test_runs_go_on_without_a_supervisor_and_are_told_to_the_next(world: World) -> None:
    link = world.open_link
    running, ending = world.command("sleep", "60", name="long"), world.shell("sleep 0.1; exit 5")
    failing = world.start(Job(name="job", shell="exit 1", cwd="/"), "again", 2)
    pid = world.started(running).pid
    world.started(ending)
    world.wait(lambda: any(isinstance(e, Exited) and e.run_id == failing for e in world.events))
    link.acknowledge(failing, 2)
    keeper_pid = link.keeper_pid
    world.drop()
    world.wait(lambda: not there(world.pids[ending]))
    link = world.open()
    assert link.keeper_pid == keeper_pid
    held = {entry.run_id: entry for entry in link.held}
    assert set(held) == {running, ending}
    assert held[running].exited is None and held[running].pid == pid
    assert held[running].run is not None and held[running].run.run_id == running
    assert held[running].job is not None and held[running].job.name == "long"
    assert held[ending].exited is not None and held[ending].exited.exit_code == 5
    world.signal(running, signal.SIGTERM)
    assert world.exited(running).signal == signal.SIGTERM


def test_an_end_is_kept_until_it_is_acknowledged(world: World) -> None:
    run_id = world.shell("exit 3")
    world.exited(run_id)
    for _ in range(2):
        world.drop()
        link = world.open()
        assert [(h.run_id, h.exited.exit_code) for h in link.held if h.exited is not None] == [(run_id, 3)]
    link.acknowledge(run_id, 1)
    link.flush()
    world.drop()
    assert world.open().held == ()


def test_what_waits_for_its_instant_is_held_when_the_next_supervisor_comes(world: World) -> None:
    """Else it would be taken for never begun, and started again."""
    offset_s = time.monotonic() - time.time()
    for number in range(5):
        due = datetime.now(UTC) + timedelta(seconds=0.08)
        run = Run(run_id=f"ahead{number}", job="job", scheduled_at=due, queued_at=due)
        world.open_link.start(run, Job(name="job", command=("sleep", "60"), cwd="/"))
        world.open_link.flush()
        world.drop()
        link = world.open()
        held = {entry.run_id: entry for entry in link.held}
        assert set(held) == {f"ahead{n}" for n in range(number + 1)}
        assert held[run.run_id].started_mono_s >= due.timestamp() + offset_s - 0.001
    assert not world.events


def test_an_attempt_that_is_held_is_not_started_twice(world: World) -> None:
    job = Job(name="job", command=("sleep", "60"), cwd="/")
    world.start(job, "same")
    world.started("same")
    world.start(job, "same")
    assert "already held" in world.failed("same")


def test_without_a_supervisor_the_keeper_ends_a_run_at_its_time_out(world: World) -> None:
    kind = world.command("sleep", "60", timeout_s=0.5)
    deaf = world.shell("trap '' TERM; sleep 60 & wait; sleep 60", timeout_s=0.5)
    world.started(kind)
    world.started(deaf)
    world.drop()
    world.wait(lambda: not there(world.pids[kind]) and not there(world.pids[deaf]))
    held = {entry.run_id: entry for entry in world.open().held}
    assert held[kind].timed_out and held[deaf].timed_out
    assert held[kind].exited is not None and held[kind].exited.signal == signal.SIGTERM
    assert held[deaf].exited is not None and held[deaf].exited.signal == signal.SIGKILL


def test_with_a_supervisor_the_keeper_leaves_the_time_out_to_it(world: World) -> None:
    run_id = world.shell("sleep 0.6; exit 4", timeout_s=0.2)
    assert world.exited(run_id).exit_code == 4


def test_kill_of_the_keeper_is_said_once_and_a_new_one_can_be_opened(world: World) -> None:
    """Row 45."""
    run_id = world.command("sleep", "60")
    orphan = world.started(run_id).pid
    old = world.open_link.keeper_pid
    os.kill(old, signal.SIGKILL)
    world.wait(world.lost)
    world.open_link.signal(run_id, 1, signal.SIGTERM)
    world.open_link.acknowledge(run_id, 1)
    world.open_link.flush()
    world.run(0.05)
    assert len(world.lost()) == 1 and str(old) in world.lost()[0].reason
    assert not any(isinstance(event, Exited) for event in world.events)
    world.wait(lambda: not there(old))  # no zombie
    link = world.open()
    assert link.keeper_pid != old and link.held == ()
    assert world.exited(world.shell("exit 2")).exit_code == 2
    os.kill(orphan, signal.SIGKILL)


def test_term_of_the_keeper_ends_its_runs_and_no_orphan_stays(world: World) -> None:
    """Row 42: also of those that it is just starting."""
    token = f"986{os.getpid()}.{time.monotonic_ns()}"
    runs = [world.shell(f"trap '' TERM; setsid sleep {token} & sleep {token}") for _ in range(10)]
    world.started(runs[0])
    os.kill(world.open_link.keeper_pid, signal.SIGTERM)
    world.wait(world.lost)
    world.wait(lambda: not cmdline_pids(token), 5.0)


def test_shutdown_ends_the_keeper_and_is_no_loss(world: World) -> None:
    world.started(world.command("sleep", "60"))
    pid = world.open_link.keeper_pid
    world.loop.run_until_complete(world.open_link.close(shutdown=True))
    world.wait(lambda: not there(pid))
    assert not world.lost()
    assert not (world.runtime / "keeper.sock").exists()


def test_a_keeper_that_nobody_needs_leaves_after_five_seconds(world: World) -> None:
    world.exited(world.shell("exit 0"))
    world.open_link.acknowledge("run1", 1)
    world.open_link.flush()
    pid = world.open_link.keeper_pid
    world.drop()
    begun = time.monotonic()
    world.wait(lambda: not there(pid))
    assert 4.5 < time.monotonic() - begun < 8


def test_an_idle_keeper_does_not_wake_up(world: World) -> None:
    world.exited(world.shell("exit 0"))
    world.run(0.3)
    status = Path(f"/proc/{world.open_link.keeper_pid}/status")

    def switches() -> str:
        return next(line for line in status.read_text().splitlines() if line.startswith("voluntary"))

    before = switches()
    world.run(1.5)
    assert switches() == before


def test_each_keeper_has_a_name_of_its_own_and_each_attempt_its_start(world: World) -> None:
    run_id = world.command("sleep", "60")
    started = world.started(run_id)
    ticks = int(Path(f"/proc/{started.pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    instance = world.open_link.instance
    assert started.pid_start == ticks and len(instance) == 16
    world.drop()
    link = world.open()
    assert link.instance == instance and link.held[0].pid_start == ticks
    world.loop.run_until_complete(link.close(shutdown=True))
    world.wait(lambda: not alive(link.keeper_pid))
    assert world.open().instance not in ("", instance)


def test_starts_are_known_to_the_tick_however_they_fall(world: World) -> None:
    """Some begin in one tick and are told in the next."""
    for _ in range(60):
        started = world.started(world.command("sleep", "60"))
        ticks = int(Path(f"/proc/{started.pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
        assert started.pid_start == ticks


def test_a_keeper_that_leaves_with_empty_hands_proves_it(world: World) -> None:
    assert left_clean(world.runtime) == ""
    world.exited(world.shell("exit 0"))
    link = world.open_link
    link.acknowledge("run1", 1)
    link.acknowledge("run1", 1)  # twice does no harm
    assert left_clean(world.runtime) == ""
    world.loop.run_until_complete(link.close(shutdown=True))
    world.wait(lambda: not there(link.keeper_pid))
    assert left_clean(world.runtime) == link.instance
    world.open()
    assert left_clean(world.runtime) == link.instance  # until the next one leaves


@pytest.mark.parametrize("how", ["killed", "unacknowledged"])
def test_a_keeper_that_does_not_leave_with_empty_hands_proves_nothing(world: World, how: str) -> None:
    world.exited(world.shell("exit 0"))
    link = world.open_link
    if how == "killed":
        link.acknowledge("run1", 1)
        os.kill(link.keeper_pid, signal.SIGKILL)
        world.wait(world.lost)
    else:
        world.loop.run_until_complete(link.close(shutdown=True))
    world.wait(lambda: not there(link.keeper_pid))
    assert left_clean(world.runtime) == ""


def test_a_proof_that_is_a_link_or_a_pipe_is_none(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("0123456789abcdef\n")
    (tmp_path / "keeper.left").symlink_to(tmp_path / "there")
    assert left_clean(tmp_path) == ""
    (tmp_path / "keeper.left").unlink()
    os.mkfifo(tmp_path / "keeper.left")
    assert left_clean(tmp_path) == ""


def test_a_second_supervisor_is_refused_while_the_first_lives(world: World) -> None:
    first = world.open_link
    with pytest.raises(KeeperError, match=f"process {os.getpid()} is this keeper's supervisor"):
        world.open()
    world.link = first
    assert world.exited(world.shell("exit 1")).exit_code == 1


def test_a_second_keeper_in_the_same_folder_refuses(world: World) -> None:
    argv = [sys.executable, "-I", "-S", "-E", keeper.__file__, str(world.runtime)]
    second = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    assert second.returncode != 0 and second.stderr == f"another keeper serves {world.runtime}\n"
    assert world.exited(world.shell("exit 1")).exit_code == 1


def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    world = World(tmp_path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(world.runtime / "keeper.sock"))
    try:
        world.open()
        assert world.exited(world.shell("exit 1")).exit_code == 1
    finally:
        world.close()


def test_the_socket_is_private_and_its_path_may_be_long(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120) / ("y" * 120)
    folder.mkdir(parents=True)
    world = World(folder)
    try:
        world.open()
        assert stat.S_IMODE((world.runtime / "keeper.sock").stat().st_mode) == 0o600
    finally:
        world.close()


def test_noise_on_the_socket_does_not_harm_the_keeper(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.open()
    try:
        run_id = world.command("sleep", "60")
        world.started(run_id)
        world.drop()
        for noise in (b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0[]", b"\x01\0\0\0\0\0\0\0{", b""):
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.connect(str(world.runtime / "keeper.sock"))
                stranger.sendall(noise)
        assert [held.run_id for held in world.open().held] == [run_id]
    finally:
        world.close()


def test_a_runtime_folder_that_is_not_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.runtime.rmdir()
    with pytest.raises(KeeperError, match=r"the keeper's folder .* cannot be used: No such file"):
        world.open()
    world.close()


def test_a_hundred_starts_at_once_are_begun_before_the_last_is_written(world: World) -> None:
    runs = [world.link_start(f"many{n}") for n in range(100)]
    world.open_link.flush()
    for run_id in runs:
        assert world.exited(run_id).exit_code == 0
    assert sum(isinstance(event, Started) for event in world.events) == 100


def test_the_keeper_stays_small(world: World) -> None:
    for n in range(200):
        world.link_start(f"r{n}")
    world.open_link.flush()
    for n in range(200):
        world.exited(f"r{n}")
    rollup = Path(f"/proc/{world.open_link.keeper_pid}/smaps_rollup").read_text()
    pss_kib = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    assert pss_kib < 10 * 1024
    assert alive(world.open_link.keeper_pid)


@pytest.mark.parametrize("afresh", [True, False])
def test_with_what_runs_hold_is_told_whether_it_was_looked_at_just_now(world: World, afresh: bool) -> None:
    world.started(world.shell("sleep 60"))
    world.open_link.ask_use(afresh=afresh)
    told = world.wait(lambda: [event for event in world.events if isinstance(event, RunsUsed)])
    assert [event.afresh for event in told] == [afresh]
