"""Functions of python jobs, called as another user: as root, with a user that every Linux has, and its python3."""

import json
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from python_world import PythonWorld

from tidegate.model.job import RunAs

pytestmark = pytest.mark.live
__test__ = os.getuid() == 0  # nobody else can become somebody else, so there is nothing to be tested

USER = pwd.getpwnam("games")
CODE = """
import os

def who():
    from tidegate_context import tidegate_context
    with open(tidegate_context().output, "a") as file:
        file.write("user=%d" % os.getuid())
    print("said", file=open("/dev/stdout", "a"))
    return [os.getuid(), os.getgid(), os.environ.get("USER"), os.getpid(), sorted(os.listdir("/proc/self/fd")),
            os.environ["TIDEGATE_OUTPUT"] == tidegate_context().output]

def threaded():
    from tidegate_context import tidegate_context
    with open(tidegate_context().output, "a") as file:
        file.write("thread")
    print("said")
    return [os.getuid(), os.getpid()]
"""


@pytest.fixture
def world() -> Iterator[PythonWorld]:
    """In a place that others may pass through, as /run is."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-users-"))
    folder.chmod(0o711)
    world = PythonWorld(folder)
    world.runtime.chmod(0o755)
    world.state.chmod(0o700)
    world.code.chmod(0o755)
    world.write(CODE)
    world.open()
    yield world
    world.close()
    shutil.rmtree(folder)


def test_a_worker_of_another_user_is_that_users_and_warm_for_nobody_else(world: PythonWorld) -> None:
    runs = [world.call("who", interpreter="python3", run_as=RunAs(user=user)) for user in ("games", None)]
    again = world.call("who", interpreter="python3", run_as=RunAs(user="games"), attempt=1)
    first, own, second = (json.loads(world.result(run)) for run in (*runs, again))
    assert first[:3] == second[:3] == [USER.pw_uid, USER.pw_gid, "games"]
    assert own[:2] == [0, os.getgid()] and own[3] not in (first[3], second[3])
    third = world.call("who", interpreter="python3", run_as=RunAs(user="games"))
    assert json.loads(world.result(third))[3] in (first[3], second[3])
    for run in (runs[0], again, third):
        values = world.runtime / "values" / f"{run}.1"
        assert (values.stat().st_uid, values.read_text()) == (USER.pw_uid, f"user={USER.pw_uid}")
        assert world.output(run) == b"said\n"


def test_a_host_of_another_user_serves_that_user_only(world: PythonWorld) -> None:
    as_games = {"interpreter": "python3", "executor": "thread", "run_as": RunAs(user="games")}
    runs = [world.call("threaded", **as_games) for _ in range(2)]
    own = world.call("threaded", interpreter="python3", executor="thread")
    (uid, pid), (_, same), (root, other) = (json.loads(world.result(run)) for run in (*runs, own))
    assert (uid, pid, root) == (USER.pw_uid, same, 0) and other != pid
    assert [(world.runtime / "values" / f"{run}.1").read_text() for run in runs] == ["thread", "thread"]
    assert world.output(runs[1]) == b"said\n"
