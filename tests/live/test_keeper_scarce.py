"""The machine is short of processes, memory or descriptors: a start is told as worth another try, all else goes on."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from keeper_world import World, alive

from tidegate.executors import keeper_tree
from tidegate.model.event import StartFailed
from tidegate.model.job import Limits, Output

pytestmark = pytest.mark.live

STRACE = shutil.which("strace")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.open()
    yield world
    world.close()


def failed(world: World, run_id: str) -> StartFailed:
    world.failed(run_id)
    return next(event for event in world.events if isinstance(event, StartFailed) and event.run_id == run_id)


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


@contextmanager
def descriptors(pid: int, free: int) -> Iterator[None]:
    """While this lasts the process can open so many more and no other."""
    used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + free, hard))
    yield
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def test_with_few_descriptors_left_nothing_starts_and_all_else_goes_on(world: World) -> None:
    """Row 16. Those that are left serve to look, to signal and to be connected to."""
    running = world.shell("setsid sleep 60 & echo $!; sleep 60")
    child = world.pid_from(running)
    world.run(0.2)
    keeper = world.open_link.keeper_pid
    with descriptors(keeper, 10):
        for limits in (Limits(), Limits(memory_bytes=1 << 30)):
            refused = failed(world, world.shell("true", limits=limits))
            assert refused.transient and "out of descriptors" in refused.reason
        world.drop()
        assert world.open().keeper_pid == keeper
        world.signal(running, signal.SIGKILL)
        assert world.exited(running).signal == signal.SIGKILL
        world.wait(lambda: not alive(child))
    assert world.exited(world.shell("exit 3")).exit_code == 3


def test_without_any_descriptor_the_keeper_forgets_no_tree(world: World) -> None:
    """What cannot be seen is not gone."""
    running = world.shell("setsid sleep 60 & echo $!; exec sleep 60")
    child = world.pid_from(running)
    world.run(0.2)
    keeper = world.open_link.keeper_pid
    with descriptors(keeper, 0):
        refused = failed(world, world.shell("true"))
        assert refused.transient and "descriptors" in refused.reason
        world.signal(running, signal.SIGKILL)
        world.run(0.3)
        assert alive(child)
    assert world.exited(running).signal == signal.SIGKILL
    world.wait(lambda: not alive(child))


def test_a_connection_that_cannot_be_taken_does_not_keep_the_keeper_busy(world: World) -> None:
    keeper = world.open_link.keeper_pid
    world.drop()
    world.run(0.1)
    with descriptors(keeper, 0):
        before = cpu_ticks(keeper)
        opening = world.loop.create_task(world.connect())
        world.run(1.0)
        assert not opening.done() and cpu_ticks(keeper) - before < 20
    world.link = world.loop.run_until_complete(opening)
    assert world.exited(world.shell("exit 3")).exit_code == 3


if STRACE is not None and os.getuid() == 0:

    @contextmanager
    def injected(pid: int, *rules: str) -> Iterator[None]:
        """strace attached to the keeper alone, its children not followed."""
        argv = [STRACE or "", "-qq", "-o", "/dev/null", "-p", str(pid)]
        for rule in rules:
            argv += ["-e", f"inject={rule}"]
        process = subprocess.Popen(argv, stderr=subprocess.PIPE)
        end = time.monotonic() + 10
        while f"TracerPid:\t{process.pid}" not in Path(f"/proc/{pid}/status").read_text():
            assert process.poll() is None and time.monotonic() < end, process.stderr and process.stderr.read()
            time.sleep(0.01)
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=10)

    @pytest.mark.parametrize("error", ["EAGAIN", "ENOMEM"])
    @pytest.mark.parametrize("limits", [Limits(), Limits(memory_bytes=1 << 30)], ids=["posix_spawn", "fork"])
    def test_a_fork_that_fails_is_a_matter_of_time(world: World, error: str, limits: Limits) -> None:
        """Row 15."""
        with injected(world.open_link.keeper_pid, f"clone,clone3,fork,vfork:error={error}"):
            for output in (Output.FILE, Output.DISCARD):
                refused = failed(world, world.shell("true", limits=limits, output=output))
                assert refused.transient and "out of processes or memory" in refused.reason
        assert world.exited(world.shell("exit 3", limits=limits)).exit_code == 3
        assert not world.lost()

    def test_one_failed_open_after_another_harms_no_run(world: World) -> None:
        """Row 16, for the table of the whole machine: every second open of the keeper fails."""
        pid = world.open_link.keeper_pid
        with injected(pid, "openat,open:error=ENFILE:when=1+2"):
            runs = [world.shell("sleep 0.05; exit 3") for _ in range(20)]

            def answered(run_id: str) -> bool:
                return world.ended(run_id) or any(
                    isinstance(event, StartFailed) and event.run_id == run_id for event in world.events
                )

            world.wait(lambda: all(answered(run_id) for run_id in runs))
        for event in world.events:
            assert not isinstance(event, StartFailed) or event.transient, event
        assert {world.exited(run_id).exit_code for run_id in runs if world.ended(run_id)} <= {3}
        assert world.exited(world.shell("exit 4")).exit_code == 4
        assert not world.lost()


def test_a_look_that_saw_only_a_part_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every second descriptor gone, half of the processes would look as if they had ended."""
    trees = keeper_tree.Trees(os.getpid(), None)
    trees.refresh()
    assert not trees.blind
    real_open = os.open

    def open_or_not(path: str, flags: int) -> int:
        if path == f"/proc/{os.getpid()}/stat":
            raise OSError(errno.ENFILE, "Too many open files in system")
        return real_open(path, flags)

    monkeypatch.setattr(keeper_tree.os, "open", open_or_not)
    trees.refresh()
    assert trees.blind
    monkeypatch.undo()
    trees.refresh()
    assert not trees.blind
