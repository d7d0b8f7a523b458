"""Trees that are frozen: nothing of them runs, and nothing stays so when its supervisor has gone. Fault 44."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from daemon_process import Daemon, until
from keeper_world import World, alive, there

from tidegate.executors import keeper
from tidegate.executors.keeper_freeze import THAW_S
from tidegate.executors.link import Held
from tidegate.model.job import Leftovers

pytestmark = pytest.mark.live

STILL_S = 0.3  # without a word from what speaks every hundredth of a second
FROZEN_S_MIN = STILL_S * 0.8  # as the keeper counts: on a busy machine it hears of it a moment after it was asked to
THAWED_S_MAX = 5.0  # the promise
TALK = "while :; do echo; sleep 0.01; done"
DRIVER = Path(__file__).parent / "freeze_driver.py"


def cgroup2_mount() -> Path | None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line and os.access(line.split()[4], os.W_OK):
            return Path(line.split()[4])
    return None


KINDS = ["stop", "cgroup"] if os.getuid() == 0 and cgroup2_mount() is not None else ["stop"]


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """With STOP, and with a control group for each run."""
    world = World(tmp_path)
    root = None
    if request.param == "cgroup":
        root = Path(str(cgroup2_mount())) / f"tidegate-freeze-{os.getpid()}"
        root.mkdir()
    process = begin_keeper(world, root)
    world.open()
    yield world
    process.terminate()
    process.wait()
    world.close()
    end = time.monotonic() + 10
    while root is not None and root.exists():
        assert time.monotonic() < end
        for folder in [*root.glob("*/"), root]:
            try:
                folder.rmdir()
            except OSError:
                time.sleep(0.01)  # the kernel is still taking it down


def begin_keeper(world: World, root: Path | None) -> "subprocess.Popen[bytes]":
    options = [f"--cgroup={root}"] if root is not None else []
    argv = [sys.executable, "-I", "-S", "-E", "-X", "utf8", keeper.__file__, str(world.runtime), *options]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.stdout.close()
    return process


def grown(world: World, run_id: str, by: int = 3) -> None:
    """Wait until it has said more."""
    before = len(world.output(run_id))
    world.wait(lambda: len(world.output(run_id)) >= before + by)


def stands_still(world: World, run_id: str) -> bool:
    before = world.output(run_id)
    world.run(STILL_S)
    return world.output(run_id) == before


def freeze(world: World, run_id: str) -> None:
    """And wait until nothing of it runs any more."""
    world.open_link.freeze(run_id, 1)
    world.open_link.flush()
    world.wait(lambda: stands_still(world, run_id))


def thaw(world: World, run_id: str) -> None:
    world.open_link.thaw(run_id, 1)
    world.open_link.flush()


def held(world: World, run_id: str) -> Held:
    return next(entry for entry in world.open_link.held if entry.run_id == run_id)


def test_a_whole_tree_stands_still_and_goes_on(world: World) -> None:
    """Children, a session of its own, and a daemon that left them all and ignores what it can."""
    hidden = f"(setsid sh -c 'trap \"\" TERM TSTP CONT HUP; {TALK}' &)"
    run_id = world.shell(f"{TALK} & setsid sh -c '{TALK}' & {hidden}; sleep 0.2; {TALK}")
    grown(world, run_id, 80)
    begun = time.monotonic()
    world.open_link.freeze(run_id, 1)
    freeze(world, run_id)  # twice is once
    world.run(0.5)
    assert stands_still(world, run_id)
    thaw(world, run_id)
    most_s = time.monotonic() - begun
    grown(world, run_id, 40)
    thaw(world, run_id)  # of what is not frozen: nothing
    world.signal(run_id, signal.SIGKILL)
    exited = world.exited(run_id)
    assert exited.usage.frozen_s is not None and exited.duration_s is not None
    assert 0.8 <= exited.usage.frozen_s <= most_s + 0.1 < exited.duration_s


def test_what_forks_all_the_time_does_not_get_away(world: World) -> None:
    run_id = world.shell("step() { echo; step & }; step; step; sleep 60")
    grown(world, run_id, 50)
    freeze(world, run_id)
    world.run(0.3)
    assert stands_still(world, run_id)
    thaw(world, run_id)
    grown(world, run_id, 20)
    world.signal(run_id, signal.SIGKILL)
    assert world.exited(run_id).signal == signal.SIGKILL


def test_what_the_job_stopped_itself_stays_so(world: World) -> None:
    run_id = world.shell(f"sleep 60 & kill -STOP $!; echo $!; {TALK}")
    stopped = world.pid_from(run_id)

    def state() -> str:
        return Path(f"/proc/{stopped}/stat").read_text().rsplit(")", 1)[1].split()[0]

    world.wait(lambda: state() == "T")  # a signal is heeded when its process has its turn
    freeze(world, run_id)
    thaw(world, run_id)
    grown(world, run_id)
    assert state() == "T"


def test_a_frozen_run_obeys_term_at_once(world: World) -> None:
    run_id = world.shell(f"trap 'exit 7' TERM; {TALK}", kill_grace_s=20.0)
    grown(world, run_id)
    freeze(world, run_id)
    begun = time.monotonic()
    world.signal(run_id, signal.SIGTERM)
    exited = world.exited(run_id)
    assert exited.exit_code == 7 and exited.usage.frozen_s is not None and exited.usage.frozen_s >= FROZEN_S_MIN
    assert time.monotonic() - begun < 5


def test_a_frozen_run_is_killed_whole_and_harms_none_after_it(world: World) -> None:
    """In a control group the next one has the same."""
    for _ in range(2):
        run_id = world.shell(f"(trap '' TERM; echo $$; {TALK}) & {TALK}")
        grown(world, run_id, 20)
        freeze(world, run_id)
        world.signal(run_id, signal.SIGKILL)
        exited = world.exited(run_id)
        assert exited.signal == signal.SIGKILL and exited.usage.frozen_s is not None
        world.wait(lambda run_id=run_id: not there(world.pids[run_id]))
        world.run(0.2)  # until it was looked for leftovers


def test_what_outlives_a_frozen_leader_is_thawed(world: World) -> None:
    """It was killed by somebody else."""
    run_id = world.shell(f"sh -c '{TALK}' & {TALK}", leftovers=Leftovers.LEAVE)
    grown(world, run_id, 20)
    freeze(world, run_id)
    os.kill(world.pids[run_id], signal.SIGKILL)
    assert world.exited(run_id).signal == signal.SIGKILL
    grown(world, run_id, 20)
    world.open_link.freeze(run_id, 1)  # it has ended
    world.open_link.flush()
    grown(world, run_id, 30)
    os.killpg(world.pids[run_id], signal.SIGKILL)


def test_one_that_was_told_to_end_is_not_frozen(world: World) -> None:
    run_id = world.shell(f"trap 'sleep 0.4; exit 3' TERM; {TALK}", kill_grace_s=20.0)
    grown(world, run_id)
    world.open_link.signal(run_id, 1, signal.SIGTERM)
    world.open_link.freeze(run_id, 1)
    world.open_link.flush()
    exited = world.exited(run_id)
    assert exited.exit_code == 3 and exited.usage.frozen_s == 0.0


def test_the_time_out_of_a_frozen_run_goes_on_without_a_supervisor(world: World) -> None:
    run_id = world.shell(TALK, timeout_s=1.5)
    grown(world, run_id)
    freeze(world, run_id)
    world.drop()
    world.wait(lambda: not there(world.pids[run_id]), 4.0)
    world.open()
    assert held(world, run_id).timed_out and held(world, run_id).frozen_s > 0.5


@pytest.mark.parametrize("world", KINDS[-1:], indirect=True)
def test_a_killed_supervisor_leaves_nothing_frozen_and_the_time_is_known(world: World) -> None:
    """Row 44. Another supervisor may come at once: it need not know of anything, and may freeze it again."""
    alone, again = world.shell(TALK), world.shell(TALK, name="job")
    grown(world, alone)
    grown(world, again)
    world.drop()
    argv = [sys.executable, str(DRIVER), str(world.runtime), str(world.state)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        assert set(driver.stdout.readline().decode().split()) == {alone, again}
        world.wait(lambda: stands_still(world, alone) and stands_still(world, again))
        driver.kill()
    gone = time.monotonic()
    world.open()
    assert held(world, alone).frozen and held(world, alone).frozen_s >= FROZEN_S_MIN
    world.open_link.freeze(again, 1)
    world.open_link.flush()
    assert stands_still(world, alone)
    size = len(world.output(alone))
    world.wait(lambda: len(world.output(alone)) > size, THAWED_S_MAX - (time.monotonic() - gone))
    assert stands_still(world, again)
    world.drop()
    world.open()
    assert not held(world, alone).frozen and held(world, again).frozen
    assert THAW_S <= held(world, alone).frozen_s <= THAWED_S_MAX + STILL_S * 4
    world.signal(alone, signal.SIGTERM)
    frozen_s = world.exited(alone).usage.frozen_s
    assert frozen_s is not None and THAW_S <= frozen_s <= THAWED_S_MAX + STILL_S * 4
    assert held(world, again).frozen_s > frozen_s


def test_a_daemon_that_was_killed_while_its_run_was_frozen_knows_for_how_long(tmp_path: Path) -> None:
    """Row 44, to the end: nobody comes within the five seconds, and what is on record then is true."""
    d = Daemon(tmp_path, "")
    d.jobs_file.write_text(
        f"[jobs.a]\nshell = 'while [ ! -e {d.folder}/gate ]; do echo; sleep 0.01; done'\ncron = '@reboot'\n"
    )
    try:
        run_id = d.start().wait_for("run.started", job="a")["run_id"]
        output = d.state / "output" / "a" / f"{run_id}.log"
        until(output.exists)
        d.end(signal.SIGKILL)
        argv = [sys.executable, str(DRIVER), str(d.runtime), str(d.state)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as driver:
            assert driver.stdout is not None
            assert driver.stdout.readline().decode().split() == [run_id]
            driver.kill()
        gone, size = time.monotonic(), output.stat().st_size + 10  # what it may have said until it was frozen
        until(lambda: output.stat().st_size > size, THAWED_S_MAX)
        thawed_s = time.monotonic() - gone
        d.start().wait_for("run.recovered", job="a")
        (d.folder / "gate").touch()
        assert d.wait_for("run.finished", job="a")["outcome"] == "succeeded"
        with closing(sqlite3.connect(d.state / "history.sqlite")) as history:
            rows = until(lambda: history.execute("SELECT frozen_s FROM runs WHERE state = 'finished'").fetchall())
        assert THAW_S <= rows[0][0] <= thawed_s + 0.5
    finally:
        d.clean_up()


if "cgroup" in KINDS:

    @pytest.mark.parametrize("world", ["cgroup"], indirect=True)
    def test_a_control_group_that_a_killed_keeper_left_frozen_goes_on_with_the_next(world: World) -> None:
        run_id = world.shell(TALK)
        grown(world, run_id, 10)
        freeze(world, run_id)
        cgroup = Path(f"/proc/{world.pids[run_id]}/cgroup").read_text().split("0::")[1].strip()
        folder = Path(str(cgroup2_mount())) / cgroup.lstrip("/")
        assert (folder / "cgroup.freeze").read_text() == "1\n"
        os.kill(world.open_link.keeper_pid, signal.SIGKILL)
        world.wait(world.lost)
        process = begin_keeper(world, folder.parent)
        grown(world, run_id)
        process.terminate()
        process.wait()
        os.killpg(world.pids[run_id], signal.SIGKILL)
        world.wait(lambda: not alive(world.pids[run_id]))
