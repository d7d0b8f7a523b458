"""Kernel files that are read often: opened once, then read with pread (1–5 µs instead of 10–20). Never raises for the
world: what cannot be read is None, and is tried anew the next time."""

import os
from typing import Final

BYTES_MAX: Final = 64 * 1024  # /proc/stat of 256 CPUs has 40 KB; only the beginnings of longer files count


class Kept:
    """One file, which may come and go."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd: int | None = None

    def read(self, bytes_max: int = BYTES_MAX) -> bytes | None:
        """The file from its beginning; None where it is not there, cannot be read or is empty."""
        for _ in range(2):  # a cgroup that was made anew answers ENODEV on the old descriptor: open again, once
            if self._fd is None:
                try:
                    self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
                except (OSError, ValueError):  # ValueError: NUL in a path that came from garbage
                    return None
            try:
                return os.pread(self._fd, bytes_max, 0) or None
            except OSError:
                self.close()
        return None

    def close(self) -> None:
        """Give the descriptor back; the next read opens again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def read_once(path: str, bytes_max: int = BYTES_MAX) -> bytes | None:
    """A file that is not worth a descriptor of its own."""
    kept = Kept(path)
    try:
        return kept.read(bytes_max)
    finally:
        kept.close()
