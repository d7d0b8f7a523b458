"""Where a keeper is, and how one is started. No requests and no answers here: those are link.py's."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from tidegate.settings.places import KEEPER_VARIABLE

OF_A_SERVICE: Final = "start its service (systemctl start tidegate-keeper); its journal tells why it is not there"
LOG_BYTES_MAX: Final = 1024 * 1024  # keeper.log says nothing in normal life


class KeeperError(Exception):
    """No keeper could be reached or started; the text says why and what to do."""


def connect(runtime_dir: Path) -> socket.socket | None:
    """A connection to the keeper that listens there, or None where none does."""
    try:
        folder = os.open(runtime_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        hint = f"; {OF_A_SERVICE}" if os.environ.get(KEEPER_VARIABLE) else ""
        raise KeeperError(f"the keeper's folder {runtime_dir} cannot be used: {error.strerror}{hint}") from None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        connection.connect(f"/proc/self/fd/{folder}/keeper.sock")  # a socket's path is limited to 107 bytes
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except PermissionError as error:
        connection.close()
        hint = "the daemon and its keeper must be the same user (User= of both units)"
        raise KeeperError(f"{runtime_dir / 'keeper.sock'}: {error.strerror}; {hint}") from None
    except OSError as error:
        connection.close()
        raise KeeperError(f"{runtime_dir / 'keeper.sock'}: {error.strerror}") from None
    finally:
        os.close(folder)
    return connection


def command_line(folder: Path, *options: str) -> list[str]:
    """How the keeper's program is called: without site-packages and whatever the environment would bring in."""
    program = str(Path(__file__).with_name("keeper.py"))
    return [sys.executable, "-I", "-S", "-E", "-X", "utf8", program, str(folder), *options]


async def launch(runtime_dir: Path, state_dir: Path) -> None:
    """Start a keeper in a session of its own, and wait until it listens. KeeperError where that is a service's task."""
    if os.environ.get(KEEPER_VARIABLE):
        raise KeeperError(f"no keeper listens on {runtime_dir / 'keeper.sock'}; {OF_A_SERVICE}")
    loop = asyncio.get_running_loop()
    log_path = state_dir / "keeper.log"
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(log).st_size > LOG_BYTES_MAX:
            os.ftruncate(log, 0)
        log_begin = os.fstat(log).st_size
        process = subprocess.Popen(
            command_line(runtime_dir),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd="/",
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            start_new_session=True,
            close_fds=True,
        )
    finally:
        os.close(log)
    assert process.stdout is not None
    with process.stdout as said:
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(said, resolve, readable)
        try:
            await readable
        finally:
            loop.remove_reader(said)
        ready = os.read(said.fileno(), 16) == b"ready\n"
    _reap_when_dead(process, loop)
    if not ready:
        with open(log_path, "rb") as file:
            file.seek(log_begin)
            why = file.read(4096).decode(errors="replace").strip().rsplit("\n", 1)[-1]
        raise KeeperError(f"the keeper ended at its start: {why or 'it said nothing'}")


def resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _reap_when_dead(process: "subprocess.Popen[bytes]", loop: asyncio.AbstractEventLoop) -> None:
    """No zombie of it stays: its pidfd becomes readable when it ends."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        process.poll()
        return

    def reap() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        process.wait()

    loop.add_reader(pidfd, reap)
