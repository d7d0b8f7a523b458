"""What is tidegate's own on this machine, for `tidegate doctor`: configuration, folders, socket, daemon, keeper,
history, disk. Reads only: it opens the history read-only and asks the daemon nothing but how it is."""

import os
import sqlite3
import stat
from pathlib import Path
from typing import Final

from tidegate import clock
from tidegate.cli.asking import user_name
from tidegate.cli.client import Client, DeniedError, NoDaemonError, RefusedError
from tidegate.cli.finding import Finding, broken, degraded, ok
from tidegate.cli.network import network
from tidegate.history.schema import VERSION
from tidegate.model.plan import HistorySettings, Plan
from tidegate.model.text import counted
from tidegate.settings.places import SOCKET_NAME
from tidegate.settings.read import SettingsError, load
from tidegate.telemetry.line import size

OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
OTHERS: Final = 0o077
SPARE: Final = 4  # times the reserve: below it somebody should look soon
CHECK_S_MAX: Final = 20.0  # of looking through the history; a large one is looked at in part
STEPS_BETWEEN: Final = 10_000  # of SQLite's machine, between two looks at the clock
KEEPER_SOCKET: Final = "keeper.sock"
AS_ITS_USER: Final = "run doctor as the daemon's user, or as root; [control] operators names a group that may connect"


def installation(config: Path, state: Path, runtime: Path, history: Path) -> list[Finding]:
    """Everything, in the order of printing."""
    plan, found = configuration(config)
    client = Client(runtime / SOCKET_NAME)
    silence = client.silence()
    return [
        found,
        folder("state folder", state),
        folder("runtime folder", runtime, private=False),
        control_socket(runtime / SOCKET_NAME),
        daemon(client, silence),
        keeper(Client(keeper_socket(runtime)), silence is None),
        account(history),
        disk(state, (plan.history if plan else HistorySettings()).reserve_bytes),
        *(network(plan, _pid(client)) if plan is not None and silence is None else []),
    ]


def _pid(client: Client) -> int:
    try:
        return client.daemon_pid()
    except NoDaemonError:
        return 0  # it went away meanwhile: nobody's


def configuration(path: Path) -> tuple[Plan | None, Finding]:
    """Whether it is good, and safe from others."""
    name = "configuration"
    if not os.path.lexists(path):
        return None, broken(name, f"there is none at {path}", "tidegate init writes one")
    try:
        plan = load(path)
    except SettingsError as error:
        first = str(error.problems[0])
        more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        return None, broken(name, f"{first}{more}", "tidegate check lists every problem")
    for file in plan.files:
        if _mode(Path(file)) & OTHERS_WRITE:
            return plan, broken(name, f"{file} can be written to by others", f"chmod go-w {file}")
    good = f"{counted(len(plan.jobs), 'job')} in {counted(len(plan.files), 'file')}"
    if plan.warnings:
        return plan, degraded(name, f"{good}; {plan.warnings[0]}", "tidegate check lists every warning")
    return plan, ok(name, good)


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def folder(name: str, path: Path, private: bool = True) -> Finding:
    """Whether it is ours and only ours."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return degraded(name, f"{path} is not there yet", "tidegate run makes it")
    except OSError as error:
        return broken(name, f"{path}: {error.strerror}", "ask its owner, or run doctor as the daemon's user")
    owner = user_name(status.st_uid)
    if status.st_mode & OTHERS_WRITE:
        return broken(name, f"{path} can be written to by others", f"chmod go-w {path}")
    if private and status.st_mode & OTHERS:
        return degraded(name, f"{path} can be read by others", f"chmod 700 {path}")
    if status.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        return degraded(name, f"{path} belongs to {owner}", "run doctor as that user to see everything")
    return ok(name, f"{path}, of {owner}, mode {stat.S_IMODE(status.st_mode):04o}")


def control_socket(path: Path) -> Finding:
    """What the commands connect to."""
    name = "control socket"
    try:
        status = path.lstat()
    except OSError:
        return degraded(name, f"{path} is not there", "tidegate run makes it")
    if not stat.S_ISSOCK(status.st_mode):
        return broken(name, f"{path} is not a socket", f"rm {path}, then start tidegate again")
    if status.st_mode & stat.S_IRWXO:
        return broken(name, f"{path} is open to everybody", f"chmod 660 {path}")
    found = f"{path}, of {user_name(status.st_uid)}, mode {stat.S_IMODE(status.st_mode):04o}"
    if not os.access(path, os.W_OK):
        return degraded(name, f"{found}: you may not connect", AS_ITS_USER)
    return ok(name, found)


def daemon(client: Client, silence: NoDaemonError | None) -> Finding:
    """Whether it answers, and whether it starts what is due."""
    name = "daemon"
    if isinstance(silence, DeniedError):
        return degraded(name, str(silence), AS_ITS_USER)
    if silence is not None:
        return broken(name, f"none answers at {client.path}", "start it: tidegate run, or systemctl start tidegate")
    try:
        held = client.pool().pool.held
        pid = client.daemon_pid()
    except (NoDaemonError, RefusedError) as error:
        return broken(name, str(error), "its log says more; systemctl restart tidegate touches no running job")
    if held:
        return broken(name, f"it answers (pid {pid}), but starts nothing: {held}", "do what that says")
    return ok(name, f"it answers (pid {pid}) and starts what is due")


def keeper_socket(runtime: Path) -> Path:
    """Beside the daemon's, unless the keeper is a service of its own (systemd/tidegate-keeper.service)."""
    of_service = runtime.with_name(f"{runtime.name}-keeper") / KEEPER_SOCKET
    return of_service if os.access(of_service, os.F_OK) else runtime / KEEPER_SOCKET


