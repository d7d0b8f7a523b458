"""Whole trees end: grandchildren, daemons, fork storms, stopped and deaf ones. And nothing else is touched."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from keeper_world import World, alive, cmdline_pids, there

from tidegate.model.job import Leftovers

pytestmark = pytest.mark.live

DOUBLE_FORK = "(setsid sh -c 'sleep {token} & echo $!' &) ; "  # a daemon: its parents are gone, so is its session


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.open()
    yield world
    world.close()


@pytest.fixture
def token() -> str:
    """A number of seconds that no other process sleeps."""
    return f"987{os.getpid()}.{time.monotonic_ns()}"


def gone(world: World, token: str, seconds: float = 5.0) -> None:
    world.wait(lambda: not cmdline_pids(token), seconds)


def test_a_grandchild_that_keeps_stdout_does_not_hold_the_end_up(world: World, token: str) -> None:
    """Row 8."""
    run_id = world.shell(f"setsid sleep {token} & echo $!")
    begun = time.monotonic()
    assert world.exited(run_id).exit_code == 0
    assert time.monotonic() - begun < 2
    grandchild = world.pid_from(run_id)
    world.wait(lambda: not there(grandchild), 5.0)  # ended, and reaped too


def test_leftovers_that_ignore_term_are_killed_after_the_grace(world: World, token: str) -> None:
    run_id = world.shell(f"setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep {token}; done' & sleep 0.2")
    world.exited(run_id)
    deaf = world.pid_from(run_id)
    world.wait(lambda: not there(deaf), 5.0)
    gone(world, token)


def test_leftovers_may_stay_where_the_job_says_so(world: World, token: str) -> None:
    run_id = world.shell(f"setsid sleep {token} & echo $!", leftovers=Leftovers.LEAVE)
    world.exited(run_id)
    pid = world.pid_from(run_id)
    world.run(0.8)
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)
    world.wait(lambda: not there(pid))  # reaped all the same


def test_leftovers_of_an_ended_tree_are_killed_even_where_they_may_stay(world: World, token: str) -> None:
    """A time-out means the tree, whatever the policy for a natural end."""
    run_id = world.shell(
        f"setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep {token}; done' & wait", leftovers=Leftovers.LEAVE
    )
    deaf = world.pid_from(run_id)
    world.signal(run_id, signal.SIGTERM)
    assert world.exited(run_id).signal == signal.SIGTERM
    world.wait(lambda: not there(deaf), 5.0)


def test_a_double_forked_daemon_is_found_killed_and_reaped(world: World, token: str) -> None:
    """Row 9."""
    run_id = world.shell(DOUBLE_FORK.format(token=token) + "sleep 60")
    daemon = world.pid_from(run_id)
    world.wait(lambda: cmdline_pids(token))
    world.signal(run_id, signal.SIGTERM)
    assert world.exited(run_id).signal == signal.SIGTERM
    world.wait(lambda: not there(daemon), 5.0)


def test_a_daemon_with_an_empty_environment_is_found_too(world: World, token: str) -> None:
    run_id = world.shell(f"(setsid env -i sh -c 'sleep {token} & echo $!' &) ; sleep 60")
    daemon = world.pid_from(run_id)
    world.signal(run_id, signal.SIGKILL)
    world.wait(lambda: not there(daemon), 5.0)


def test_other_runs_daemons_are_left_alone(world: World, token: str) -> None:
    mine = world.shell(DOUBLE_FORK.format(token=token + "1") + "sleep 60")
    other = world.shell(DOUBLE_FORK.format(token=token + "2") + "sleep 60")
    mine_daemon, other_daemon = world.pid_from(mine), world.pid_from(other)
    world.signal(mine, signal.SIGKILL)
    world.exited(mine)
    world.wait(lambda: not there(mine_daemon))
    world.run(0.3)
    assert alive(other_daemon) and alive(world.started(other).pid)


def test_a_run_that_ignores_term_is_killed_by_kill(world: World, token: str) -> None:
    """Row 10: the engine sends KILL after kill_grace."""
    run_id = world.shell(f"trap '' TERM; echo $$; while :; do sleep {token}; done")
    leader = world.pid_from(run_id)
    world.signal(run_id, signal.SIGTERM)
    world.run(0.3)
    assert alive(leader)
    world.signal(run_id, signal.SIGKILL)
    assert world.exited(run_id).signal == signal.SIGKILL
    gone(world, token)


def test_a_stopped_run_ends_at_term(world: World) -> None:
    """Row 12. One that has its own idea of TERM must go on to have it."""
    run_id = world.shell("trap 'echo bye; exit 0' TERM; echo $$; while :; do sleep 0.02; done")
    pid = world.pid_from(run_id)
    os.kill(pid, signal.SIGSTOP)
    world.wait(lambda: Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T")
    world.signal(run_id, signal.SIGTERM)
    assert world.exited(run_id).exit_code == 0
    assert world.output(run_id).endswith(b"bye\n")


def test_stop_and_continue_reach_the_tree(world: World, token: str) -> None:
    run_id = world.shell(f"sleep {token} & echo $!; wait")
    child = world.pid_from(run_id)

    def state() -> str:
        return Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0]

    world.signal(run_id, signal.SIGSTOP)
    world.wait(lambda: state() == "T")
    world.signal(run_id, signal.SIGCONT)
    world.wait(lambda: state() == "S")


STORM = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
end = time.monotonic() + 60
open("/proc/self/comm", "w").write("storm")
print(os.getpid(), flush=True)
for _ in range(60):
    if os.fork() == 0:
        if {leave}:
            os.setsid()
        while time.monotonic() < end:
            if os.fork():
                os._exit(0)  # the child goes on: always a new pid, always a new parent
            time.sleep(0.02)
        os._exit(0)
while True:
    try:
        os.wait()
    except ChildProcessError:
        time.sleep(0.01)
"""


