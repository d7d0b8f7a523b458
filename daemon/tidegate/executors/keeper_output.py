"""Where an attempt's output goes, and how much of it stays. Part of the keeper's process: standard library only.
It opens, looks at sizes and gives blocks back; it never reads or writes a byte of output.

A file keeps its head and its tail: once it holds more than `max_bytes`, the middle is given back to the file system
(a hole). The limit is soft by one look, and looks follow the growth.
"""

import ctypes
import errno
import fcntl
import os
import socket
import time

JOURNAL_SOCKET = "/run/systemd/journal/stdout"
LOOK_S_MIN = 0.01  # a look costs about 10 µs, and a punch stops the writer while it lasts
LOOK_S_MAX = 1.0
LOOK_S_NEW = 0.02
FAST_BYTES_S = 256 * 1024 * 1024
BURST_FACTOR = 16  # times max_bytes, for a moment, if that is no more than 1/FREE_SHARE of the free space
FREE_SHARE = 64
SPARES_MAX = 128  # descriptors kept: a burst is as large
ALIGN_BYTES = 65536  # whole blocks on every common file system, or nothing would be given back
ALIGN_BYTES_LITTLE = 4096  # where the halves are little themselves; some file systems then hold a little more
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
_KEEP_SIZE, _PUNCH_HOLE = 1, 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def open_named(path: str) -> int:
    """The run's file, for appending. Made where it is not there; never through a symbolic link."""
    return os.open(path, _APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NOCTTY, 0o600)


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


class Spares:
    """Files without a name, one for each attempt that begins.

    Most short runs say nothing; a file with a name would then be made for nothing, and on ext4 that costs as much as
    all else of a spawn. So an attempt writes to a file that has no name yet. It gets its name when the attempt has run
    for a moment or has said something; else it serves the next attempt, if a lease proves that nobody has it open.
    """

    def __init__(self) -> None:
        self._spares: dict[str, list[int]] = {}  # by folder of all outputs

    def take(self, root: str) -> int:
        """A descriptor of an empty file that only the keeper has open. OSError where the file system has no such."""
        spares = self._spares.get(root)
        return spares.pop() if spares else os.open(root, os.O_WRONLY | os.O_APPEND | os.O_TMPFILE | os.O_CLOEXEC, 0o600)

    def give_back(self, root: str, fd: int) -> bool:
        """Keep it for the next one. False where anything was done to it, or somebody still has it open."""
        stat = os.fstat(fd)
        if stat.st_size or stat.st_blocks or stat.st_mode & 0o7777 != 0o600:
            return False
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)  # refused while another open of the file exists
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError:
            return False
        spares = self._spares.setdefault(root, [])
        if len(spares) < SPARES_MAX:
            spares.append(fd)
        else:
            os.close(fd)
        return True


