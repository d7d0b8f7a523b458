"""Where an attempt's output goes, and how much of it stays. Part of the keeper's process: standard library only.
It opens, looks at sizes and gives blocks back; it never reads or writes a byte of output.

A file keeps its head and its tail: once it holds more than `max_bytes`, the middle is given back to the file system
(a hole). The limit is soft by one look, and looks follow the growth.
"""

import ctypes
import errno
import os
import socket
import time

JOURNAL_SOCKET = "/run/systemd/journal/stdout"
LOOK_S_MIN = 0.01  # a look costs about 10 µs, and a punch stops the writer while it lasts
LOOK_S_MAX = 1.0
ALIGN_BYTES = 65536  # whole blocks on every common file system, or nothing would be given back
_KEEP_SIZE, _PUNCH_HOLE = 1, 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def open_file(path: str) -> int:
    """The run's file, for appending. Made with its folder where it is not there; never through a symbolic link."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        return os.open(path, flags, 0o600)


def open_journal(identifier: str, path: str = JOURNAL_SOCKET) -> int:
    """journald's own stream, as sd_journal_stream_fd(3) opens it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.settimeout(1.0)  # a journald that does not accept must not hold up all other runs
        stream.connect(path)
        stream.shutdown(socket.SHUT_RD)
        name = identifier.replace("\n", " ")
        # identifier, unit, priority (6: info), level prefix, forward to syslog, kmsg, console
        stream.sendall(f"{name}\n\n6\n1\n0\n0\n0\n".encode(errors="replace"))
        stream.setblocking(True)
        return stream.detach()


class OutputFile:
    """The cap of one attempt's file. Attempts of a run append to one file, and the cap is the file's."""

    def __init__(self, path: str, fd: int, max_bytes: int) -> None:
        stat = os.fstat(fd)
        self._path = path
        self._file_id = (stat.st_dev, stat.st_ino)
        self._first_bytes = stat.st_size
        self._max_bytes = max_bytes
        self._head_bytes = max_bytes // 2 // ALIGN_BYTES * ALIGN_BYTES
        self._tail_bytes = max(max_bytes - self._head_bytes, ALIGN_BYTES)
        self._punched_to = self._hole_end(stat.st_size)
        self._size, self._looked_mono_s = stat.st_size, time.monotonic()
        self.dropped_bytes = 0
        self.note = ""  # why the cap could not be kept, if it could not

    @property
    def written_bytes(self) -> int:
        return max(self._size - self._first_bytes, 0)

    def look(self) -> float:
        """Give the middle back where there is too much. Returns the seconds until the next look."""
        now = time.monotonic()
        try:
            stat = os.stat(self._path, follow_symlinks=False)
        except OSError:
            return LOOK_S_MAX  # removed by somebody: nothing to keep small
        if (stat.st_dev, stat.st_ino) != self._file_id:
            return LOOK_S_MAX
        grown, passed_s = stat.st_size - self._size, now - self._looked_mono_s
        self._size, self._looked_mono_s = stat.st_size, now
        if stat.st_size < self._punched_to:  # truncated by the job
            self._punched_to = self._hole_end(stat.st_size)
        if not self.note and self._hole_end(stat.st_size) > self._punched_to:
            self._punch(self._hole_end(stat.st_size))
        if grown <= 0 or passed_s <= 0.0:
            return LOOK_S_MAX
        allowance = max(self._max_bytes - (stat.st_size - self.dropped_bytes), self._max_bytes // 4)
        return min(max(allowance * passed_s / grown, LOOK_S_MIN), LOOK_S_MAX)

    def _hole_end(self, size: int) -> int:
        """Up to where a file of this size should be a hole."""
        if size <= self._head_bytes + self._tail_bytes:
            return self._head_bytes
        return max((size - self._tail_bytes) // ALIGN_BYTES * ALIGN_BYTES, self._head_bytes)

    def _punch(self, end: int) -> None:
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            self.note = f"output_max was not kept: {self._path}: {error.strerror}"
            return
        begin = self._punched_to
        failed = _libc.fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, begin, end - begin)
        code = ctypes.get_errno()
        os.close(fd)
        if not failed:
            self.dropped_bytes += end - begin
            self._punched_to = end
        elif code in (errno.EOPNOTSUPP, errno.ENOSYS):
            self.note = f"output_max was not kept: the file system of {self._path} cannot give blocks back"
        else:
            self.note = f"output_max was not kept: {self._path}: {os.strerror(code)}"