@pytest.mark.parametrize("leave", [False, True])
def test_a_fork_storm_is_wholly_gone_after_kill(world: World, token: str, leave: bool) -> None:
    """Sixty lines of processes, each replacing itself 50 times a second; in the group, and out of it."""
    run_id = world.command("/usr/bin/env", "python3", "-S", "-c", STORM.format(leave=leave), token)
    world.pid_from(run_id)
    world.wait(lambda: len(cmdline_pids(token)) > 20)
    world.signal(run_id, signal.SIGKILL)
    assert world.exited(run_id).signal == signal.SIGKILL
    gone(world, token, 10.0)
    world.run(0.1)
    assert not cmdline_pids(token)


CHAIN = """
import os, sys, time
end = time.monotonic() + 60
print(os.getpid(), flush=True)
if os.fork() == 0:
    while time.monotonic() < end:
        if os.fork():
            os._exit(0)
        os.setsid()
    os._exit(0)
time.sleep(60)
"""


def test_a_process_that_is_always_somebody_else_does_not_get_away(world: World, token: str) -> None:
    """It forks and ends all the time, each time in a new session: most looks over /proc miss it."""
    run_id = world.command("python3", "-S", "-c", CHAIN, token)
    world.pid_from(run_id)
    world.run(0.1)
    world.signal(run_id, signal.SIGKILL)
    assert world.exited(run_id).signal == signal.SIGKILL

    def quiet() -> bool:
        """Nothing of it: a living one would be seen in one of a hundred looks."""
        return not any(cmdline_pids(token) for _ in range(100))

    world.wait(quiet, 15.0)


def test_a_tree_of_200_ends_at_term(world: World, token: str) -> None:
    text = f"i=0; while [ $i -lt 200 ]; do setsid sleep {token} & i=$((i+1)); done; echo $$; wait"
    run_id = world.shell(text)
    world.pid_from(run_id)
    world.signal(run_id, signal.SIGTERM)
    world.exited(run_id)
    gone(world, token, 10.0)


def test_cpu_of_the_whole_tree_is_counted(world: World) -> None:
    burn = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"
    run_id = world.shell(f"({burn}); (setsid sh -c '{burn}; exit' &); {burn}; sleep 0.5")
    single = world.shell(burn)
    alone = world.exited(single).usage.cpu_s
    whole = world.exited(run_id).usage.cpu_s
    assert alone is not None and whole is not None
    assert 2.0 * alone < whole < 6.0 * alone


def test_memory_of_true_and_of_a_file_reader_is_small_and_of_a_hoarder_is_not(world: World, tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(2 * 1024**3)
    true = world.command("true")
    reader = world.shell(f"cat {sparse} > /dev/null")
    hoard = world.command("python3", "-S", "-c", "x = bytearray(200 << 20); import time; time.sleep(1.5)")
    peaks = [world.exited(run_id).usage.memory_peak_bytes for run_id in (true, reader, hoard)]
    assert peaks[0] is not None and peaks[0] < 10 << 20
    assert peaks[1] is not None and peaks[1] < 100 << 20
    assert peaks[2] is not None and 200 << 20 <= peaks[2] < 250 << 20


def test_memory_shared_between_processes_of_a_tree_counts_once(world: World) -> None:
    code = "import os, time; x = bytearray(100 << 20)\n"
    code += "for _ in range(4): os.fork() or (time.sleep(2), os._exit(0))\n"
    code += "time.sleep(1)"
    peak = world.exited(world.command("python3", "-S", "-c", code)).usage.memory_peak_bytes
    assert peak is not None and 100 << 20 <= peak < 140 << 20


def test_leftovers_of_one_run_are_found_while_another_one_goes_on(world: World, token: str) -> None:
    world.pid_from(world.shell("echo $$; sleep 60"))
    run_id = world.shell(f"(setsid sleep {token} &); setsid sleep {token} & echo $!")
    world.pid_from(run_id)
    world.exited(run_id)
    gone(world, token)


LOOK = """
import os
from tidegate.executors.keeper_attempt import Attempt
from tidegate.executors.keeper_ending import only_leaders
from tidegate.executors.keeper_tree import Trees
trees = Trees(os.getpid(), None)
found = [only_leaders(trees)]
leaders = [os.posix_spawn("/bin/sleep", ["sleep", "60"], {}) for _ in range(600)]
for pid in leaders[:3]:
    trees.by_leader[pid] = Attempt({"run_id": "r", "attempt": 1}, b"")
found.append(only_leaders(trees))
def end(pids):
    for pid in pids:
        os.kill(pid, 9)
    for pid in pids:
        os.waitpid(pid, 0)
end(leaders[4:])
found.append(only_leaders(trees))
end(leaders[3:4])
found.append(only_leaders(trees))
trees.by_leader[leaders[0]].exit = "{}"
found.append(only_leaders(trees))
end(leaders[:3])
print(*found)
"""


def test_that_nothing_is_left_is_seen_only_where_all_children_are_leaders_that_run() -> None:
    """None; 600, most of them strangers; one stranger; leaders only; one number that an ended leader had."""
    seen = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True, timeout=60)
    assert seen.stdout.split() == ["False", "False", "False", "True", "False"]
