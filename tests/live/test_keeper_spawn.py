"""What a run finds when it begins, and what is said when it cannot begin."""

import os
import pwd
import resource
import signal
import socket
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from keeper_world import World, alive

from tidegate.model.event import StartFailed
from tidegate.model.job import Job, Limits, Output
from tidegate.model.run import Run

pytestmark = pytest.mark.live


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.open()
    yield world
    world.close()


def test_exit_code_and_signal_are_told_apart(world: World) -> None:
    seven, killed = world.shell("exit 7"), world.shell("kill -USR1 $$")
    assert (world.exited(seven).exit_code, world.exited(seven).signal) == (7, None)
    assert (world.exited(killed).exit_code, world.exited(killed).signal) == (None, signal.SIGUSR1)


def test_environment_is_exact(world: World) -> None:
    run_id = world.command("/usr/bin/env", "-0", env={"A": "ä\nb", "EMPTY": ""})
    world.exited(run_id)
    env = dict(entry.split("=", 1) for entry in world.output(run_id).decode().split("\0") if entry)
    due = env.pop("TIDEGATE_SCHEDULED_AT")
    me = pwd.getpwuid(os.getuid())
    assert due.endswith("+00:00")
    assert env.pop("LANG")
    assert env == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": me.pw_dir,
        "USER": me.pw_name,
        "LOGNAME": me.pw_name,
        "SHELL": "/bin/sh",
        "TIDEGATE_JOB": "job",
        "TIDEGATE_TASK": "",
        "TIDEGATE_RUN_ID": run_id,
        "TIDEGATE_ATTEMPT": "1",
        "TIDEGATE_CATCH_UP": "0",
        "TIDEGATE_OUTPUT": str(world.path(run_id).parents[2] / "values" / f"{run_id}.1"),
        "A": "ä\nb",
        "EMPTY": "",
    }


def test_umask_nice_cwd_and_session(world: World, tmp_path: Path) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, 0)
    run_id = world.shell("umask; nice; pwd; cut -d' ' -f1,5,6 /proc/$$/stat", umask=0o027, nice=7, cwd=str(tmp_path))
    world.exited(run_id)
    umask, nice, cwd, ids = world.output(run_id).decode().splitlines()
    assert (umask, nice, cwd) == ("0027", "7", str(tmp_path))
    pid, group, session = ids.split()
    assert pid == group == session == str(world.started(run_id).pid)
    after = world.shell("umask; nice", umask=0o022)
    world.exited(after)
    assert world.output(after).decode().split() == ["0022", "0"]


@pytest.mark.parametrize("limits", [Limits(), Limits(pids=100)], ids=["spawned", "forked"])
def test_nice_is_the_whole_sessions_where_the_kernel_shares_the_cpu_between_sessions(
    world: World, limits: Limits
) -> None:
    """Or it would count among the processes of the run alone. Without root the kernel may refuse."""
    told = "until grep -q 'nice 7$' /proc/self/autogroup; do sleep 0.01; done; nice"
    shared = os.getuid() == 0 and Path("/proc/self/autogroup").exists()
    run_id = world.shell(told if shared else "nice", nice=7, limits=limits)
    world.exited(run_id)
    assert world.output(run_id) == b"7\n"


def test_a_better_nice_value_works_or_is_refused_before_anything_runs(world: World) -> None:
    run_id = world.shell("nice", nice=-3)
    world.exited(run_id) if os.getuid() == 0 else world.failed(run_id)
    assert world.output(run_id) == (b"-3\n" if os.getuid() == 0 else b"")
    after = world.shell("nice")
    world.exited(after)
    assert world.output(after) == b"0\n"


def test_signals_are_as_a_login_shell_has_them(tmp_path: Path) -> None:
    """Even where the daemon was started under nohup, from a parent that blocks and ignores signals."""
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    world = World(tmp_path)
    try:
        world.open()
        run_id = world.command("cat", "/proc/self/status")
        world.exited(run_id)
        fields = dict(line.split(":", 1) for line in world.output(run_id).decode().splitlines())
        internal = 0b11 << 31  # 32 and 33 belong to the C library: nobody can set them, some parents ignore them
        assert [int(fields[name], 16) & ~internal for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]
    finally:
        world.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGHUP, old[0])
        signal.signal(signal.SIGQUIT, old[1])


