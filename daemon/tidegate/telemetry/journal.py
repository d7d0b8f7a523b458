"""journald's native protocol: one datagram a line, with fields. The only room that knows it; it never blocks a caller.

Not `systemd.journal.send`: systemd-python calls into libsystemd without letting go of the interpreter lock, and
libsystemd waits while journald's queue is full, so one journald that does not read would freeze the whole daemon.
The protocol is stable and documented (systemd.io, "Native Journal Protocol").
"""

import os
import select
import socket
import struct
from collections.abc import Mapping
from typing import Final

from tidegate.telemetry.formats import clean, safe
from tidegate.telemetry.line import CRITICAL, ERROR, INFO, WARNING, Line

SOCKET_PATH: Final = "/run/systemd/journal/socket"
IDENTIFIER: Final = "tidegate"
FIELD_CHARS_MAX: Final = 64  # journald drops fields with longer names


def is_our_stderr(environ: Mapping[str, str], fd: int) -> bool:
    """Whether systemd connected this descriptor to the journal: $JOURNAL_STREAM names its device and inode."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def priority(level: int) -> int:
    """syslog's number for a level."""
    for least, number in ((CRITICAL, 2), (ERROR, 3), (WARNING, 4), (INFO, 6)):
        if level >= least:
            return number
    return 7


def field_name(key: str) -> str:
    """`run_id` → `TIDEGATE_RUN_ID`. What journald does not allow in a name becomes an underscore."""
    name = "".join(char if char.isascii() and char.isalnum() else "_" for char in key.upper())
    return f"TIDEGATE_{name}"[:FIELD_CHARS_MAX]


def datagram(line: Line) -> bytes:
    """The line in the native protocol."""
    job = clean(line.job)
    text = clean(line.text)
    out = [
        b"MESSAGE=" + _bytes(f"{job}: {text}" if job else text),
        b"PRIORITY=%d" % priority(line.level),
        b"SYSLOG_IDENTIFIER=" + IDENTIFIER.encode(),
        b"TIDEGATE_EVENT=" + _bytes(clean(line.event)),
    ]
    if job:
        out.append(b"TIDEGATE_JOB=" + _bytes(job))
    for key, value in line.fields.items():
        if value is not None:
            out.append(field_name(key).encode() + b"=" + _bytes(str(safe(value))))
    if line.trace:
        # The only value with newlines of our own: the binary form carries its length in front.
        trace = _bytes("\n".join(clean(part) for part in line.trace))
        out.append(b"TIDEGATE_EXCEPTION\n" + struct.pack("<Q", len(trace)) + trace)
    return b"\n".join(out) + b"\n"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8")


class JournalSink:
    """Sends lines to journald from the writer thread. Raises OSError where journald cannot be reached at first."""

    def __init__(self, path: str = SOCKET_PATH) -> None:
        self._path = path
        self._socket = self._connect()

    def write(self, lines: list[Line]) -> int:
        """Send the lines; how many were lost because journald was gone. Waits while its queue is full."""
        return sum(not self._send(datagram(line)) for line in lines)

    def close(self) -> None:
        """Let the socket go."""
        self._socket.close()

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            sock.connect(self._path)
        except OSError:
            sock.close()
            raise
        return sock

    def _send(self, data: bytes) -> bool:
        reconnected = False
        while True:
            try:
                self._socket.send(data)
            except BlockingIOError:
                # Full. Only the writer thread waits here; meanwhile the queue in front of it fills, drops and counts.
                poll = select.poll()
                poll.register(self._socket, select.POLLOUT)
                poll.poll()
            except OSError:
                if reconnected:
                    return False
                # journald was restarted with a new socket, or is gone.
                try:
                    fresh = self._connect()
                except OSError:
                    return False
                self._socket.close()
                self._socket = fresh
                reconnected = True
            else:
                return True
