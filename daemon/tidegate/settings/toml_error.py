"""What the TOML parser says, as a person reads it: which key, which string, and where it began. Pure."""

import ast
import re
from typing import Final

from tidegate.model.text import escape
from tidegate.settings.locate import Scanner, lines
from tidegate.settings.problem import Keys, dotted

SAID_CHARS_MAX: Final = 300  # it may repeat a key of any length
TWICE: Final = re.compile(r"Cannot declare (\(.{1,4000}\)) twice", re.DOTALL)
NOT_CLOSED: Final = re.compile(r"""Unterminated string|Expected ("'"|"'''"|'"'|'"{3}')""")


def explained(said: str, text: str, line: int, at_end: bool) -> tuple[str, int]:
    """The parser's sentence in other words where that helps, and the line that it is about."""
    found = TWICE.fullmatch(said)
    if found:
        return declared_twice(found[1], text, line), line
    if said == "Cannot overwrite a value":
        return overwritten(text, line), line
    if said == "Illegal character '\\n'":
        return "the string that begins here is not closed", line
    if at_end and NOT_CLOSED.fullmatch(said):
        return "the string that begins here is not closed", stop(text).line
    if at_end and said in ("Unclosed array", "Unclosed inline table", "Invalid value"):
        begun = not_closed(text)
        if begun:
            return begun
    said = escape(said)
    return (said if len(said) <= SAID_CHARS_MAX else f"{said[:SAID_CHARS_MAX]}…"), line


def stop(text: str) -> Scanner:
    """The scanner where it could read no further."""
    scanner = Scanner(text)
    for _ in scanner.places():
        pass
    return scanner


def declared_twice(names: str, text: str, line: int) -> str:
    """[jobs.a] is already defined at line 3"""
    keys: Keys = ast.literal_eval(names)
    first = lines("\n".join(text.split("\n")[: line - 1])).get(keys)
    return f"[{dotted(keys)}] is already defined" + (f" at line {first}" if first else "")


def overwritten(text: str, line: int) -> str:
    """jobs.a.shell already has a value, from line 3"""
    first: dict[Keys, int] = {}
    latest: dict[Keys, int] = {}
    keys: Keys = ()
    for place, at, _ in Scanner(text).places():
        if at > line:
            break
        first.setdefault(place, at)
        latest[place] = at
        keys = place
    while keys and (isinstance(keys[-1], int) or first[keys] == latest[keys]):
        keys = keys[:-1]
    return f"{dotted(keys)} already has a value, from line {first[keys]}" if keys else "a key has a value already"


def not_closed(text: str) -> tuple[str, int] | None:
    """The innermost list or inline table that is open at the end, and its line; None: it is something else."""
    scanner = stop(text)
    if not scanner.open:
        return None
    inner = scanner.open[-1]
    kind = "table" if inner.index < 0 else "list"
    return f"the {kind} {dotted(inner.keys)} is not closed", lines(text)[inner.keys]
