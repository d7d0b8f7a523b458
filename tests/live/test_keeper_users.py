"""Runs as another user, for real: as root, with a user that every Linux has."""

import os
import pwd
import resource
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from keeper_world import World, alive

from tidegate.executors import keeper_fork
from tidegate.executors.keeper_fork import Birth, fork_exec
from tidegate.executors.keeper_refusal import SpawnRefused
from tidegate.model.event import StartFailed
from tidegate.model.job import Limits, RunAs

pytestmark = pytest.mark.live
__test__ = os.getuid() == 0  # nobody else can become somebody else, so there is nothing to be tested

USER = pwd.getpwnam("games")
AS_USER = RunAs(user="games")


@pytest.fixture
def world() -> Iterator[World]:
    """In a place that others may pass through, as /run is."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-users-"))
    folder.chmod(0o711)
    world = World(folder)
    world.runtime.chmod(0o755)
    world.state.chmod(0o700)
    world.open()
    yield world
    world.close()
    shutil.rmtree(folder)


def failed(world: World, run_id: str) -> StartFailed:
    world.failed(run_id)
    return next(event for event in world.events if isinstance(event, StartFailed) and event.run_id == run_id)


def told(world: World, run_id: str) -> str:
    """All that the run wrote, once it has ended well."""
    exited = world.exited(run_id)
    text = world.output(run_id).decode()
    assert (exited.exit_code, exited.signal) == (0, None), text
    return text


def birth_of(**wanted: Any) -> Birth:
    return Birth({"values_path": f"{tempfile.mkdtemp()}/v", **wanted})


def spawn_directly(script: str, birth: Birth) -> int:
    """The exit code of a shell that was forked from this process."""
    request: dict[str, object] = {"argv": ["/bin/sh", "-c", script], "env": {}, "cwd": "/"}
    return os.waitstatus_to_exitcode(os.waitpid(fork_exec(request, -1, 0, birth), 0)[1])


def test_a_run_has_its_users_numbers_and_nothing_of_ours(world: World) -> None:
    """Threat 16, and 17 for what the environment says."""
    run_id = world.shell("id -ru; id -u; id -rg; id -g; id -G; echo $HOME $USER $LOGNAME", run_as=AS_USER)
    groups = sorted(os.getgrouplist(USER.pw_name, USER.pw_gid))
    uid, gid = str(USER.pw_uid), str(USER.pw_gid)
    lines = told(world, run_id).splitlines()
    assert lines[:4] == [uid, uid, gid, gid]
    assert sorted(int(group) for group in lines[4].split()) == groups
    assert lines[5] == f"{USER.pw_dir} games games"


def test_group_and_groups_replace_those_of_the_database(world: World) -> None:
    run_id = world.shell("id -gn; id -Gn", run_as=RunAs(user="games", group="mail", groups=("audio", "video")))
    group, groups = told(world, run_id).splitlines()
    assert group == "mail" and set(groups.split()) == {"mail", "audio", "video"}


def test_its_output_and_values_are_its_own_and_the_state_is_closed_to_it(world: World) -> None:
    """Threats 18 and 19."""
    pids = f"{os.getpid()} {world.open_link.keeper_pid}"
    script = (
        "echo said > /dev/stderr; echo a=1 > $TIDEGATE_OUTPUT; "
        f"ls {world.state} && echo READ; ls {world.runtime}/values && echo LISTED; "
        f"cat {world.state}/keeper.log && echo READ; for pid in {pids}; do kill -9 $pid && echo KILLED; done; "
        f"touch {world.runtime}/values/x && echo MADE; cat {world.runtime}/keeper.sock && echo READ; exit 0"
    )
    run_id = world.shell(script, run_as=AS_USER)
    text = told(world, run_id)
    assert "said" in text and text.count("denied") + text.count("permitted") >= 5
    assert not {"READ", "LISTED", "KILLED", "MADE"} & set(text.split())
    values = world.runtime / "values" / f"{run_id}.1"
    assert values.read_text() == "a=1\n"
    assert (values.stat().st_uid, stat.S_IMODE(values.stat().st_mode)) == (USER.pw_uid, 0o600)
    assert world.started(run_id).note == ""


def test_values_that_cannot_be_reached_are_said(world: World) -> None:
    world.runtime.chmod(0o700)
    run_id = world.shell("true", run_as=AS_USER)
    assert world.started(run_id).note.startswith("job job: TIDEGATE_OUTPUT is out of reach for user games")


def test_values_are_never_written_through_what_lies_there(world: World, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("safe")
    (world.runtime / "values" / "run1.1").symlink_to(victim)
    run_id = world.shell("echo a=1 > $TIDEGATE_OUTPUT", run_as=AS_USER)
    told(world, run_id)
    assert run_id == "run1" and victim.read_text() == "safe" and victim.stat().st_uid == 0


def test_values_are_gone_once_the_end_is_on_record(world: World) -> None:
    run_id = world.shell("echo a=1 > $TIDEGATE_OUTPUT", run_as=AS_USER)
    told(world, run_id)
    failed(world, world.command("/no/such", run_as=AS_USER))
    values = world.runtime / "values"
    assert [path.name for path in values.iterdir()] == [f"{run_id}.1"]
    world.open_link.acknowledge(run_id, 1)
    world.open_link.flush()
    world.wait(lambda: not list(values.iterdir()))


def test_folder_and_program_are_looked_at_as_that_user(world: World, tmp_path: Path) -> None:
    """Row 18 and threat 19: root's rights find nothing for it."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    entered = failed(world, world.command("true", cwd=str(private), run_as=AS_USER))
    assert "may not be entered by this user" in entered.reason
    program = world.runtime / "secret"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    assert "is not executable for this user" in failed(world, world.command(str(program), run_as=AS_USER)).reason
    found = world.command("secret", env={"PATH": str(world.runtime)}, run_as=AS_USER)
    assert "is not executable" in failed(world, found).reason


