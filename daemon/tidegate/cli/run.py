"""tidegate run: the composition root. Puts the rooms together and ends with an exit code; decides nothing itself."""

import asyncio
import errno
import gc
import importlib.util
import os
import stat
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import click
from loguru import logger

from tidegate import __version__
from tidegate.api.application import control_application
from tidegate.api.routes import Status
from tidegate.api.serve import ListenError, serve_tcp
from tidegate.api.unix import serve_unix
from tidegate.cli.asking import user_name
from tidegate.cli.options import chosen_config_path, config_option, no_good
from tidegate.executors.link import KeeperError
from tidegate.failpoint import FailpointError, arm
from tidegate.history.entry import HistoryError
from tidegate.history.read import Reader
from tidegate.model.plan import Plan
from tidegate.model.text import escape
from tidegate.settings.places import SOCKET_NAME, keeper_dir, runtime_dir, state_dir
from tidegate.settings.read import SettingsError, load
from tidegate.supervisor import first_process, signals
from tidegate.supervisor.daemon import EndedBadlyError, Places, Supervisor
from tidegate.supervisor.lock import StateLockedError
from tidegate.supervisor.stopping import started_by_systemd
from tidegate.telemetry.logs import Logs, configure
from tidegate.telemetry.metrics import Metrics
from tidegate.telemetry.series import pressures_of

IN_UNIT: Final = "; in a unit it needs StateDirectory=tidegate and RuntimeDirectory=tidegate"
PRIVATE: Final = 0o700
PASSABLE: Final = 0o711  # group and others get to the control socket, whose own mode decides, and see nothing else
SWITCH_S: Final = 0.0005  # a thread gives way to the loop within this; by itself Python lets it hold on for 5 ms


@click.command(short_help="Run the daemon in the foreground.")
@config_option
def command(config: Path | None) -> None:
    """Run the daemon in the foreground.

    State (history, run output) goes to $STATE_DIRECTORY, /var/lib/tidegate for root or
    $XDG_STATE_HOME/tidegate; sockets to $RUNTIME_DIRECTORY, /run/tidegate for root or
    $XDG_RUNTIME_DIR/tidegate.

    SIGHUP reloads. Ctrl-C lets running jobs end first, a second one stops at once. SIGTERM
    does what on_stop says: leave them running for the next start, or let them end first.
    SIGUSR1 logs a full state line.

    Example: STATE_DIRECTORY=$PWD/.state tidegate run --config ./tidegate.toml
    """
    signals.hold()
    open_missing_streams()
    first_process.split(os.environ)
    try:
        arm(os.environ)
    except FailpointError as error:
        raise click.ClickException(str(error)) from error
    path = chosen_config_path(config)
    try:
        plan = load(path)
    except SettingsError as error:
        raise no_good(path, error) from error
    gc.freeze()
    gc.disable()  # until all is up: what is made by then stays, and 10,000 jobs are long to walk
    state = state_dir(os.environ, os.getuid()).absolute()
    runtime = runtime_dir(os.environ, os.getuid(), state).absolute()
    places = Places(path.absolute(), state, keeper_dir(os.environ, runtime).absolute())
    make_private(places.state_dir, PRIVATE, "STATE_DIRECTORY")
    make_private(runtime, PASSABLE, "RUNTIME_DIRECTORY")
    try:
        logs = configure(plan.daemon.log_format, plan.daemon.log_level)
    except OSError as error:
        raise click.ClickException(f"cannot start: {error}") from error
    try:
        for warning in plan.warnings:
            logger.bind(event="config.warning").warning("{}", warning)
        tell_what_is_missing(os.environ)
        sys.setswitchinterval(SWITCH_S)
        asyncio.run(_work(plan, places, runtime, logs))
    except (StateLockedError, HistoryError, KeeperError, ListenError, OSError) as error:
        hint = ""
        if isinstance(error, OSError) and error.errno == errno.EAFNOSUPPORT:
            hint = "; in a unit RestrictAddressFamilies= must name AF_UNIX, and AF_INET and AF_INET6 for [http]"
        logger.bind(event="daemon.failed").critical("cannot start: {}{}", error, hint)
        raise click.exceptions.Exit(1) from error
    except EndedBadlyError as error:
        logger.bind(event="daemon.failed").critical("{}", error)
        raise click.exceptions.Exit(1) from error
    finally:
        logs.close()