def test_a_job_sees_descriptors_0_1_2_and_nothing_else(tmp_path: Path) -> None:
    """Row 17. The daemon's own process has inheritable descriptors open when it starts the keeper."""
    leaks = [os.open("/etc/hostname", os.O_RDONLY) for _ in range(3)]
    for fd in leaks:
        os.set_inheritable(fd, True)
    world = World(tmp_path)
    try:
        world.open()
        world.started(world.command("sleep", "30"))
        run_id = world.command("sleep", "30")
        world.wait(world.path(run_id).exists)
        fds = Path(f"/proc/{world.started(run_id).pid}/fd")
        assert {fd.name for fd in fds.iterdir()} == {"0", "1", "2"}
        assert str((fds / "0").readlink()) == "/dev/null"
        assert (fds / "1").samefile(world.path(run_id)) and (fds / "2").samefile(world.path(run_id))
        limit = world.shell("ulimit -Sn")
        world.exited(limit)
        assert int(world.output(limit)) == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    finally:
        world.close()
        for fd in leaks:
            os.close(fd)


def test_keeper_itself_closes_what_it_was_started_with(world: World, tmp_path: Path) -> None:
    """Started by something that leaks (a unit, a shell), without the link's care."""
    import subprocess
    import sys

    from tidegate.executors import keeper

    leak = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(leak, True)
    other = World(tmp_path / "o") if (tmp_path / "o").mkdir() is None else world
    argv = [sys.executable, "-I", "-S", "-E", "-X", "utf8", keeper.__file__, str(other.runtime)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, close_fds=False)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        assert other.open().keeper_pid == process.pid
        pid = other.started(other.command("sleep", "30")).pid
        fds = Path(f"/proc/{pid}/fd")  # at first the loader of its libraries has others open
        other.wait(lambda: {fd.name for fd in fds.iterdir()} == {"0", "1", "2"})
    finally:
        os.close(leak)
        process.terminate()
        process.wait()
        process.stdout.close()
        other.close()


