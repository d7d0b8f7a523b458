"""The control socket: takes its place in the file system, and hands it to the same server as TCP. It knows no route."""

import asyncio
import contextlib
import grp
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp
from uvicorn.server import ServerState

from tidegate.api.guard import Guard
from tidegate.api.serve import ACCEPTS_A_TURN, ListenError, Protocol, Server, Turns, configured, lengthen
from tidegate.model.plan import ControlSettings
from tidegate.model.text import escape

SOCKET_MODE: Final = 0o660
ACL_NAME: Final = "system.posix_acl_access"
ACL_OWNER, ACL_OWNING_GROUP, ACL_GROUP, ACL_MASK, ACL_OTHERS = 0x01, 0x04, 0x08, 0x10, 0x20  # linux/posix_acl.h
ACL_VERSION: Final = 2
ACL_NO_ID: Final = 0xFFFFFFFF
ACL_READ_WRITE: Final = 6
PATH_BYTES_MAX: Final = 107  # sun_path, without its final NUL


async def serve_unix(app: ASGIApp, path: Path, settings: ControlSettings) -> Server:
    """Listen on the control socket. Raises ListenError.

    `path.parent` must let members of the operators group through: mode 0711 is enough. What could not be done as
    configured stands in the server's `notice`.
    """
    sock = _bound(path)
    try:
        notice = _opened_to(path, settings.operators)
        config = configured(Guard(app, None))
        state, turns = ServerState(), Turns()
        loop = asyncio.get_running_loop()
        # Nobody can connect before this: the socket had its owner and mode first.
        server = await loop.create_unix_server(
            lambda: Protocol(config, state, turns), sock=sock, backlog=ACCEPTS_A_TURN
        )
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot listen on {escape(str(path))}: {error.strerror}") from error
    lengthen(server)
    ours = path.stat().st_ino
    return Server(server, state, notice, lambda: _remove(path, ours))


def _bound(path: Path) -> socket.socket:
    shown = escape(str(path))
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise ListenError(
            f"the path of the control socket, {shown}, has more than {PATH_BYTES_MAX} bytes: "
            "set RUNTIME_DIRECTORY to a shorter folder"
        )
    _clear(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.bind(os.fsencode(path))
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot make the control socket {shown}: {error.strerror}") from error
    return sock


def _clear(path: Path) -> None:
    """Take a stale socket away: only one that is ours, and that nobody listens on."""
    shown = escape(str(path))
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ListenError(f"cannot look at {shown}: {error.strerror}") from error
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(f"{shown} is in the way, and is not a socket: move it, or set another RUNTIME_DIRECTORY")
    if found.st_uid != os.geteuid():
        raise ListenError(f"the socket {shown} belongs to user {found.st_uid}: remove it if nothing uses it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(os.fsencode(path))
        except ConnectionRefusedError:
            pass
        except OSError as error:  # EAGAIN: so many wait for it that it must be alive
            raise ListenError(f"something listens on {shown} already ({error.strerror})") from error
        else:
            raise ListenError(
                f"another program answers on {shown}: end it, or set another RUNTIME_DIRECTORY for this one"
            )
    path.unlink(missing_ok=True)


def _opened_to(path: Path, operators: str) -> str:
    """Set owner and mode; what could not be done, as a sentence."""
    path.chmod(SOCKET_MODE)
    if not operators:
        return ""
    try:
        gid = grp.getgrnam(operators).gr_gid
    except KeyError:
        return f"there is no group {escape(operators)}, named as operators under [control]"
    try:
        os.chown(path, -1, gid)
    except PermissionError:
        return _admitted(path, operators, gid)
    return ""


def _admitted(path: Path, operators: str, gid: int) -> str:
    """Without the right to give files away, as under the shipped units, an owner may still say who else comes in."""
    entries = (
        (ACL_OWNER, ACL_NO_ID),
        (ACL_OWNING_GROUP, ACL_NO_ID),
        (ACL_GROUP, gid),
        (ACL_MASK, ACL_NO_ID),
    )
    acl = struct.pack("<I", ACL_VERSION)
    acl += b"".join(struct.pack("<HHI", tag, ACL_READ_WRITE, id_) for tag, id_ in entries)
    acl += struct.pack("<HHI", ACL_OTHERS, 0, ACL_NO_ID)
    try:
        os.setxattr(path, ACL_NAME, acl)
    except OSError as error:
        return (
            f"the control socket cannot be opened to the group {escape(operators)} ({error.strerror}): "
            "run the daemon as root, or as a member of that group"
        )
    return ""


def _remove(path: Path, inode: int) -> None:
    """Take our own socket away, and nobody else's."""
    with contextlib.suppress(OSError):
        if path.lstat().st_ino == inode:
            path.unlink()
