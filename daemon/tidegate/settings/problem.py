"""What is wrong with a configuration, as a person reads it: path, line, key, sentence. Judges nothing itself."""

import difflib
import json
import re
from collections.abc import Iterable

from msgspec import Struct

from tidegate.model.limits import NAME_CHARS_MAX
from tidegate.model.text import escape

Keys = tuple[str | int, ...]  # the way to a value: ("jobs", "backup", "command", 2)

SHOWN_CHARS_MAX = 60  # of a found value; a message is one line
CANDIDATES_MAX = 200  # a typo among 10,000 job names must not cost 0.1 s
BARE = re.compile(r"[A-Za-z0-9_-]+")


class Problem(Struct, frozen=True):
    """One error. `line` is 0 where the whole file is meant, `key` is empty where no key is."""

    path: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class SettingsError(Exception):
    """The configuration is not good. `problems` holds everything found, sorted by path and line."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def dotted(keys: Keys) -> str:
    """The keys as TOML would write them, with list positions counted from 0: jobs.backup.command[2]."""
    text = ""
    for key in keys:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += ("." if text else "") + (key if BARE.fullmatch(key) and len(key) <= NAME_CHARS_MAX else quoted(key))
    return text


def quoted(text: str) -> str:
    """Text between double quotes on one line: control characters escaped, long text cut."""
    if len(text) > SHOWN_CHARS_MAX:
        text = text[: SHOWN_CHARS_MAX - 1] + "…"
    return escape(json.dumps(text, ensure_ascii=False))


def shown(value: object) -> str:
    """A found value, as TOML would write it, on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case int() if abs(value) >= 2**63:
            return "a number beyond 64 bits"  # str() refuses very long ones
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return str(value)


def hint(word: str, known: Iterable[str]) -> str:
    """'; did you mean "x"?' where a near miss is known, else nothing."""
    if not 0 < len(word) <= NAME_CHARS_MAX:
        return ""
    letters = set(word)  # a typo changes few letters; difflib needs 10 µs to see what this sees in one
    near = [name for name in known if abs(len(name) - len(word)) <= 3 and len(letters ^ set(name)) <= 3]
    found = difflib.get_close_matches(word, near[:CANDIDATES_MAX], n=1, cutoff=0.7)
    return f"; did you mean {quoted(found[0])}?" if found else ""
