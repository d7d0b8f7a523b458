"""Where things are when nobody says: configuration, state, sockets. Pure: environment and user id are arguments."""

from collections.abc import Mapping
from pathlib import Path

NAME = "tidegate"
SOCKET_NAME = "tidegate.sock"  # the control socket, in the runtime directory
HISTORY_NAME = "history.sqlite"  # in the state directory
KEEPER_VARIABLE = "TIDEGATE_KEEPER_DIRECTORY"  # set by the unit of a daemon whose keeper is a service of its own


def config_path(explicit: str | None, environ: Mapping[str, str], uid: int) -> Path:
    """--config, $TIDEGATE_CONFIG, /etc/tidegate/tidegate.toml for root, $XDG_CONFIG_HOME/tidegate/tidegate.toml."""
    if explicit:
        return Path(explicit)
    if environ.get("TIDEGATE_CONFIG"):
        return Path(environ["TIDEGATE_CONFIG"])
    if uid == 0:
        return Path("/etc", NAME, "tidegate.toml")
    return xdg(environ, "XDG_CONFIG_HOME", ".config") / "tidegate.toml"


def state_dir(environ: Mapping[str, str], uid: int) -> Path:
    """$STATE_DIRECTORY, /var/lib/tidegate for root, $XDG_STATE_HOME/tidegate."""
    if environ.get("STATE_DIRECTORY"):
        return first(environ["STATE_DIRECTORY"])
    if uid == 0:
        return Path("/var/lib", NAME)
    return xdg(environ, "XDG_STATE_HOME", ".local/state")


def runtime_dir(environ: Mapping[str, str], uid: int, state: Path | None = None) -> Path:
    """$RUNTIME_DIRECTORY, /run/tidegate for root, $XDG_RUNTIME_DIR/tidegate, else `run` beneath `state`."""
    if environ.get("RUNTIME_DIRECTORY"):
        return first(environ["RUNTIME_DIRECTORY"])
    if uid == 0:
        return Path("/run", NAME)
    if environ.get("XDG_RUNTIME_DIR", "").startswith("/"):
        return Path(environ["XDG_RUNTIME_DIR"], NAME)
    return (state or state_dir(environ, uid)) / "run"


def keeper_dir(environ: Mapping[str, str], runtime: Path) -> Path:
    """$TIDEGATE_KEEPER_DIRECTORY, else the daemon's own runtime directory."""
    return Path(environ.get(KEEPER_VARIABLE) or runtime)


def first(directories: str) -> Path:
    """systemd separates several directories with colons; the first is ours."""
    return Path(directories.split(":")[0])


def xdg(environ: Mapping[str, str], variable: str, default: str) -> Path:
    """A folder of ours beneath an XDG base; a relative base is invalid by the XDG specification and not looked at."""
    base = environ.get(variable, "")
    return (Path(base) if base.startswith("/") else Path(environ.get("HOME") or "/", default)) / NAME
