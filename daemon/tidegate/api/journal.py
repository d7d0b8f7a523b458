"""Reads what a run wrote to journald. Runs in a thread. Needs the extra `systemd`."""

from datetime import datetime, timedelta
from typing import Any, Final

from tidegate.model.refusal import Refused
from tidegate.model.view import RunView

JOURNAL_BYTES_MAX: Final = 8 * 1024 * 1024  # kept in memory for one answer
LATE: Final = timedelta(seconds=5)  # journald stamps a line when it reads it


class NoJournalError(Exception):
    """systemd-python is not installed."""


def journal_text(run: RunView) -> bytes:
    """The run's lines, oldest first; the first JOURNAL_BYTES_MAX of them. Raises NoJournalError, Refused."""
    if run.started_at is None:
        return b""
    try:
        from systemd.journal import Reader
    except ImportError as error:
        raise NoJournalError from error
    try:
        reader = Reader()
    except OSError as error:
        raise Refused("unavailable", f"the journal cannot be read: {error}") from error
    with reader:
        reader.add_match(SYSLOG_IDENTIFIER=f"tidegate-{run.job}")
        reader.seek_realtime(run.started_at - timedelta(seconds=1))
        return lines_of(reader, run.pid, run.ended_at + LATE if run.ended_at else None)


def lines_of(entries: Any, pid: int | None, until: datetime | None) -> bytes:
    """The lines of the stream whose first writer was `pid`: other runs of the same job may write meanwhile."""
    stream, lines, size = None, [], 0
    for entry in entries:
        if until is not None and entry["__REALTIME_TIMESTAMP"] > until:
            break
        if stream is None and (pid is None or entry.get("_PID") == pid):
            stream = entry.get("_STREAM_ID")
        if stream is None or entry.get("_STREAM_ID") != stream:
            continue
        message = entry.get("MESSAGE", b"")
        line = (message if isinstance(message, bytes) else str(message).encode("utf-8", "surrogateescape")) + b"\n"
        size += len(line)
        if size > JOURNAL_BYTES_MAX:
            break
        lines.append(line)
    return b"".join(lines)
