"""What this machine offers, for `tidegate doctor`: pressure, control groups, journal, zones, clock, SQLite. Reads files
beneath a root that tests can put elsewhere; changes nothing."""

import ctypes
import importlib.util
import os
import sqlite3
import zoneinfo
from pathlib import Path
from typing import Final

from tidegate.cli.finding import Finding, broken, degraded, ok

ROOT: Final = Path("/")
PRESSURES: Final = ("cpu", "memory", "io")
CONTROLLERS: Final = ("memory", "cpu", "pids", "io")  # what memory_max, cpu_max, pids_max and io_weight need
SQLITE_MIN: Final = (3, 38, 0)  # the first with JSON functions always built in
PROBED_ZONE: Final = "Europe/Berlin"
TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronized
TIMEX_BYTES: Final = 512  # struct timex has 208; modes = 0 only reads


def machine(pid: int | None, keeper_pid: int | None = None, root: Path = ROOT) -> list[Finding]:
    """Everything, in the order of printing. `pid` is the daemon's, where one answers: its cgroup counts, not ours. What
    may be divided among jobs is the keeper's."""
    return [
        pressure(root),
        readings(root, pid),
        control_groups(root, pid if keeper_pid is None else keeper_pid),
        journald(root),
        systemd_python(importlib.util.find_spec("systemd") is not None),
        zones(),
        sqlite(sqlite3.sqlite_version_info),
        clock_sync(clock_state()),
    ]


def pressure(root: Path) -> Finding:
    """PSI, for how many jobs the machine can bear."""
    missing = []
    for name in PRESSURES:
        try:
            (root / "proc/pressure" / name).read_bytes()
        except OSError:
            missing.append(name)
    if not missing:
        return ok("pressure", "the kernel tells the pressure on cpu, memory and io (PSI)")
    return degraded(
        "pressure",
        f"the kernel does not tell the pressure on {', '.join(missing)} (PSI)",
        "boot with psi=1; until then the pool knows load and memory only",
    )


def readings(root: Path, pid: int | None) -> Finding:
    """Where the readings of load, memory and the rest are from; what is missing where that is not the first choice."""
    from tidegate.monitor.machine import Machine

    looking = Machine(root, pid)
    told = [use for use in looking.readings_in_use() if use.what != "pressure" or use.source != "none"]
    looking.close()
    found = "; ".join(f"{use.what}: {use.source}" for use in told)
    missing = "; ".join(f"{use.what}: {use.instead}" for use in told if use.instead)
    if not missing:
        return ok("readings", found)
    return degraded("readings", found, f"nothing must be mended, the next best serves ({missing})")


def control_groups(root: Path, pid: int | None) -> Finding:
    """Version, and what of it the daemon may divide among its jobs."""
    whose = "tidegate" if pid is not None else "this shell"
    try:
        lines = (root / "proc" / (str(pid) if pid is not None else "self") / "cgroup").read_text().splitlines()
        mounts = [line.split() for line in (root / "proc/self/mountinfo").read_text().splitlines()]
    except OSError as error:
        return degraded("cgroups", f"cannot be looked at: {error.strerror}", _UNDELEGATED)
    unified = [mount[4] for mount in mounts if "cgroup2" in mount]
    first = any("cgroup" in mount for mount in mounts)
    if not unified:
        found = "version 1 only" if first else "none are mounted"
        return degraded("cgroups", found, "boot with systemd.unified_cgroup_hierarchy=1; " + _UNDELEGATED)
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    own = own.removesuffix("/keeper")
    folder = root / unified[-1].lstrip("/") / own.lstrip("/")
    offered = _words(folder / "cgroup.controllers")
    lacking = [name for name in CONTROLLERS if name not in offered]
    if own == "/" or not delegated(folder):
        return degraded("cgroups", f"version 2, but {whose} may not divide its own ({own})", _UNDELEGATED)
    if lacking:
        return degraded(
            "cgroups",
            f"version 2, {own}, without the controllers {', '.join(lacking)}",
            "have them delegated too, or mount them on version 2 at boot; limits that need them are kept as rlimits or"
            " not at all",
        )
    return ok("cgroups", f"version 2, {own}, with {', '.join(CONTROLLERS)}")


_UNDELEGATED: Final = (
    "have one delegated to it (the shipped tidegate-keeper.service does: Delegate=yes); until then trees are held"
    " together by the keeper as subreaper, and memory_max, cpu_max, pids_max and io_weight are kept as rlimits or not"
    " at all"
)


def delegated(folder: Path) -> bool:
    """Whether whoever made the cgroup said that it may be divided, as the keeper asks too."""
    for name in ("trusted.delegate", "user.delegate"):
        try:
            if os.getxattr(folder, name) == b"1":
                return True
        except OSError:
            continue
    return False


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def journald(root: Path) -> Finding:
    """The journal's socket."""
    if (root / "run/systemd/journal/socket").is_socket():
        return ok("journald", "its socket is there")
    return degraded(
        "journald",
        "there is no /run/systemd/journal/socket",
        'use log_format "console" or "json", and no output = "journal"',
    )


def systemd_python(installed: bool) -> Finding:
    """Needed for reading back what jobs wrote to the journal, for nothing else."""
    if installed:
        return ok("systemd-python", "installed: output in the journal can be read through the API")
    return degraded(
        "systemd-python",
        'not installed: the output of jobs with output = "journal" cannot be read through the API',
        "pip install 'tidegate[systemd]', or use journalctl",
    )


def zones() -> Finding:
    """Time zone data, and whether this machine's own zone has a name."""
    from tidegate.settings.system_zone import system_timezone

    try:
        zoneinfo.ZoneInfo(PROBED_ZONE)
    except (zoneinfo.ZoneInfoNotFoundError, OSError, ValueError):
        return broken(
            "time zones",
            f"no data for {PROBED_ZONE} in {', '.join(zoneinfo.TZPATH) or 'any folder'}",
            "install tzdata (Debian: apt install tzdata)",
        )
    name = system_timezone()
    if not name:
        return degraded("time zones", "this machine's own zone has no name", "set timezone under [daemon]")
    return ok("time zones", f"data is there; this machine is in {name}")


def sqlite(version: tuple[int, ...]) -> Finding:
    """The library that history is kept with."""
    shown = ".".join(map(str, version))
    if version < SQLITE_MIN:
        wanted = ".".join(map(str, SQLITE_MIN))
        return broken("sqlite", f"version {shown}, older than {wanted}", "use a Python that is built with a newer one")
    return ok("sqlite", f"version {shown}")


def clock_state() -> int:
    """What adjtimex(2) answers; -1 where it is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.adjtimex(ctypes.create_string_buffer(TIMEX_BYTES)))


def clock_sync(state: int) -> Finding:
    """Whether somebody keeps the clock right."""
    if state == TIME_ERROR:
        return degraded(
            "clock",
            "the kernel says that nothing keeps the clock right",
            "run chrony or systemd-timesyncd (timedatectl set-ntp true), unless a virtual machine's host does it",
        )
    if state < 0:
        return degraded("clock", "the kernel does not say whether the clock is kept right", "look with timedatectl")
    return ok("clock", "kept right (NTP)")