def keeper(client: Client, daemon_answers: bool) -> Finding:
    """The process that holds the runs. It is connected to and told nothing."""
    name = "keeper"
    try:
        pid = client.daemon_pid()
    except DeniedError as error:
        return degraded(name, str(error), AS_ITS_USER)
    except NoDaemonError:
        if daemon_answers:
            return broken(name, f"none answers at {client.path}", "the daemon starts another; its log says why not")
        return ok(name, "none is there, and without a daemon none is needed")
    return ok(name, f"it answers (pid {pid})")


def account(path: Path) -> Finding:
    """Whether the history can be read and is whole, as far as CHECK_S_MAX goes."""
    name = "history"
    try:
        path.stat()
    except FileNotFoundError:
        return degraded(name, f"{path} is not there yet", "tidegate run makes it")
    except OSError as error:
        return degraded(name, f"{path}: {error.strerror}", "run doctor as the daemon's user")
    end_s = clock.monotonic_s() + CHECK_S_MAX
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as error:
        return broken(name, f"{path}: {error}", "run doctor as the daemon's user")
    try:
        connection.set_progress_handler(lambda: clock.monotonic_s() > end_s, STEPS_BETWEEN)
        found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            return ok(name, f"{path}, {size(path.stat().st_size)}: too large to be looked through at once")
        return broken(name, f"{path}: {error}", "run doctor as the daemon's user, or see docs/reference/history.md")
    except sqlite3.Error as error:
        return broken(name, f"{path}: {error}", _CORRUPT)
    finally:
        connection.close()
    if found != ["ok"]:
        return broken(name, f"{path}: {found[0]}", _CORRUPT)
    if version > VERSION:
        later = f"{path} was written by a later tidegate (schema {version}, this one knows {VERSION})"
        return broken(name, later, "install that version again, or move the file away to begin a new account")
    return ok(name, f"{path}, {size(path.stat().st_size)}, whole, schema {version}")


_CORRUPT: Final = (
    'restart the daemon: with on_corruption = "continue" it sets the file aside and goes on; look at the disk that it'
    " is on, and at its backups"
)


def disk(state: Path, reserve_bytes: int) -> Finding:
    """Room for history and output; below the reserve nothing starts."""
    name = "disk"
    folder = next((each for each in (state, *state.parents) if os.access(each, os.F_OK)), Path("/"))
    status = os.statvfs(folder)
    free_bytes = status.f_bavail * status.f_frsize
    found = f"{size(free_bytes)} free at {folder}; the reserve is {size(reserve_bytes)}"
    if free_bytes < reserve_bytes:
        return broken(name, found, "nothing starts until there is room: remove files, or lower [history] keep")
    if free_bytes < SPARE * reserve_bytes:
        return degraded(name, found, "make room soon: below the reserve nothing starts")
    if status.f_files and status.f_favail < 1000:
        return broken(name, f"{status.f_favail} inodes free at {folder}", "remove files")
    return ok(name, found)
