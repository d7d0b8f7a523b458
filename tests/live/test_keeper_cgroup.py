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
        assert len(list(root.glob("run-*"))) == 1
        world.loop.run_until_complete(world.open_link.close(shutdown=True))
        world.wait(lambda: not list(root.glob("run-*")))

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
