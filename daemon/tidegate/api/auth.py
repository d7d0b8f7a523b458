"""Who may do what. Over the socket the kernel's word about the peer decides, over TCP a token. It changes nothing.

The decision is made on the matched route's Need, never on a path.
"""

import grp
import hmac
import os
import pwd
import stat
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Final

from msgspec import Struct

from tidegate.api.peer import Peer
from tidegate.model.plan import Plan
from tidegate.model.text import escape

TOKEN_BYTES_MAX: Final = 4096
TOKEN_CHARS_MIN: Final = 16  # 64 bits even where it is hexadecimal


class Need(Enum):
    """What a route asks of who asks."""

    READ = "read"  # nothing: whoever may connect may read it
    CONFIDE = "confide"  # over TCP a token: what jobs print, and what was decided about them
    OPERATE = "operate"  # root, the daemon's own user, an operator, or a token


class Denied(Exception):
    """Not allowed; the sentence says how it would be."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers


class Caller(Struct, frozen=True):
    """Somebody who was let in."""

    peer: Peer
    name: str  # for the record, as in "cancelled by …"
    confided: bool  # over the socket, or with a token


class Gate:
    """Decides. For Need.OPERATE `admit` may ask the user database, which may be slow: call it in a thread."""

    def __init__(self, plan: Callable[[], Plan], environ: Mapping[str, str]) -> None:
        self._plan = plan
        self._token = Token(environ.get("CREDENTIALS_DIRECTORY"))

    def admit(self, peer: Peer, need: Need, authorization: str | None) -> Caller:
        """Who it is. Raises Denied."""
        if peer.local:
            if need is Need.OPERATE and not self._operates(peer):
                raise Denied(403, self._who_operates(peer))
            name = f"{user_name(peer.uid)} (pid {peer.pid})" if need is Need.OPERATE else peer.key
            return Caller(peer, name, confided=True)
        if need is Need.READ and authorization is None:
            return Caller(peer, peer.address, confided=False)
        try:
            self._check_token(authorization)
        except Denied:
            if need is Need.READ:
                return Caller(peer, peer.address, confided=False)
            raise
        return Caller(peer, f"a token from {peer.address}", confided=True)

    def _operates(self, peer: Peer) -> bool:
        if peer.uid in (0, os.geteuid()):
            return True
        operators = self._plan().control.operators
        if not operators:
            return False
        try:
            group = grp.getgrnam(operators)
        except KeyError:
            return False
        if group.gr_gid == peer.gid or group.gr_gid in peer.groups:
            return True
        try:  # somebody who became a member after logging in has the group in the database only
            user = pwd.getpwuid(peer.uid)
        except KeyError:
            return False
        return user.pw_gid == group.gr_gid or user.pw_name in group.gr_mem

    def _who_operates(self, peer: Peer) -> str:
        operators = self._plan().control.operators
        by = f"members of the group {escape(operators)}, " if operators else ""
        advice = "" if operators else "; a group may too when it is named as operators under [control] in tidegate.toml"
        return (
            f"{user_name(peer.uid)} may only read here: {by}root and "
            f"{user_name(os.geteuid())} may trigger, cancel, pause, reload and lease{advice}"
        )

    def _check_token(self, authorization: str | None) -> None:
        path = self._plan().http.token_file
        if path is None:
            raise Denied(
                403,
                "over TCP this needs a token, and none is configured: name a file with one as token_file "
                "under [http] in tidegate.toml, or use the control socket",
            )
        try:
            expected = self._token.read(path)
        except TokenFileError as error:
            raise Denied(403, f"over TCP this needs a token, and the configured one cannot be used: {error}") from error
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), expected):
            sentence = "this is not the token" if authorization else "this needs 'Authorization: Bearer' with the token"
            raise Denied(401, f"{sentence} of token_file under [http]", {"www-authenticate": "Bearer"})


class TokenFileError(Exception):
    """Why a token file cannot be used. Never says what is in it."""


class Token:
    """The token in a file, read again when the file has changed."""

    def __init__(self, credentials_dir: str | None) -> None:
        self._credentials_dir = credentials_dir
        self._seen: tuple[str, int, int, int] | None = None
        self._value = b""

    def read(self, path: str) -> bytes:
        """The token. Raises TokenFileError where others could read or change it, or where it is too short."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise TokenFileError(f"token_file cannot be read ({error.strerror})") from error
        try:
            status = os.fstat(descriptor)
            self._judge(path, status)
            seen = (path, status.st_ino, status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                value = os.read(descriptor, TOKEN_BYTES_MAX + 1).strip()
                if not TOKEN_CHARS_MIN <= len(value) <= TOKEN_BYTES_MAX:
                    raise TokenFileError(f"a token has {TOKEN_CHARS_MIN} to {TOKEN_BYTES_MAX} characters")
                self._value, self._seen = value, seen
        except OSError as error:
            raise TokenFileError(f"token_file cannot be read ({error.strerror})") from error
        finally:
            os.close(descriptor)
        return self._value

    def _judge(self, path: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise TokenFileError("token_file is not a regular file")
        if status.st_uid not in (0, os.geteuid()):
            raise TokenFileError(f"token_file belongs to {user_name(status.st_uid)}: it must be root's or the daemon's")
        # systemd hands credentials to other users through an access list, which shows as the group's bit.
        loaded = self._credentials_dir is not None and Path(path).parent == Path(self._credentials_dir)
        if stat.S_IMODE(status.st_mode) & (0o137 if loaded else 0o177):
            raise TokenFileError(f"token_file has mode {stat.S_IMODE(status.st_mode):04o}: 'chmod 600' mends that")


def user_name(uid: int) -> str:
    """The name of a user, or `uid 1000` where it has none."""
    try:
        return escape(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return f"uid {uid}"
