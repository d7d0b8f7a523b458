"""Trees in cgroups, on a cgroup2 mount, as root; elsewhere the keeper does without, and that is tested too."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from keeper_world import World, cmdline_pids, there

from tidegate.executors import keeper, keeper_cgroup
from tidegate.executors.keeper_attempt import Attempt
from tidegate.executors.keeper_cgroup import Cgroups
from tidegate.executors.keeper_fork import Birth, fork_exec
from tidegate.executors.keeper_refusal import SpawnRefused
from tidegate.executors.keeper_tree import Trees
from tidegate.model.job import Limits

pytestmark = pytest.mark.live


def cgroup2_mount() -> Path | None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line and os.access(line.split()[4], os.W_OK):
            return Path(line.split()[4])
    return None


def launch(world: World, *options: str) -> "subprocess.Popen[bytes]":
    argv = [sys.executable, "-I", "-S", "-E", "-X", "utf8", keeper.__file__, str(world.runtime), *options]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.stdout.close()
    return process


def test_a_cgroup_that_cannot_be_used_is_done_without(tmp_path: Path) -> None:
    world = World(tmp_path)
    process = launch(world, f"--cgroup={tmp_path}/none")
    try:
        assert world.open().containment == "subreaper"
        assert world.exited(world.shell("exit 2")).exit_code == 2
    finally:
        process.terminate()
        process.wait()
        world.close()


if os.getuid() == 0 and cgroup2_mount() is not None:

    @pytest.fixture
    def root() -> Iterator[Path]:
        mount = cgroup2_mount()
        assert mount is not None
        root = mount / f"tidegate-test-{os.getpid()}"
        root.mkdir()
        yield root
        end = time.monotonic() + 10
        while root.exists():
            assert time.monotonic() < end
            for folder in [*root.glob("*/"), root]:
                try:
                    folder.rmdir()
                except OSError:
                    time.sleep(0.01)  # the kernel is still taking it down

    @pytest.fixture
    def world(tmp_path: Path, root: Path) -> Iterator[World]:
        world = World(tmp_path)
        process = launch(world, f"--cgroup={root}")
        assert world.open().containment == f"cgroup {root}"
        yield world
        process.terminate()
        process.wait()
        world.close()

    def test_what_hides_from_everything_else_is_in_the_cgroup(world: World, root: Path) -> None:
        token = f"985{os.getpid()}.{time.monotonic_ns()}"
        other = world.command("sleep", "60")
        run_id = world.shell(
            f"sleep 0.3; (setsid env -i sh -c 'trap \"\" TERM; echo $$; sleep {token}; :' &) ; sleep 60"
        )
        hidden = world.pid_from(run_id)
        assert "/run-" in Path(f"/proc/{hidden}/cgroup").read_text()
        world.signal(run_id, signal.SIGKILL)
        assert world.exited(run_id).signal == signal.SIGKILL
        world.wait(lambda: not there(hidden) and not cmdline_pids(token))
        assert there(world.started(other).pid)

    def test_cgroups_are_used_again_and_none_stays(world: World, root: Path) -> None:
        for _ in range(3):
            world.exited(world.shell("sleep 0.1"))
            world.run(0.2)  # until it was looked for leftovers
        assert len(list(root.glob("run-*"))) in (1, 2)  # of three runs: on a busy machine one is still looked through
        world.loop.run_until_complete(world.open_link.close(shutdown=True))
        world.wait(lambda: not list(root.glob("run-*")))

    def test_a_forked_run_is_in_its_cgroup_before_its_first_instruction(root: Path) -> None:
        cgroup = root / "limited-1"
        cgroup.mkdir()
        birth = Birth({"limits": {}})
        birth.cgroup = str(cgroup)
        argv = ["/bin/sh", "-c", f"grep -q '^0::.*{root.name}/limited-1$' /proc/self/cgroup"]
        pid = fork_exec({"argv": argv, "env": {}, "cwd": "/"}, -1, 0, birth)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    def test_a_forked_run_that_cannot_join_its_cgroup_does_not_begin(tmp_path: Path) -> None:
        birth = Birth({"limits": {}})
        birth.cgroup = f"{tmp_path}/none"
        with pytest.raises(SpawnRefused, match="could not join its control group"):
            fork_exec({"argv": ["touch", f"{tmp_path}/ran"], "env": {}, "cwd": "/"}, -1, 0, birth)
        assert not (tmp_path / "ran").exists()

    def test_what_the_cgroup_does_not_keep_falls_back(world: World, root: Path) -> None:
        """The hierarchy of this mount may lack controllers; each limit is kept somewhere, or said."""
        run_id = world.command("sleep", "0.2", limits=Limits(memory_bytes=64 << 20))
        note = world.started(run_id).note
        kept = "/limited-" in Path(f"/proc/{world.started(run_id).pid}/cgroup").read_text()
        assert kept == (note == "")
        assert world.exited(run_id).exit_code == 0
        world.wait(lambda: not list(root.glob("limited-*")))

    def test_a_short_run_pays_for_no_cgroup(world: World, root: Path) -> None:
        for _ in range(5):
            world.exited(world.command("true"))
        assert not list(root.glob("run-*"))


def test_only_a_delegated_cgroup_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Systemd's rule: one writer for each cgroup. Without Delegate=yes the one we live in is not ours to divide."""
    marks: dict[tuple[str, str], bytes] = {}

    def getxattr(path: str, name: str) -> bytes:
        if (path, name) not in marks:
            raise OSError(61, "No data available")
        return marks[path, name]

    mounts = tmp_path / "mountinfo"
    mounts.write_text("26 22 0:23 / /cg rw shared:4 - cgroup2 cgroup2 rw\n")
    ours = tmp_path / "cgroup"
    faked = {"/proc/self/cgroup": ours, "/proc/self/mountinfo": mounts}
    monkeypatch.setattr(keeper_cgroup.os, "getxattr", getxattr)
    monkeypatch.setattr(keeper_cgroup, "open", lambda path: faked[path].open(), raising=False)
    ours.write_text("4:memory:/x\n0::/system.slice/tidegate-keeper.service\n")
    assert keeper_cgroup.delegated() is None
    marks["/cg/system.slice/tidegate-keeper.service", "user.delegate"] = b"1"
    assert keeper_cgroup.delegated() == "/cg/system.slice/tidegate-keeper.service"
    ours.write_text("0::/\n")
    marks["/cg/", "user.delegate"] = b"1"
    assert keeper_cgroup.delegated() is None  # the root cgroup is nobody's


