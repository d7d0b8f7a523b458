"""How a command reaches the daemon: where its socket is, and how the command ends where nobody answers or agrees."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tidegate.model.text import escape
from tidegate.settings.places import HISTORY_NAME, SOCKET_NAME, runtime_dir, state_dir

if TYPE_CHECKING:
    from tidegate.cli.client import Client

SYSTEM_SOCKET: Final = Path("/run/tidegate", SOCKET_NAME)  # of a daemon of root, whose operators are other users


class NoAnswer(click.ClickException):
    """No daemon answers: exit code 3."""

    exit_code = 3


def own_state_dir() -> Path:
    """Where the daemon of this user and environment keeps its state."""
    return state_dir(os.environ, os.getuid()).absolute()


def own_runtime_dir() -> Path:
    """Where the daemon of this user and environment has its sockets."""
    return runtime_dir(os.environ, os.getuid(), own_state_dir()).absolute()


def own_history() -> Path:
    """The account of that daemon, on disk."""
    return own_state_dir() / HISTORY_NAME


def control_socket() -> Path:
    """The socket of this user's daemon; where there is none, that of the machine's."""
    own = own_runtime_dir() / SOCKET_NAME
    if os.path.lexists(own) or os.environ.get("RUNTIME_DIRECTORY") or not SYSTEM_SOCKET.exists():
        return own
    return SYSTEM_SOCKET


def daemon() -> "Client":
    """The daemon to ask; whether it answers shows when it is asked."""
    from tidegate.cli.client import Client  # with what it needs it costs 20 ms

    return Client(control_socket())


@contextmanager
def told() -> Iterator[None]:
    """Ends the command in words where the daemon does not answer (exit code 3) or refuses (1)."""
    from tidegate.cli.client import NoDaemonError, RefusedError

    try:
        yield
    except NoDaemonError as error:
        raise NoAnswer(escape(str(error))) from error
    except RefusedError as error:
        raise click.ClickException(escape(error.detail)) from error


def user_name(uid: int) -> str:
    """The name of a user, or its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