def test_a_user_or_group_that_is_gone_fails_the_start(world: World) -> None:
    """Row 18: never as root instead."""
    reason = failed(world, world.shell("id", run_as=RunAs(user="no-such-user"))).reason
    assert reason == "user 'no-such-user' is not in the user database; create it, or correct user"
    assert "group 'no-such' is not" in failed(world, world.shell("id", run_as=RunAs(group="no-such"))).reason


@pytest.mark.parametrize("call", ["setgroups", "setresgid", "setresuid"])
@pytest.mark.parametrize("how", ["is refused", "does nothing"])
def test_a_drop_that_fails_in_part_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: str, how: str
) -> None:
    """Threat 16. What was not dropped is seen when it is read back."""

    def instead(*_: object) -> None:
        if how == "is refused":
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(keeper_fork.os, call, instead)
    tmp_path.chmod(0o777)
    birth = birth_of(uid=USER.pw_uid, gid=USER.pw_gid, groups=[USER.pw_gid, 12])
    with pytest.raises(SpawnRefused, match="could not become user"):
        spawn_directly(f"touch {tmp_path}/ran", birth)
    assert not (tmp_path / "ran").exists()


def test_nothing_of_root_can_be_had_back(world: World) -> None:
    run_id = world.command("grep", "-E", "^(Uid|Gid|CapEff|CapPrm|CapAmb)", "/proc/self/status", run_as=AS_USER)
    fields = dict(line.split(":") for line in told(world, run_id).splitlines())
    assert set(fields["Uid"].split()) == {str(USER.pw_uid)} and set(fields["Gid"].split()) == {str(USER.pw_gid)}
    assert all(int(fields[name], 16) == 0 for name in ("CapEff", "CapPrm", "CapAmb"))


def test_a_better_nice_value_and_the_oom_score_are_set_before_the_drop(world: World) -> None:
    run_id = world.shell("nice; cat /proc/self/oom_score_adj", nice=-3, oom_score_adj=10, run_as=AS_USER)
    assert told(world, run_id).split() == ["-3", "10"]


def test_a_run_of_another_user_is_stopped_and_its_end_told(world: World) -> None:
    run_id = world.shell("trap '' TERM; setsid sleep 60 & echo $!; sleep 60", run_as=AS_USER)
    child = world.pid_from(run_id)
    world.signal(run_id, signal.SIGTERM)
    world.signal(run_id, signal.SIGKILL)
    assert world.exited(run_id).signal == signal.SIGKILL
    world.wait(lambda: not alive(child))


def test_a_fork_bomb_is_contained_and_the_keeper_answers(world: World) -> None:
    """Row 11."""
    bomb = "f() { f | f & }; f; sleep 60"
    run_id = world.shell(bomb, run_as=AS_USER, limits=Limits(pids=40))
    assert "pids_max counts all processes of its user" in world.started(run_id).note

    def of_user() -> int:
        return sum(1 for entry in Path("/proc").iterdir() if entry.name.isdigit() and owner(entry) == USER.pw_uid)

    world.wait(lambda: of_user() > 30)
    for _ in range(10):
        assert told(world, world.shell("echo here")) == "here\n"
        assert of_user() <= 40
    world.signal(run_id, signal.SIGKILL)
    world.wait(lambda: of_user() == 0)


def owner(entry: Path) -> int:
    try:
        return entry.stat().st_uid
    except OSError:
        return -1


def test_a_user_with_too_many_processes_is_a_matter_of_time(world: World) -> None:
    """Row 15: EAGAIN is no failure of the job."""
    for _ in range(2):
        world.started(world.command("sleep", "60", run_as=AS_USER))
    third = failed(world, world.command("true", run_as=AS_USER, limits=Limits(pids=1)))
    assert third.transient and "out of processes or memory" in third.reason


def test_a_child_that_hangs_before_its_program_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_fork, "CHILD_S_MAX", 0.2)
    monkeypatch.setattr(keeper_fork, "enter", lambda cwd: signal.pause())
    with pytest.raises(SpawnRefused, match="did not begin within"):
        spawn_directly("true", birth_of())
    assert os.waitpid(-1, 0)[1] == signal.SIGKILL


def test_rlimits_never_exceed_what_the_keeper_may(monkeypatch: pytest.MonkeyPatch) -> None:
    birth = birth_of(limits={"memory_bytes": 1 << 40})
    birth.fall_back(["memory_bytes"])
    monkeypatch.setattr(keeper_fork.resource, "getrlimit", lambda number: (1 << 30, 1 << 30))
    assert spawn_directly(f"test $(ulimit -Hd) = {(1 << 30) // 1024}", birth) == 0
    assert resource.RLIMIT_DATA in dict(birth.rlimits)
