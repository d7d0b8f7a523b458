"""The files of a configuration: opened, read and parsed, each within its limits. Never blocks on what is not
a plain file, never guesses at content. Judges no key."""

import os
import re
import stat
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import tomli

from tidegate.model.limits import DEPTH_MAX, FILE_BYTES_MAX
from tidegate.model.text import escape
from tidegate.settings.locate import lines, too_deep
from tidegate.settings.problem import Keys, Problem, dotted
from tidegate.settings.toml_error import explained

AT_LINE = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)
LONG_NUMBER = re.compile(r"[0-9_]{4000}")
ALL_BYTES = bytes(range(256))
BRACKETS = bytes(set(ALL_BYTES) - set(b"[]{}"))  # what to delete so that only brackets stay
KEY_SIGNS = bytes(set(ALL_BYTES) - set(b".=\n,"))
HEADER = re.compile(
    r"""^[ \t]*+\[[ \t]*+jobs[ \t]*+\.[ \t]*+(?:([A-Za-z0-9_-]++)|"([^"\\\n]++)"|'([^'\n]++)')[ \t]*+\]""", re.M
)


class Unusable(Exception):
    """This file cannot be used at all; the sentence is the argument, the line (or 0) the second."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message, line)
        self.message = message
        self.line = line


class Source:
    """One file that was read. Problems are noted here while the file is judged and get their lines at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path  # as it was given or found; opened as it is
        self.shown = display(path)
        self.folder = path.absolute().parent
        self.text = ""
        self.status: os.stat_result | None = None  # of what was opened; None: nothing was
        self.real = ""  # where that is, after all symbolic links
        self.data: dict[str, Any] = {}

    def read(self) -> None:
        """Fill text and data. Raises Unusable."""
        found = read_file(self.path)
        self.status, self.real = found.status, found.real
        self.text = decoded(found.data)
        self.data = parsed(self.text)

    @cached_property
    def lines(self) -> dict[Keys, int]:
        """Where each key stands. A scan of the whole text: touched only where there is something to say."""
        return lines(self.text)

    def line(self, keys: Keys) -> int:
        """The line of a key, or of the nearest table around it; 0 where even that is unknown."""
        while keys:
            if keys in self.lines:
                return self.lines[keys]
            keys = keys[:-1]
        return 0

    def problem(self, keys: Keys, message: str) -> Problem:
        """The finding as a person reads it."""
        return Problem(self.shown, self.line(keys), dotted(keys), message)

    @cached_property
    def job_places(self) -> dict[str, str]:
        """path:line of each job's header, by name. One cheap pass; the full scan only where jobs have no header."""
        names = self.data.get("jobs", {})
        if not isinstance(names, dict):
            return {}
        found: dict[str, int] = {}
        position, line = 0, 1
        for header in HEADER.finditer(self.text):
            line += self.text.count("\n", position, header.start())
            position = header.start()
            found.setdefault(header[header.lastindex or 1], line)
        return {name: f"{self.shown}:{found.get(name) or self.line(('jobs', name))}" for name in names}


def display(path: Path) -> str:
    """The path as messages show it: relative where it lies beneath the current directory, else as given."""
    shown, here = os.path.normpath(path), str(Path.cwd())
    if here != "/" and shown.startswith(here + "/"):
        shown = shown[len(here) + 1 :]
    return escape(shown)


def is_folder(path: Path) -> bool:
    """Whether this is a folder; what cannot even be asked about is none, and reading it will say why."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


class File(NamedTuple):
    """What was opened, and where it really is."""

    data: bytes
    status: os.stat_result
    real: str


def read_bytes(path: Path) -> bytes:
    """All of a plain file. Raises Unusable."""
    return read_file(path).data


def read_file(path: Path) -> File:
    """All of a plain file. Raises Unusable with the reason; a FIFO or device is refused, never waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise Unusable(f"cannot be read: {reason(error)}") from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise Unusable("is a folder, expected a file")
        if not stat.S_ISREG(status.st_mode):
            raise Unusable("is not a plain file (a pipe, socket or device)")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(FILE_BYTES_MAX + 1)  # not st_size: it may be growing
        real = opened_path(descriptor, path)
    except OSError as error:
        raise Unusable(f"cannot be read: {reason(error)}") from None
    finally:
        os.close(descriptor)
    if len(data) > FILE_BYTES_MAX:
        raise Unusable(f"is larger than {FILE_BYTES_MAX // 1024**2} MiB; split it into several files")
    return File(data, status, real)


def opened_path(descriptor: int, path: Path) -> str:
    """Where an open file is. Asked of the descriptor, since its name may lead elsewhere by now."""
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:  # no /proc
        return os.path.realpath(path)


def reason(error: OSError | ValueError) -> str:
    """What the system said, without the path: that stands in front already."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def decoded(data: bytes) -> str:
    """UTF-8 text without a byte order mark. Raises Unusable."""
    try:
        return data.decode("utf-8").removeprefix("\ufeff")  # editors on Windows write it; it means nothing in UTF-8
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Unusable(f"not UTF-8 text: byte 0x{data[error.start]:02x}", line) from None


def parsed(text: str) -> dict[str, Any]:
    """The TOML value. Raises Unusable with the line of the first syntax error."""
    refuse_depth(text)
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        found = AT_LINE.fullmatch(str(error))
        if not found:
            raise Unusable(f"not TOML: {error}") from None
        line = int(found[2]) if found[2] else text.count("\n") + (not text.endswith("\n"))
        said, line = explained(found[1], text, max(line, 1), at_end=not found[2])
        raise Unusable(f"not TOML: {said}", line) from None
    except ValueError as error:  # a whole number of more than 4,300 digits, a date that is none
        number = LONG_NUMBER.search(text)
        line = text.count("\n", 0, number.start()) + 1 if number else 0
        raise Unusable("not TOML: a number of too many digits" if number else f"not TOML: {error}", line) from None
    except RecursionError:  # a second fence: tomli's own limits
        raise Unusable("tables or lists are nested too deep") from None


def refuse_depth(text: str) -> None:
    """Raise Unusable where nesting goes beyond DEPTH_MAX. The parser recurses; ask before.

    Cheap for the common file (3 ms for 3 MB): delete all but the brackets, then the innermost pairs, over and over.
    What is left after DEPTH_MAX rounds is too deep or stands in strings: only then the text is read properly. Brackets
    in strings can hide depth from this; then the parser's own limit stands behind it.
    """
    data = text.encode()
    brackets = data.translate(None, BRACKETS)
    rounds = 0
    while brackets and rounds < DEPTH_MAX:
        fewer = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(fewer) == len(brackets):
            break
        brackets = fewer
        rounds += 1
    if rounds + len(brackets) <= DEPTH_MAX and b"." * DEPTH_MAX not in data.translate(None, KEY_SIGNS):
        return
    line = too_deep(text, DEPTH_MAX)
    if line:
        raise Unusable(f"tables or lists are nested deeper than {DEPTH_MAX} levels", line)
