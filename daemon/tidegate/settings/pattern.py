"""The files that a pattern of `[daemon] jobs` names. What cannot be looked into is an error: taken for empty, it would
remove jobs. Opens no file."""

import errno
import fnmatch
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

WILDCARD: Final = re.compile(r"[*?[]")
NAME_BYTES_MAX: Final = 255  # NAME_MAX of Linux
PARTS_MAX: Final = 100  # each is a call within a call
BELOW: Final = "**"  # this folder and all beneath it
ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class UnsearchableError(Exception):
    """A folder that a pattern leads through cannot be looked into."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(path, error)
        self.path = path
        said = error.strerror or str(error)
        self.message = f"cannot be searched for job files: {said}"
        if error.errno in (errno.EACCES, errno.EPERM):
            self.message += (
                "; the daemon's user must be able to read and enter it, or [daemon] jobs must not lead there"
            )


def matches(folder: Path, pattern: str, files_max: int) -> list[Path]:
    """Files that a pattern names, sorted, at most files_max + 1. A folder that does not exist holds none.

    Hidden files are matched only by a pattern whose last part begins with a dot: editors keep their swap files there.
    Raises ValueError (its sentence), and UnsearchableError.
    """
    if not pattern or "\0" in pattern:
        raise ValueError("must be a path or a pattern")
    wanted = Path(pattern)
    if any(len(part.encode()) > NAME_BYTES_MAX for part in wanted.parts):
        raise ValueError(f"has a part longer than the {NAME_BYTES_MAX} bytes of a file name")
    if not WILDCARD.search(pattern):
        return [folder / wanted] if may_be(folder / wanted) else []
    parts = wanted.parts[1:] if wanted.anchor else wanted.parts
    if len(parts) > PARTS_MAX:
        raise ValueError(f"leads through more than {PARTS_MAX} folders")
    if parts[-1] == BELOW or any(BELOW in part and part != BELOW for part in parts):
        raise ValueError('"**" stands for folders: alone between slashes, and a name such as *.toml behind it')
    hidden = wanted.name.startswith(".")
    found: dict[Path, None] = {}  # two ** find a file more than once
    for path in named(Path(wanted.anchor) if wanted.anchor else folder, parts):
        if hidden or not path.name.startswith("."):
            found[path] = None
        if len(found) > files_max:
            break
    return sorted(found)


def may_be(path: Path) -> bool:
    """Whether something is there, or it cannot be known: reading it will say why."""
    try:
        path.lstat()
    except OSError as error:
        return error.errno not in ABSENT
    return True


def named(folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    """What the parts of a pattern name beneath this folder. Raises UnsearchableError."""
    first, rest = parts[0], parts[1:]
    if first == BELOW:
        for each in folders_below(folder):
            yield from named(each, rest)
        return
    if WILDCARD.search(first):
        fits = re.compile(fnmatch.translate(first)).match
        paths = [folder / entry.name for entry in entries(folder, folders=bool(rest)) if fits(entry.name)]
    else:
        paths = [folder / first] if rest or there(folder / first) else []
    if not rest:
        yield from paths
        return
    for path in paths:
        yield from named(path, rest)


def folders_below(folder: Path) -> Iterator[Path]:
    """This folder and all beneath it, through no symbolic link. Raises UnsearchableError."""
    left = [folder]
    while left:
        each = left.pop()
        yield each
        left += [each / entry.name for entry in entries(each, folders=True) if not entry.is_symlink()]


def entries(folder: Path, *, folders: bool) -> list[os.DirEntry[str]]:
    """What is in a folder, or the folders in it. Raises UnsearchableError."""
    try:
        with os.scandir(folder) as listing:
            return [entry for entry in listing if not folders or is_folder(entry)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UnsearchableError(folder, error) from None


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether it is one, or leads to one."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno in ABSENT:
            return False
        raise


def there(path: Path) -> bool:
    """Whether something has this name. Raises UnsearchableError."""
    try:
        path.lstat()
    except OSError as error:
        if error.errno in ABSENT:
            return False
        raise UnsearchableError(path.parent, error) from None
    return True
