"""Functions of python jobs, called by real workers of a real keeper."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from keeper_world import alive, there
from python_world import CODE, PythonWorld

from tidegate.model.event import Started

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    made = PythonWorld(tmp_path_factory.mktemp("shared"))
    made.open()
    yield made
    made.close()


@pytest.fixture
def world(shared):
    """Workers of an earlier test may be warm; none of the code that it may have written is there."""
    shared.events.clear()
    shared.write(CODE)
    return shared


@pytest.fixture
def own_world(tmp_path):
    """A keeper that may be killed."""
    made = PythonWorld(tmp_path)
    made.open()
    yield made
    made.close()


# --- how a call ends ------------------------------------------------------------------------------------------


def test_a_function_is_called_with_its_arguments_and_its_result_is_kept(world):
    run = world.call("add", 1, kwargs={"b": 5, "note": "ü"}, run_args={"more": "text"})
    ended = world.exited(run)
    assert (ended.exit_code, ended.signal, ended.error) == (0, None, "")
    assert json.loads(ended.result) == {"sum": 6, "note": "ü", "more": "text"}
    assert world.output(run) == b"adding\n"
    assert ended.usage.cpu_s > 0 and ended.usage.memory_peak_bytes > 1_000_000


def test_an_argument_of_a_trigger_goes_over_the_one_in_the_file(world):
    run = world.call("give", kwargs={"value": 5}, run_args={"value": "by hand"})
    assert world.result(run) == '"by hand"'


def test_an_exception_is_exit_code_1_with_its_traceback(world):
    run = world.call("fail")
    ended = world.exited(run)
    assert (ended.exit_code, ended.result) == (1, None)
    first, *_, last = ended.error.splitlines()
    assert (first, last) == ("Traceback (most recent call last):", "ValueError: bad number")
    assert "in fail" in ended.error and "tidegate" not in ended.error  # frames of ours are nobody's business
    assert world.output(run).decode() == ended.error + "\n"


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_system_exit_is_its_code(world, executor):
    runs = [world.call("leave", code, executor=executor) for code in (3, 0, None, "a reason")]
    assert [world.exited(run).exit_code for run in runs] == [3, 0, 0, 1]
    assert world.output(runs[3]) == b"a reason\n"


def test_a_process_that_ends_before_the_function_comes_back_never_succeeded(world):
    ended = world.exited(world.call("vanish", 0))
    assert ended.exit_code == 1
    assert ended.error == "its process ended with exit code 0 before the function came back"
    assert world.exited(world.call("vanish", 7)).exit_code == 7


@pytest.mark.parametrize(
    ("target", "args", "why"),
    [
        ("big", (), "100002 bytes of JSON, and at most 16384 are kept; write a file"),
        ("strange", (), "it is no JSON: Object of type object is not JSON serializable"),
        ("mod:deep", (), "nested more than 64 deep"),
        ("mod:infinite", (), "it is no JSON: Out of range float values are not JSON compliant"),
    ],
)
def test_a_result_that_cannot_be_kept_is_told_and_no_failure(world, target, args, why):
    world.write(
        "def big():\n return 'x' * 100_000\ndef strange():\n return object()\n"
        "def deep():\n value = []\n for _ in range(100):\n  value = [value]\n return value\n"
        "def infinite():\n return float('inf')\n"
    )
    ended = world.exited(world.call(target, *args))
    assert (ended.exit_code, ended.result) == (0, None)
    assert ended.error.startswith("the result is not kept: ") and why in ended.error


@pytest.mark.parametrize(
    ("target", "args", "executor", "sentence"),
    [
        ("nosuch.part:f", (), "process", "module 'nosuch' was not found by"),
        ("mod:ad", (), "process", "'mod:ad': there is no 'ad'; did you mean 'add'?"),
        ("mod:number", (), "thread", "'mod:number' is a int, and cannot be called; name a function"),
        (
            "add",
            (),
            "process",
            "does not take these args and kwargs: missing a required argument: 'a'; it is mod:add(a",
        ),
        ("asleep", (), "thread", "'mod:asleep' is a coroutine function; set executor = \"async\""),
        ("pid", (), "async", "'mod:pid' is no coroutine function; write async def, or set executor = \"thread\""),
    ],
)
def test_what_cannot_be_called_is_one_sentence_and_no_traceback(world, target, args, executor, sentence):
    run = world.call(target, *args, executor=executor)
    ended = world.exited(run)
    assert ended.exit_code == 1
    assert sentence in ended.error and "\n" not in ended.error
    assert world.output(run).decode() == ended.error + "\n"


def test_an_interpreter_that_is_missing_or_none_fails_the_start(world, tmp_path):
    gone = world.failed(world.call("add", 1, interpreter="/no/such/python"))
    assert gone == "program '/no/such/python' is not there; install it or correct interpreter"
    none = world.failed(world.call("add", 1, interpreter="/bin/true"))
    assert none.startswith("its interpreter ended (exit code 0) before it took the run; is interpreter a Python")
    old = tmp_path / "old"
    old.write_text(f"#!{sys.executable}\nimport sys\nsys.version_info = (3, 7)\nexec(sys.argv[2])\n")
    old.chmod(0o755)
    run = world.call("add", 1, interpreter=str(old))
    assert "exit code 1" in world.failed(run)
    assert b"python jobs need Python 3.8 or later" in world.output(run)


# --- warm workers ---------------------------------------------------------------------------------------------


def test_the_next_run_finds_a_warm_worker_and_its_own_surroundings(world):
    runs = [world.call("look")]
    world.result(runs[0])
    runs.append(world.call("look"))
    first, second = (json.loads(world.result(run)) for run in runs)
    assert first[:3] == ["job", runs[0], 1] and second[:3] == ["job", runs[1], 1]
    assert second[4:] == [runs[1], "/", ["mod:look"]]
    assert world.pids[runs[0]] == world.pids[runs[1]]


def test_other_surroundings_are_another_worker(world):
    pids = {
        world.result(world.call("pid", **settings))
        for settings in ({}, {"env": {"A": "1"}}, {"umask": 0o077}, {"nice": 5}, {"cwd": "/tmp"})
    }
    assert len(pids) == 5


def test_a_worker_is_replaced_after_its_runs_and_when_it_has_grown(world):
    for executor in ("process", "thread"):
        env = {"OF": "this test"}
        pids = [world.result(world.call("pid", worker_runs=2, executor=executor, env=env)) for _ in range(4)]
        assert pids[0] == pids[1] != pids[2] == pids[3]
    grown = int(world.result(world.call("grow")))
    world.wait(lambda: not there(grown))
    assert int(world.result(world.call("pid"))) != grown


def test_idle_workers_end_when_memory_is_short(world):
    pid = int(world.result(world.call("pid")))
    assert there(pid)
    world.open_link.retire_idle()
    world.open_link.flush()
    world.wait(lambda: not there(pid))


def test_idle_workers_beyond_the_limit_end_and_the_others_stay(own_world, tmp_path):
    world = own_world  # idle workers of other tests would be counted

    def workers() -> list[int]:
        return [int(world.result(world.call("pid", env={"OF": each}))) for each in "abc"]

    idle = workers()
    busy = world.call("wait", str(tmp_path))
    world.wait((tmp_path / "go.here").exists)
    world.open_link.retire_idle(keep=2)
    world.open_link.flush()
    world.wait(lambda: sum(there(pid) for pid in idle) <= 1)
    assert len(set(idle) & set(workers())) == 1, "the one that is not told to end serves the next run of its kind"
    (tmp_path / "go").touch()
    assert world.result(busy) == '"go"'


def test_code_that_changed_is_called_in_a_new_worker(world):
    first = world.call("give", 1)
    assert world.result(first) == "1"
    world.write("def give(value):\n return 'new'\n")
    for executor in ("process", "thread"):
        assert world.result(world.call("give", 1, executor=executor)) == '"new"'
        world.write("def give(value):\n return 'newer still'\n")
        assert world.result(world.call("give", 1, executor=executor)) == '"newer still"'
        world.write("def give(value):\n return 'new'\n")


def test_a_killed_run_takes_its_whole_tree_and_no_other_worker(world, tmp_path):
    hung, other = world.call("hang"), world.call("wait", str(tmp_path))
    pid = world.pid_from(hung)
    world.wait((tmp_path / "go.here").exists)
    children = world.wait(lambda: Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    world.signal(hung, signal.SIGKILL)
    assert world.exited(hung).signal == signal.SIGKILL
    world.wait(lambda: not any(alive(int(child)) for child in children))
    (tmp_path / "go").touch()
    assert world.result(other) == '"go"'
    assert world.result(world.call("pid")) == str(world.pids[other])


def test_what_a_run_leaves_behind_is_ended_and_its_worker_serves_nobody_else(world):
    run = world.call("leftover")
    child = int(world.result(run))
    world.wait(lambda: not alive(child))
    orphan = int(world.result(second := world.call("orphan")))
    world.wait(lambda: not alive(orphan))
    third = world.call("pid")
    world.result(third)
    assert len({world.pids[run], world.pids[second], world.pids[third]}) == 3


# --- many in one process --------------------------------------------------------------------------------------


def test_threads_share_a_process_and_each_has_its_own_output(world, tmp_path):
    names = ["alpha", "beta", "gamma"]
    runs = [world.call("chatter", name, str(tmp_path), executor="thread") for name in names]
    ends = [world.exited(run) for run in runs]
    assert [end.exit_code for end in ends] == [0, 0, 0]
    assert len({world.pids[run] for run in runs}) == 1
    for run, name in zip(runs, names, strict=True):
        lines = world.output(run).decode().splitlines()
        assert lines == [f"{name} {number}" for number in range(200)] + [f"{name} child", f"{name} err"]
    assert {(end.usage.cpu_s, end.usage.memory_peak_bytes) for end in ends} == {(None, None)}


def test_coroutines_share_a_loop_and_each_has_its_own_output(world):
    names = ["alpha", "beta", "gamma"]
    runs = [world.call("achatter", name, "", executor="async") for name in names]
    assert len({world.result(run) for run in runs}) == 1
    for run, name in zip(runs, names, strict=True):
        assert world.output(run).decode().splitlines() == [f"{name} {number}" for number in range(200)]


def test_a_thread_knows_its_run(world):
    runs = [world.call("look", executor="thread", name=name) for name in ("one", "two")]
    found = [json.loads(world.result(run)) for run in runs]
    assert [(job, run_id) for job, run_id, *_ in found] == [("one", runs[0]), ("two", runs[1])]
    assert found[0][4] is None  # a variable is the whole process's


def test_more_than_host_runs_begin_another_process(world, tmp_path):
    env = {"OF": "more than host_runs"}  # no host of an earlier test
    runs = [world.call("wait", str(tmp_path), executor="thread", host_runs=2, env=env) for _ in range(3)]
    pids = [world.started(run).pid for run in runs]
    assert pids[0] == pids[1] != pids[2]
    (tmp_path / "go").touch()
    assert [world.exited(run).exit_code for run in runs] == [0, 0, 0]


def test_a_thread_that_does_not_end_is_given_up_and_its_host_replaced(world, tmp_path):
    env = {"OF": "a thread that does not end"}
    stuck = world.call("wait", str(tmp_path), "never", executor="thread", env=env)
    other = world.call("wait", str(tmp_path), executor="thread", env=env)
    world.wait(lambda: all((tmp_path / f"{name}.here").exists() for name in ("never", "go")))
    host = world.pids[other]
    world.signal(stuck, signal.SIGTERM)
    world.signal(stuck, signal.SIGKILL)
    assert world.exited(stuck).signal == signal.SIGKILL
    assert world.pids[stuck] == host
    assert world.result(new := world.call("pid", executor="thread", env=env)) != str(host)
    assert alive(host)
    (tmp_path / "go").touch()
    assert world.result(other) == '"go"'
    world.wait(lambda: not there(host))
    assert alive(world.pids[new])
    assert world.output(stuck) == b"waiting\n"


def test_a_thread_that_looks_can_obey(world):
    run = world.call("obedient", executor="thread")
    world.wait(lambda: world.output(run) == b"begun\n")
    world.signal(run, signal.SIGTERM)
    assert world.exited(run).result == '"stopped"'


def test_a_coroutine_is_cancelled_at_term_and_given_up_at_kill(world):
    run, stubborn = world.call("asleep", executor="async"), world.call("stubborn", executor="async")
    world.wait(lambda: world.output(run) and world.output(stubborn))
    world.signal(run, signal.SIGTERM)
    assert world.exited(run).signal == signal.SIGTERM
    assert world.output(run) == b"asleep\nwoken\n"
    world.signal(stubborn, signal.SIGTERM)
    world.wait(lambda: b"never" in world.output(stubborn))
    world.signal(stubborn, signal.SIGKILL)
    assert world.exited(stubborn).signal == signal.SIGKILL
    world.wait(lambda: not there(world.pids[run]))


def test_a_host_that_dies_ends_all_its_runs_and_only_those(world, tmp_path):
    waiting = world.call("wait", str(tmp_path), executor="thread")
    process = world.call("wait", str(tmp_path))
    world.wait((tmp_path / "go.here").exists)
    world.started(process)
    vanishing = world.call("vanish", 0, executor="thread")
    ends = [world.exited(run) for run in (waiting, vanishing)]
    assert [end.exit_code for end in ends] == [1, 1]
    assert {end.error for end in ends} == {"the process that it shared with 1 more runs ended (exit code 0)"}
    (tmp_path / "go").touch()
    assert world.result(process) == '"go"'


# --- who asks dies --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_a_supervisor_that_comes_later_finds_the_run_and_then_its_result(own_world, tmp_path, executor):
    going = own_world.call("wait", str(tmp_path), executor=executor)
    ending = own_world.call("wait", str(tmp_path), "early", executor=executor)
    own_world.wait(lambda: all((tmp_path / f"{name}.here").exists() for name in ("go", "early")))
    own_world.drop()
    (tmp_path / "early").touch()
    own_world.wait(lambda: own_world.output(ending).endswith(b"went on\n"))
    own_world.events.clear()
    held = {one.run_id: one for one in own_world.open().held}
    assert set(held) == {going, ending}
    if held[ending].exited is None:
        assert own_world.exited(ending).result == '"early"'
    else:
        assert held[ending].exited.result == '"early"'
    assert held[going].exited is None and held[going].run.run_id == going
    (tmp_path / "go").touch()
    assert own_world.result(going) == '"go"'


def test_without_a_supervisor_the_keeper_ends_a_thread_at_its_time_out_and_no_other(own_world, tmp_path):
    late = own_world.call("wait", str(tmp_path), "never", executor="thread", timeout_s=0.5)
    obeys = own_world.call("obedient", executor="thread", timeout_s=0.5)
    other = own_world.call("wait", str(tmp_path), executor="thread")
    own_world.wait(lambda: all((tmp_path / f"{name}.here").exists() for name in ("never", "go")))
    own_world.wait(lambda: own_world.output(obeys) == b"begun\n")
    host = own_world.pids[other]
    own_world.drop()
    own_world.wait(lambda: all(one.exited for one in held_by(own_world) if one.run_id in (late, obeys)))
    held = {one.run_id: one for one in held_by(own_world)}
    assert held[late].exited.timed_out and held[late].exited.signal == signal.SIGKILL
    assert held[obeys].exited.timed_out and held[obeys].exited.result == '"stopped"'
    assert held[other].exited is None
    (tmp_path / "go").touch()
    [now] = [one for one in own_world.open().held if one.run_id == other]
    assert (now.exited or own_world.exited(other)).result == '"go"'
    own_world.wait(lambda: not there(host))  # the thread that never ends goes with it


def held_by(world):
    """What the keeper holds, asked by a supervisor that leaves at once: its time is up before the next one comes."""
    world.run(1.0)
    world.open()
    held = world.open_link.held
    world.drop()
    return held


def test_with_its_keeper_dead_a_run_goes_on_to_its_end(own_world, tmp_path):
    run = own_world.call("wait", str(tmp_path))
    own_world.wait((tmp_path / "go.here").exists)
    own_world.wait(own_world.path(run).exists)  # a file has its name a tenth of a second after the start
    os.kill(own_world.open_link.keeper_pid, signal.SIGKILL)
    own_world.wait(own_world.lost)
    (tmp_path / "go").touch()
    own_world.wait(lambda: own_world.output(run).endswith(b"went on\n"))
    own_world.wait(lambda: not alive(own_world.pids[run]))


def test_a_keeper_that_ends_leaves_no_worker(own_world):
    pids = [int(own_world.result(own_world.call("pid", executor=executor))) for executor in ("process", "thread")]
    own_world.loop.run_until_complete(own_world.open_link.close(shutdown=True))
    own_world.link = None
    own_world.wait(lambda: not any(alive(pid) for pid in pids))


def test_what_a_command_left_is_found_beside_an_idle_worker_which_stays(own_world):
    pid = int(own_world.result(own_world.call("pid")))
    run = own_world.shell("setsid env -i sleep 1000 >/dev/null 2>&1 & echo $!")
    child = own_world.pid_from(run)
    own_world.exited(run)
    own_world.wait(lambda: not alive(child))
    assert own_world.result(own_world.call("pid")) == str(pid)


def test_started_is_told_once_by_the_process_that_calls(world):
    run = world.call("pid")
    assert world.result(run) == str(world.pids[run])
    assert len([event for event in world.events if isinstance(event, Started)]) == 1