FILES = ("memory.max", "memory.swap.max", "memory.oom.group", "cpu.max", "pids.max", "io.weight", "cgroup.procs")


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cgroups:
    """A tree of plain files: where the kernel would make them in a new cgroup, this does."""
    (tmp_path / "cgroup.subtree_control").touch()

    real_mkdir = os.mkdir

    def mkdir(path: str, mode: int = 0o777) -> None:
        real_mkdir(path, mode)
        for name in FILES:
            (Path(path) / name).touch()

    monkeypatch.setattr(keeper_cgroup.os, "mkdir", mkdir)
    return Cgroups(str(tmp_path))


def test_limits_are_written_as_the_kernel_wants_them(made_up: Cgroups) -> None:
    limits = {"memory_bytes": 64 << 20, "cpu_cores": 1.5, "pids": 20, "io_weight": 300}
    cgroup, unkept = made_up.take_limited(limits)
    assert cgroup is not None and unkept == []
    written = {name: (Path(cgroup) / name).read_text() for name in FILES}
    assert written == {
        "memory.max": str(64 << 20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cpu.max": "150000 100000",
        "pids.max": "20",
        "io.weight": "300",
        "cgroup.procs": "",
    }
    assert made_up.take_limited({"cpu_cores": 0.001})[0] != cgroup  # never one that another job's limits are in
    assert (Path(made_up.root) / "limited-2/cpu.max").read_text() == "1000 100000"


def test_a_controller_that_is_not_there_is_named(made_up: Cgroups, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "FILES", ("pids.max",))
    assert made_up.take_limited({"memory_bytes": 1 << 20, "pids": 5})[1] == ["memory_bytes"]
    assert made_up.take_limited({"memory_bytes": 1 << 20}) == (None, ["memory_bytes"])


HOLDS = "x = b'x' * {bytes}; print(flush=True); input()"


@pytest.mark.parametrize("mib", [1, 40])
def test_what_a_run_held_when_it_moved_is_counted(made_up: Cgroups, mib: int) -> None:
    """A move takes no charge along: the kernel leaves it with the cgroup from which the process came."""
    trees = Trees(os.getpid(), made_up)
    program = [sys.executable, "-c", HOLDS.format(bytes=mib << 20)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()  # it holds what it holds
            attempt = Attempt({"run_id": "a", "attempt": 1}, b"")
            attempt.begin(process.pid, 0, time.monotonic())
            trees.by_leader[process.pid] = attempt
            trees.contain(attempt)
            stat = Path(f"{attempt.cgroup}/memory.stat")
            stat.write_text("anon 163840\nfile 999999999\nshmem 0\n")
            held = trees.memory_bytes(attempt, leader_only=False)
            assert held is not None and mib << 20 < held < (mib + 12) << 20
            stat.write_text(f"anon {200 << 20}\nshmem {1 << 20}\n")  # and what came since
            held = trees.memory_bytes(attempt, leader_only=False)
            assert held is not None and 201 << 20 <= held < 213 << 20
        finally:
            process.kill()


def test_an_oom_kill_is_the_attempts_whose_cgroup_saw_it(tmp_path: Path) -> None:
    """Row 43. One that an earlier user of the cgroup died of is not counted again."""
    trees = Trees(os.getpid(), Cgroups(str(tmp_path)))
    events = tmp_path / "memory.events"
    events.write_text("low 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 1\n")
    attempt = Attempt({"run_id": "a", "attempt": 1}, b"")
    assert not trees.was_oom_killed(attempt)
    attempt.cgroup = str(tmp_path)
    assert trees.was_oom_killed(attempt)
    attempt.end(-9, None, True)
    assert '"oom":true' in attempt.told_exited()
    attempt.oom_kills = 1
    assert not trees.was_oom_killed(attempt)
    assert keeper_cgroup.oom_kills(f"{tmp_path}/none") == 0