async def _work(plan: Plan, places: Places, runtime: Path, logs: Logs) -> None:
    metrics = Metrics(
        __version__,
        pool=lambda: supervisor.pool(),
        next_fires=lambda: supervisor.next_fires(),
        logs_dropped=lambda: logs.dropped,
        resources=lambda: supervisor.resources(),
        blocked_s=lambda: supervisor.blocked_s(),
        pressures=lambda: pressures_of(supervisor.sample()),
        hook_deliveries=lambda: supervisor.hooks.totals,
        per_job_histograms=plan.metrics.per_job_histograms,
    )
    supervisor = Supervisor(plan, places, metrics, logs.observe, os.environ)
    supervisor.on_plan(lambda new: logs.set_level(new.daemon.log_level))

    async def serve(supervisor: Supervisor) -> Callable[[], Awaitable[None]]:
        status = Status(__version__, supervisor.uptime_s, supervisor.not_healthy, supervisor.not_ready)
        control = supervisor.control
        api = control_application(
            metrics, status, control, lambda: Reader(control.history_path), lambda: supervisor.plan
        )
        servers = [await serve_unix(api, runtime / SOCKET_NAME, plan.control)]
        if servers[0].notice:
            logger.bind(event="control.limited").warning("{}", servers[0].notice)
        try:
            if plan.http.host is not None:
                servers.append(await serve_tcp(api, plan.http))
                for host, port in servers[-1].addresses:
                    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                    logger.bind(event="http.listening").info("http://{}/metrics, /health, /ready", where)
        except ListenError:
            await servers[0].close()
            raise

        async def close() -> None:
            await api.close()
            for server in servers:
                await server.close()

        return close

    await supervisor.run(serve)


def tell_what_is_missing(environ: Mapping[str, str]) -> None:
    """Under systemd, and only there, what the extra `systemd` would add."""
    if started_by_systemd(environ) and importlib.util.find_spec("systemd") is None:
        logger.bind(event="systemd.missing").warning(
            'systemd-python is not installed: what jobs with output = "journal" write can be read with journalctl only,'
            " not with tidegate logs or the API; pip install 'tidegate[systemd]' adds it"
        )


def open_missing_streams() -> None:
    """Whoever started us may have closed 0, 1 or 2: no file of ours may land there and be written to as a log."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def make_private(folder: Path, mode: int, variable: str) -> None:
    """A folder of ours, with this mode, and never one that others could write to. Ends the command with the reason.

    `variable` of the environment may have named it.
    """
    shown = escape(str(folder))
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTDIR):
            raise click.ClickException(f"{no_folder(folder)} is not a folder; {elsewhere(variable)}") from error
        hint = IN_UNIT if error.errno == errno.EROFS else ""
        raise click.ClickException(f"{shown} cannot be made or used: {error.strerror}{hint}") from error
    if status.st_uid != os.geteuid():
        owner, we = user_name(status.st_uid), user_name(os.geteuid())
        raise click.ClickException(
            f"{shown} belongs to user {owner}, not to the user that runs tidegate, {we}: start it as {owner}; or "
            f"'chown -R {we} {shown}', if all in it is tidegate's; or {elsewhere(variable)}"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise click.ClickException(f"{shown} can be written to by others; 'chmod go-w {shown}' mends that")
    if not os.access(folder, os.W_OK | os.X_OK):
        hint = IN_UNIT if os.statvfs(folder).f_flag & os.ST_RDONLY else ""
        raise click.ClickException(f"{shown} cannot be written to by this user{hint}")
    if stat.S_IMODE(status.st_mode) != mode:
        folder.chmod(mode)  # jobs of other users read nothing of ours, and whoever may use the socket gets as far as it


def no_folder(path: Path) -> str:
    """What of the path stands in the way: itself, or what should be a folder above it."""
    return escape(str(next((each for each in (*reversed(path.parents), path) if not each.is_dir()), path)))


def elsewhere(variable: str) -> str:
    """What to do about a folder that cannot be the one."""
    return f"{variable} names it: correct that" if os.environ.get(variable) else f"set {variable} to another"