class OutputFile:
    """One attempt's file and its cap. Attempts of a run append to one file, and the cap is the file's."""

    dropped_bytes = 0
    note = ""  # what could not be kept: the cap, the name
    _full_note = ""  # that there was no room left; what it wanted to write then is gone, as with any redirect
    _rate = 0.0  # bytes a second
    _due_mono_s = 0.0  # of the next look
    _file_id: tuple[int, int] | None = None  # known from the first look

    def __init__(self, path: str, max_bytes: int, spares: Spares | None) -> None:
        """With spares the file may begin without a name. `fd` is for the attempt's process; the caller closes it."""
        self._path = path
        self._folder, _, _ = path.rpartition("/")
        self._root, _, _ = self._folder.rpartition("/")
        self._spares = spares
        self._unnamed_fd = -1
        if spares is not None and not os.access(path, os.F_OK, follow_symlinks=False):  # lexists raises inside: 3 µs
            try:
                self._unnamed_fd = spares.take(self._root)
            except OSError:
                pass  # not every file system has files without names
        self.fd = self._open()
        self._max_bytes = max_bytes
        self._align_bytes = ALIGN_BYTES if max_bytes >= 4 * ALIGN_BYTES else ALIGN_BYTES_LITTLE
        self._head_bytes = max_bytes // 2 // self._align_bytes * self._align_bytes
        self._tail_bytes = max(max_bytes - self._head_bytes, self._align_bytes)
        self._first_bytes = self._size = 0 if self._unnamed_fd >= 0 else os.fstat(self.fd).st_size
        self._punched_to = self._hole_end(self._size)
        self._looked_mono_s = time.monotonic()

    def _open(self) -> int:
        """An open of its own for the attempt: of a shared one it could not be told who still holds it."""
        if self._unnamed_fd < 0:
            os.makedirs(self._folder, 0o700, exist_ok=True)
            return open_named(self._path)
        try:
            return os.open(f"/proc/self/fd/{self._unnamed_fd}", _APPEND)
        except OSError:
            os.close(self._unnamed_fd)
            raise

    @property
    def written_bytes(self) -> int:
        return max(self._size - self._first_bytes, 0)

    def name_if(self, wanted: bool) -> None:
        """Make it visible under its path if that is wanted, or there is something to see."""
        if self._unnamed_fd >= 0 and (wanted or os.fstat(self._unnamed_fd).st_size):
            self._name()

    def _name(self) -> None:
        fd, self._unnamed_fd = self._unnamed_fd, -1
        try:
            os.makedirs(self._folder, 0o700, exist_ok=True)  # not before the spawn: most runs say nothing
            # A directory descriptor, or Python would call link(2), which links the symbolic link itself
            os.link(f"/proc/self/fd/{fd}", self._path, src_dir_fd=fd, follow_symlinks=True)
        except OSError as error:
            self.note = f"output was lost: {self._path}: {error.strerror}"
        os.close(fd)

    def end(self) -> bool:
        """The attempt ended: learn its size, and give it a name unless there is nothing in it. True where another look
        is wanted: giving much back takes a while, and nobody should wait for it."""
        if self._unnamed_fd >= 0:
            self._note_if_full(self._root)  # then it says nothing that the file is empty
        if self._unnamed_fd >= 0 and self._spares is not None:
            if self._spares.give_back(self._root, self._unnamed_fd):
                self._unnamed_fd = -1
                self.note = self._full_note
                return False
            self._name()
        self.look(ALIGN_BYTES)  # enough to learn whether the file system can
        if not self.note and self._punched_to < self._hole_end(self._size):
            self.dropped_bytes += self._hole_end(self._size) - self._punched_to
        self.note = self.note or self._full_note
        return True

    def look_if_due(self) -> float:
        """Look when it is time to. Returns the seconds until it is time again."""
        now = time.monotonic()
        if now >= self._due_mono_s:
            self._due_mono_s = now + self.look()
        return self._due_mono_s - now

    def look(self, punch_bytes_max: int = 1 << 62) -> float:
        """Give the middle back where there is too much. Returns the seconds until the next look should be."""
        now = time.monotonic()
        try:
            stat = os.stat(self._path, follow_symlinks=False)
        except OSError:
            return LOOK_S_NEW  # without a name yet, or removed by somebody
        self._file_id = self._file_id or (stat.st_dev, stat.st_ino)
        if (stat.st_dev, stat.st_ino) != self._file_id:
            return LOOK_S_MAX
        grown, passed_s = stat.st_size - self._size, now - self._looked_mono_s
        self._size, self._looked_mono_s = stat.st_size, now
        self._note_if_full(self._path)
        if stat.st_size < self._punched_to:  # truncated by the job
            self._punched_to = self._hole_end(stat.st_size)
        if not self.note and self._hole_end(stat.st_size) > self._punched_to:
            self._punch(min(self._hole_end(stat.st_size), self._punched_to + punch_bytes_max))
        # Output comes in bursts: one quiet moment must not put the next look far off.
        self._rate = max(grown / max(passed_s, 0.001), self._rate * 0.8)
        if self._rate * LOOK_S_MAX < self._max_bytes // 4:
            return LOOK_S_MAX
        return min(max(self._allowance_bytes() / self._rate, LOOK_S_MIN), LOOK_S_MAX)

    def _note_if_full(self, path: str) -> None:
        if self._full_note:
            return
        try:
            disk = os.statvfs(path)
        except OSError:
            return
        free = disk.f_bavail if os.geteuid() else disk.f_bfree
        if free * disk.f_frsize < ALIGN_BYTES:
            self._full_note = "the disk was full: what it printed meanwhile may be lost"

    def _allowance_bytes(self) -> int:
        """How much more may come before the next look. A punch stops the writer, so a very fast one gets more between
        two: a share of what is free, as what it holds for a moment must not be missed by others."""
        held = self._size - max(self._punched_to - self._head_bytes, 0)
        allowance = max(self._max_bytes - held, self._max_bytes // 4)
        if self._rate < FAST_BYTES_S:
            return allowance
        try:
            disk = os.statvfs(self._path)
        except OSError:
            return allowance
        return max(allowance, min(disk.f_bavail * disk.f_frsize // FREE_SHARE, self._max_bytes * BURST_FACTOR))

    def _hole_end(self, size: int) -> int:
        """Up to where a file of this size should be a hole."""
        if size <= self._head_bytes + self._tail_bytes:
            return self._head_bytes
        return max((size - self._tail_bytes) // self._align_bytes * self._align_bytes, self._head_bytes)

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
