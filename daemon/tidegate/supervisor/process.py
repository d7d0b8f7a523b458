"""Is a process the one that is meant? By pid and start together, never by pid alone. It signals nothing."""

from pathlib import Path

STAT_START: int = 19  # field 22 of /proc/PID/stat, counted behind the name


def start_ticks(pid: int) -> int | None:
    """When the process of this pid began, in clock ticks since boot; None where there is none, or only a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[STAT_START])


def is_alive(pid: int, start: int) -> bool:
    """Whether the process that began then still goes on under this pid."""
    return start_ticks(pid) == start
