"""The reading commands as real processes: pipes that break, Ctrl-C, terminals, and how fast they answer."""

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.live

TIDEGATE = [sys.executable, "-c", "from tidegate.cli.main import main; main()"]
LONG = ["cron", "* * * * * *", "--count", "20000"]  # more than a pipe holds
HEAVY = [
    "rich",
    "starlette",
    "uvicorn",
    "prometheus_client",
    "loguru",
    "psutil",
    "asyncio",
    "sqlite3",
    "http.client",
    "apscheduler.schedulers",
    "tidegate.engine",
    "tidegate.supervisor",
    "tidegate.telemetry",
    "tidegate.executors",
    "tidegate.api",
    "tidegate.history",
]

JOBS = """\
[daemon]
timezone = "Europe/Berlin"
[jobs.backup]
command = ["true"]
cron = "15 2 * * *"
[jobs.often]
command = ["true"]
cron = "* * * * *"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tidegate.toml"
    path.write_text(JOBS)
    return path


def plain_env(**more: str) -> dict[str, str]:
    """The environment of a person's terminal: nothing that turns buffering, encodings or colours one way."""
    quiet = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "COLORTERM", "TIDEGATE_CONFIG"}
    quiet |= {"PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONUTF8"}
    kept = {key: value for key, value in os.environ.items() if key not in quiet}
    return kept | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"} | more


def nowhere(folder: Path) -> dict[str, str]:
    """Neither the daemon nor the history of the machine that this runs on."""
    return {"STATE_DIRECTORY": str(folder / "state"), "RUNTIME_DIRECTORY": str(folder / "run")}


def in_terminal(args: list[str], columns: int, **env: str) -> str:
    """What a person sees in a terminal of that width."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*TIDEGATE, *args],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=plain_env(COLUMNS=str(columns), **env),
    )
    os.close(terminal)
    seen = b""
    until = time.monotonic() + 20
    while select.select([controller], [], [], max(0.0, until - time.monotonic()))[0]:
        try:
            part = os.read(controller, 65536)
        except OSError:  # EIO: the other end is closed
            break
        seen += part
    os.close(controller)
    assert process.wait(10) == 0, seen.decode()
    return seen.decode().replace("\r\n", "\n")


def test_python_m_is_the_same_command() -> None:
    said = subprocess.run([sys.executable, "-m", "tidegate", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("tidegate ")


def test_a_daemon_whose_terminal_is_closed_drains_as_nobody_sees_it_any_more(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text('[http]\nlisten = ""\n[jobs.a]\nshell = "sleep 0.5"\ncron = "@reboot"\n')
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*TIDEGATE, "run", "--config", tmp_path / "tidegate.toml"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=plain_env(**nowhere(tmp_path)),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    seen = b""
    while b"started" not in seen or b"ready" not in seen:
        assert select.select([controller], [], [], 20)[0], seen
        seen += os.read(controller, 65536)
    process.send_signal(signal.SIGHUP)
    while b"reloaded" not in seen:
        assert select.select([controller], [], [], 20)[0], seen
        seen += os.read(controller, 65536)
    os.close(controller)
    try:
        assert process.wait(20) == 0
    finally:
        process.kill()
    history = subprocess.run(
        [*TIDEGATE, "history", "--json"], env=plain_env(**nowhere(tmp_path)), capture_output=True, check=True
    )
    assert [run["outcome"] for run in json.loads(history.stdout)] == ["succeeded"]


def test_a_pipe_that_breaks_ends_it_quietly() -> None:
    process = subprocess.Popen([*TIDEGATE, *LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=plain_env())
    assert process.stdout and process.stderr
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(20) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_reader_that_is_gone_before_the_first_line_is_quiet_too(config: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [*TIDEGATE, "list", "--config", config]
    env = plain_env(**nowhere(config.parent))
    result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=env, timeout=20)
    os.close(writing)
    assert (result.returncode, result.stderr) == (141, b"")


def test_ctrl_c_ends_it_with_130_and_no_traceback() -> None:
    process = subprocess.Popen([*TIDEGATE, *LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=plain_env())
    assert process.stdout
    assert process.stdout.readline()  # it now blocks in a write, since the pipe is full or will be
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"Traceback" not in stderr


def test_json_stands_alone_on_stdout(config: Path) -> None:
    import json

    for args in (["check"], ["list"], ["show", "backup"], ["next"], ["next", "backup"]):
        command = [*TIDEGATE, *args, "--json", "--config", config]
        env = plain_env(**nowhere(config.parent))
        result = subprocess.run(command, capture_output=True, timeout=20, env=env)
        assert result.returncode == 0
        json.loads(result.stdout)
        assert result.stderr == b""


@pytest.mark.parametrize("args", [["check"], ["list"], ["show", "backup"], ["cron", "* * * * *"], ["schema"]])
def test_reading_commands_import_nothing_heavy(config: Path, args: list[str]) -> None:
    """Neither what asks a daemon nor what reads its history, where there is none."""
    program = (
        "import sys\n"
        "from tidegate.cli.main import main\n"
        "main(sys.argv[1:], standalone_mode=False)\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, *args],
        capture_output=True,
        text=True,
        timeout=20,
        env=plain_env(TIDEGATE_CONFIG=str(config), **nowhere(config.parent)),
        check=True,
    )
    loaded = set(result.stderr.split())
    assert "tidegate.cli.main" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_check_answers_at_once(config: Path) -> None:
    """About 0.1 s of CPU time, which a busy machine does not stretch as it does the wall clock's; best of five."""
    used_s = []
    for _ in range(5):
        process = subprocess.Popen([*TIDEGATE, "check", config], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        used_s.append(usage.ru_utime + usage.ru_stime)
    assert min(used_s) < 0.25


def test_terminal_gets_colour_and_its_own_width(config: Path) -> None:
    narrow = in_terminal(["next", "--config", str(config)], 80)
    wide = in_terminal(["next", "--config", str(config)], 140)
    assert "\x1b[" in narrow
    assert "fires in 30 minutes" in narrow
    assert "fires in 15 minutes" in wide


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_terminal_without_colour_gets_none(config: Path, env: dict[str, str]) -> None:
    seen = in_terminal(["next", "--config", str(config)], 80, **env)
    assert "\x1b[3" not in seen
    assert "backup" in seen


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_terminal_that_is_not_utf8_gets_plain_marks(config: Path, encoding: str) -> None:
    result = subprocess.run(
        [*TIDEGATE, "next", "--config", config],
        capture_output=True,
        timeout=20,
        env=plain_env(PYTHONIOENCODING=encoding),
    )
    assert result.returncode == 0, result.stderr
    assert b"#" * 40 in result.stdout
    assert b"02:15 comes twice" in result.stdout
    assert b". 0  i 1" in result.stdout


def test_installed_command_is_this_one() -> None:
    program = Path(sys.executable).with_name("tidegate")
    result = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=True)
    assert result.stdout.startswith("tidegate ")
