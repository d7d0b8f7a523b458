"""Where a key stands: one pass over TOML text gives the line of every key and list item. Never raises: it stops at
the first thing it cannot read, as the parser does. Used only where something is wrong, and to measure depth."""

import re
from collections.abc import Iterator

import tomli

from tidegate.settings.problem import Keys

# Possessive loops (++, *+): no backtracking, so the pass is linear whatever the text.
STRING = (
    r'"""(?:[^"\\]++|\\.|"{1,2}+(?!"))*+"{3,5}'
    r"|'''(?:[^']++|'{1,2}+(?!'))*+'{3,5}"
    r'|"(?:[^"\\\n]++|\\[^\n])*+"'
    r"|'[^'\n]*+'"
)
BLANK = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")  # between statements, inside lists and tables
SPACE = re.compile(r"[ \t]*+")
KEY = re.compile(r"""[A-Za-z0-9_-]++|"(?:[^"\\\n]++|\\[^\n])*+"|'[^'\n]*+'""")
VALUE = re.compile(STRING + r"|[^\s,\[\]{}#=\"'][^\n,\[\]{}#\"']*+", re.DOTALL)

Place = tuple[Keys, int, bool]  # keys, line, whether a [header] names exactly this table


class Unreadable(Exception):
    """Not TOML from here on. Stays inside this module."""


class Open:
    """A list or inline table that is not yet closed."""

    __slots__ = ("index", "keys")

    def __init__(self, keys: Keys, index: int) -> None:
        self.keys = keys
        self.index = index  # of the coming item; -1: an inline table


class Scanner:
    """One text, one position; reads forward only."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.line = 1
        self.table: Keys = ()  # of the latest header
        self.open: list[Open] = []
        self.items: dict[Keys, int] = {}  # [[arrays]]: index of the element that headers now mean

    def places(self) -> Iterator[Place]:
        """Every key and list item in file order. Dotted keys give their parents first."""
        try:
            while self._next():
                if not self.open:
                    yield from self._header() if self._peek("[") else self._entry(self.table)
                elif self.open[-1].index >= 0:
                    yield from self._item(self.open[-1])
                else:
                    yield from self._member(self.open[-1])
        except Unreadable:
            return

    def _next(self) -> bool:
        self._match(BLANK)
        return self.position < len(self.text)

    def _peek(self, sign: str) -> bool:
        return self.text.startswith(sign, self.position)

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.position)
        if not found:
            raise Unreadable
        self.line += self.text.count("\n", self.position, found.end())
        self.position = found.end()
        return found[0]

    def _take(self, sign: str) -> None:
        if not self._peek(sign):
            raise Unreadable
        self.position += len(sign)

    def _header(self) -> Iterator[Place]:
        double = self._peek("[[")
        self._take("[[" if double else "[")
        table: Keys = ()
        for part in self._parts():
            if table in self.items:
                table = (*table, self.items[table])  # headers mean the latest element
            table = (*table, part)
            yield table, self.line, False
        self._take("]]" if double else "]")
        if double:
            self.items[table] = self.items.get(table, -1) + 1
        if table in self.items:
            table = (*table, self.items[table])
        self.table = table
        yield table, self.line, True

    def _entry(self, table: Keys) -> Iterator[Place]:
        keys = table
        for part in self._parts():
            keys = (*keys, part)
            yield keys, self.line, False
        self._take("=")
        self._match(SPACE)
        self._value(keys)

    def _item(self, parent: Open) -> Iterator[Place]:
        while self.position < len(self.text):  # here and not through `places`: a list may have 100,000 items
            sign = self.text[self.position]
            if sign == "]":
                self.position += 1
                self.open.pop()
                return
            if sign == ",":
                self.position += 1
                parent.index += 1
            else:
                keys = (*parent.keys, parent.index)
                yield keys, self.line, False
                self._value(keys)
                if sign in "[{":
                    return
            self._match(BLANK)

    def _member(self, parent: Open) -> Iterator[Place]:
        if self._peek("}"):
            self._take("}")
            self.open.pop()
        elif self._peek(","):
            self._take(",")
        else:
            yield from self._entry(parent.keys)

    def _value(self, keys: Keys) -> None:
        if self._peek("["):
            self._take("[")
            self.open.append(Open(keys, 0))
        elif self._peek("{"):
            self._take("{")
            self.open.append(Open(keys, -1))
        else:
            self._match(VALUE)

    def _parts(self) -> Iterator[str]:
        """The parts of one dotted key, one by one: a key of a million parts must not be built before it is refused."""
        while True:
            self._match(SPACE)
            yield self._unquoted(self._match(KEY))
            self._match(SPACE)
            if not self._peek("."):
                return
            self._take(".")

    @staticmethod
    def _unquoted(key: str) -> str:
        if key[0] == "'" or (key[0] == '"' and "\\" not in key):
            return key[1:-1]
        if key[0] != '"':
            return key
        try:
            return str(tomli.loads(f"key = {key}")["key"])
        except tomli.TOMLDecodeError:
            raise Unreadable from None


def lines(text: str) -> dict[Keys, int]:
    """The line of every key: of a table its [header] where it has one, else where it is first spoken of."""
    found: dict[Keys, int] = {}
    for keys, line, exact in Scanner(text).places():
        if exact:
            found[keys] = line
        else:
            found.setdefault(keys, line)
    return found


def too_deep(text: str, depth_max: int) -> int:
    """The line where nesting goes beyond depth_max, or 0."""
    for keys, line, _ in Scanner(text).places():
        if len(keys) > depth_max:
            return line
    return 0