def test_program_missing(world: World) -> None:
    """Row 18."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert world.failed(world.command("no-such-program-x")) == (
        f"program 'no-such-program-x' was not found in PATH ({path}); install it or write its full path"
    )
    assert "program '/no/such' is not there" in world.failed(world.command("/no/such"))


def test_program_not_executable_or_no_program(world: World, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("echo hello\n")
    assert "is not executable" in world.failed(world.command(str(plain)))
    assert "is not executable; chmod +x" in world.failed(world.command("plain", env={"PATH": str(tmp_path)}))
    plain.chmod(0o755)
    assert "no #! line" in world.failed(world.command(str(plain)))
    script = tmp_path / "script"
    script.write_text("#!/no/interpreter\n")
    script.chmod(0o755)
    assert "interpreter in its first line is not there" in world.failed(world.command(str(script)))
    assert "is a folder" in world.failed(world.command(str(tmp_path)))
    assert "not a folder" in world.failed(world.command(f"{plain}/x"))


def test_program_is_searched_in_the_jobs_own_path(world: World, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").mkdir()  # a folder of that name is not it
    mine = tmp_path / "mine"
    mine.write_text("#!/bin/sh\necho found\n")
    mine.chmod(0o755)
    run_id = world.command("mine", env={"PATH": f"{tmp_path}/a:{tmp_path}"})
    world.exited(run_id)
    assert world.output(run_id) == b"found\n"


def test_cwd_gone_or_no_folder(world: World, tmp_path: Path) -> None:
    assert "is not there" in world.failed(world.command("true", cwd=str(tmp_path / "gone")))
    (tmp_path / "file").touch()
    assert "is not a folder" in world.failed(world.command("true", cwd=str(tmp_path / "file")))


def test_arguments_too_long(world: World) -> None:
    assert "too long for the kernel" in world.failed(world.command("true", "x" * 200_000))


def test_output_that_cannot_be_written(world: World, tmp_path: Path) -> None:
    folder = world.state / "output" / "linked"
    folder.mkdir(parents=True)
    target = tmp_path / "target"
    target.write_text("precious")
    (folder / "r.log").symlink_to(target)
    run_id = world.start(Job(name="linked", command=("echo", "x"), cwd="/"), run_id="r")
    assert "is a symbolic link" in world.failed(run_id)
    assert target.read_text() == "precious"
    (world.state / "output" / "file").write_text("")
    said = world.exited(world.command("echo", "lost", name="file"))  # the folder is made when there is output
    assert "output was lost" in said.usage.output_note


def test_output_file_is_private_and_its_folder_comes_back(world: World) -> None:
    first = world.shell("echo $TIDEGATE_OUTPUT; echo a=1 > $TIDEGATE_OUTPUT")
    assert world.exited(first).exit_code == 0
    path = world.path(first)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert Path(world.output(first).decode().strip()).read_text() == "a=1\n"
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    second = world.shell("echo a=1 > $TIDEGATE_OUTPUT", output=Output.DISCARD)
    assert world.exited(second).exit_code == 0
    assert not world.path(second).exists()


def test_attempts_append_to_one_file(world: World) -> None:
    job = Job(name="job", shell="echo $TIDEGATE_ATTEMPT; exit 1", cwd="/")
    for attempt in (1, 2):
        world.start(job, "same", attempt)
        world.wait(
            lambda attempt=attempt: any(
                getattr(e, "attempt", 0) == attempt and hasattr(e, "usage") for e in world.events
            )
        )
    assert world.output("same") == b"1\n2\n"


def test_journal_output_without_journald_is_refused_with_advice(world: World) -> None:
    reason = world.failed(world.shell("echo x", output=Output.JOURNAL))
    assert "journald's stream socket" in reason and 'set output = "file"' in reason


def test_journal_output_speaks_journalds_stream_protocol(tmp_path: Path) -> None:
    from tidegate.executors import keeper_output

    path = str(tmp_path / "stdout")
    with socket.socket(socket.AF_UNIX) as journald:
        journald.bind(path)
        journald.listen()
        stream = keeper_output.open_journal("tidegate-x", path)
        os.write(stream, b"hello\n")
        os.close(stream)
        connection, _ = journald.accept()
        with connection, connection.makefile("rb") as file:
            assert file.read() == b"tidegate-x\n\n6\n1\n0\n0\n0\nhello\n"


def test_a_senseless_request_is_answered_and_the_keeper_lives(world: World) -> None:
    assert world.link is not None
    queue = world.link._queue
    fine = {
        "type": "spawn",
        "run_id": "bad",
        "attempt": 1,
        "argv": ["true"],
        "env": {},
        "cwd": "/",
        "output": "discard",
    }
    for change in (
        {"argv": []},
        {"argv": "x"},
        {"env": {"A=B": "c"}},
        {"env": {"A": 1}},
        {"nice": "x"},
        {"cwd": "a\0"},
    ):
        queue(fine | change)
    queue({"type": "spawn"})
    queue({"type": "what"})
    queue({"type": "signal", "run_id": "none", "attempt": 1, "signal": 9})
    queue({"type": "acknowledge", "run_id": [], "attempt": {}})
    queue(fine | {"timeout_s": "x", "kill_grace_s": None, "run_id": "odd"})
    world.link.flush()
    run_id = world.command("true")
    assert world.exited(run_id).exit_code == 0
    assert len([e for e in world.events if getattr(e, "run_id", "") == "bad"]) == 6
    assert alive(world.link.keeper_pid) and not world.lost()


def test_text_that_is_not_utf8_fails_the_start_and_not_the_daemon(world: World) -> None:
    reason = world.failed(world.command("true", env={"A": "\udcff"}))
    assert "not UTF-8" in reason
    assert world.exited(world.command("true")).exit_code == 0


def test_what_a_run_wrote_to_storage_is_told(world: World, tmp_path: Path) -> None:
    path = tmp_path / "file"
    run_id = world.command("dd", "if=/dev/zero", f"of={path}", "bs=1M", "count=8", "conv=fsync")
    usage = world.exited(run_id).usage
    assert usage.io_write_bytes is not None and usage.io_write_bytes >= 8 * 1024 * 1024
    assert usage.io_read_bytes is not None and usage.io_read_bytes >= 0


def test_arguments_arrive_as_they_are_and_are_never_shell_text(world: World) -> None:
    """Threat 10."""
    value = "$(touch x); `id` \" ' \n ä"
    run_id = world.start(Job(name="job", shell='printf %s "$TIDEGATE_ARG_what"', cwd="/"), args={"what": value})
    world.exited(run_id)
    assert world.output(run_id).decode() == value


def test_a_secret_is_in_no_message_of_ours(world: World, tmp_path: Path) -> None:
    """Threat 21: whatever is wrong with the job, or with the file."""
    secret = "hunter2-" + "0" * 8
    file = tmp_path / "env"
    file.write_text(f"PASSWORD={secret}\n")
    for job in (
        Job(name="job", command=("/no/such",), env_file=str(file)),
        Job(name="job", command=("no-such",), env_file=str(file), cwd="/"),
        Job(name="job", command=("true",), env_file=str(file), cwd="/no/such"),
        Job(name="job", command=("true", "x" * 200_000), env_file=str(file), cwd="/"),
        Job(name="job", command=("true",), env_file=str(file), cwd="/", limits=Limits(memory_bytes=1)),
        Job(name="job", command=("true",), env_file=str(file), cwd="/", output=Output.JOURNAL),
    ):
        run_id = world.start(job)
        world.wait(lambda run_id=run_id: any(getattr(event, "run_id", "") == run_id for event in world.events))
    for text in (f"export PASSWORD={secret}", f"{secret}", f"PASS WORD={secret}", f"A='{secret}\n{secret}=", "A=\0"):
        file.write_text(text)
        run_id = world.start(Job(name="job", command=("true",), env_file=str(file), cwd="/"))
        world.wait(lambda run_id=run_id: any(getattr(event, "run_id", "") == run_id for event in world.events))
    file.write_bytes(f"A={secret}".encode() + b"\xff")
    world.failed(world.start(Job(name="job", command=("true",), env_file=str(file), cwd="/")))
    assert secret not in repr(world.events)
    assert secret not in (world.state / "keeper.log").read_text()


def ahead(world: World, run_id: str, text: str, **settings: object) -> datetime:
    """Ask for a run before it is due; when it is."""
    now = datetime.now(UTC)
    due = now + timedelta(seconds=0.09)
    run = Run(run_id=run_id, job="job", scheduled_at=due, queued_at=now)
    world.open_link.start(run, Job(name="job", shell=text, cwd="/", nice=0, **settings))
    world.open_link.flush()
    return due


def test_what_is_asked_for_ahead_begins_at_its_instant_with_its_own_output_each(world: World) -> None:
    dues = {f"r{number}": ahead(world, f"r{number}", f"date +%s.%N; echo {number} >&2") for number in range(20)}
    for number, (run_id, due) in enumerate(dues.items()):
        assert world.exited(run_id).exit_code == 0
        began, said = world.output(run_id).split()
        assert float(began) >= due.timestamp() - 0.001  # to a reading of two clocks
        assert said == b"%d" % number
        assert world.exited(run_id).usage.output_bytes == len(world.output(run_id))


def test_what_cannot_begin_at_its_instant_says_why_as_any_other(world: World) -> None:
    (world.state / "output").rename(world.state / "away")
    (world.state / "output").write_text("no folder")
    ahead(world, "lost", "true")
    assert "cannot be written" in world.failed("lost")
    (world.state / "output").unlink()
    (world.state / "away").rename(world.state / "output")
    ahead(world, "found", "echo said")
    assert world.exited("found").exit_code == 0
    assert world.output("found") == b"said\n"


def test_what_is_stopped_ahead_leaves_neither_a_file_nor_a_descriptor(world: World) -> None:
    descriptors = Path(f"/proc/{world.open_link.keeper_pid}/fd")
    before = len(list(descriptors.iterdir()))
    stopped = 0
    for number in range(200):  # on a busy machine its instant may come first
        run_id = f"r{number}"
        ahead(world, run_id, "sleep 60")
        world.run(0.005)
        world.signal(run_id, signal.SIGTERM)
        ended = world.wait(lambda one=run_id: world.ended(one) or failures(world, one))
        if ended is not True:
            assert ended == ["stopped before it began"]
            assert not world.path(run_id).exists()
            stopped += 1
        if stopped == 5:
            break
    assert stopped == 5
    assert len(list(descriptors.iterdir())) <= before + 1  # an empty file that serves the next one


def failures(world: World, run_id: str) -> list[str]:
    return [event.reason for event in world.events if isinstance(event, StartFailed) and event.run_id == run_id]
