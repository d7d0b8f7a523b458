"""What runs leave in the state folder: output files and values. Removed by name only, beneath that folder, through no
link. Whatever is gone already is as it should be.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

OUTPUT: Final = "output"  # output/<job>/<run_id>.log
VALUES: Final = "values"  # values/<run_id>.<attempt>
SUFFIX: Final = ".log"
FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
SWEEP_FILES: Final = 200  # looked at in one step


class RunFiles:
    """The files of runs beneath one state folder."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def remove(self, runs: Iterable[tuple[str, str, int]]) -> None:
        """The files of these runs: id, job, attempts."""
        by_job: dict[str, list[tuple[str, int]]] = {}
        for run_id, job, attempts in runs:
            by_job.setdefault(job, []).append((run_id, attempts))
        for job, these in by_job.items():
            with suppress(OSError), folder(self._state_dir, OUTPUT, job) as fd:
                for run_id, _ in these:
                    remove(fd, f"{run_id}{SUFFIX}")
        with suppress(OSError), folder(self._state_dir, VALUES) as fd:
            for these in by_job.values():
                for run_id, attempts in these:
                    for attempt in range(1, attempts + 1):
                        remove(fd, f"{run_id}.{attempt}")

    def sweep(self, is_orphan: Callable[[list[str]], set[str]], *, before_s: float) -> Iterator[None]:
        """Remove files whose run is not on record and that were last written before that moment; a step an item.

        `is_orphan` says of run ids which are not on record.
        """
        for job in self.jobs():
            yield from self._sweep_folder((OUTPUT, job), lambda name: name.removesuffix(SUFFIX), is_orphan, before_s)
        yield from self._sweep_folder((VALUES,), lambda name: name.rpartition(".")[0], is_orphan, before_s)

    def remove_folder(self, job: str) -> None:
        """The output folder of a job that is gone, where it is empty."""
        with suppress(OSError), folder(self._state_dir, OUTPUT) as fd:
            os.rmdir(plain(job), dir_fd=fd)

    def jobs(self) -> list[str]:
        """Names of the folders with output."""
        with suppress(OSError), folder(self._state_dir, OUTPUT) as fd:
            return sorted(entries(fd))
        return []

    def _sweep_folder(
        self,
        parts: tuple[str, ...],
        run_id_of: Callable[[str], str],
        is_orphan: Callable[[list[str]], set[str]],
        before_s: float,
    ) -> Iterator[None]:
        names: list[str] = []
        with suppress(OSError), folder(self._state_dir, *parts) as fd:
            names = entries(fd)
        for first in range(0, len(names), SWEEP_FILES):
            some = names[first : first + SWEEP_FILES]
            with suppress(OSError), folder(self._state_dir, *parts) as fd:
                old = [name for name in some if is_old(fd, name, before_s)]
                orphans = is_orphan([run_id_of(name) for name in old]) if old else set()
                for name in old:
                    if run_id_of(name) in orphans:
                        remove(fd, name)
            yield


@contextmanager
def folder(state_dir: Path, *parts: str) -> Iterator[int]:
    """A folder beneath the state folder, opened through no link. Raises OSError."""
    fd = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            inner = os.open(plain(part), FOLDER_FLAGS, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def entries(fd: int) -> list[str]:
    """The names in an open folder."""
    with os.scandir(fd) as found:
        return [entry.name for entry in found]


def plain(name: str) -> str:
    """The name, if it names an entry of a folder and nothing else. Raises OSError."""
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise OSError(f"not a file name: {name!r}")
    return name


def remove(fd: int, name: str) -> None:
    """One file of an open folder; what is not there, or is none, stays as it is."""
    with suppress(OSError):
        os.unlink(plain(name), dir_fd=fd)


def is_old(fd: int, name: str, before_s: float) -> bool:
    """A plain file, last written before that moment."""
    with suppress(OSError):
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        return stat.S_ISREG(status.st_mode) and status.st_mtime < before_s
    return False
