"""Values as TOML that a person would have written. Pure; writes no file."""

from typing import Final

from tidegate.model.text import escape
from tidegate.settings.problem import BARE

ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def toml_value(value: object) -> str:
    """A value on one line, text of several lines aside."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return toml_string(value)
        case tuple() | list():
            return f"[{', '.join(map(toml_value, value))}]"
        case dict():
            pairs = ", ".join(f"{toml_key(name)} = {toml_line(each)}" for name, each in value.items())
            return f"{{ {pairs} }}"
        case _:
            raise TypeError(f"no TOML for {value!r}")


def toml_string(text: str) -> str:
    """Text between the quotes that need the fewest escapes."""
    lines = text.split("\n")
    literal = all(map(_showable, lines))
    # A quote at the very end would be taken for one of the closing three.
    if len(lines) > 1 and literal and "'''" not in text and not text.endswith("'"):
        return f"'''\n{text}'''"
    return toml_line(text)


def toml_line(value: object) -> str:
    """A value that stays on one line whatever it holds."""
    if not isinstance(value, str):
        return toml_value(value)
    if ('"' in value or "\\" in value) and "'" not in value and _showable(value):
        return f"'{value}'"
    return '"' + "".join(_escaped(sign) for sign in value) + '"'


def _showable(line: str) -> bool:
    """Whether it needs no escapes: tabs may stand in any text."""
    return line.replace("\t", " ").isprintable()


def _escaped(sign: str) -> str:
    if sign in ESCAPES:
        return ESCAPES[sign]
    return sign if sign.isprintable() or sign == " " else _code(sign)


def _code(sign: str) -> str:
    return f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}"


def toml_key(name: str) -> str:
    """Bare where that is allowed."""
    return name if BARE.fullmatch(name) else toml_line(name)


def toml_comment(line: str) -> str:
    """A line of a comment. TOML forbids most control characters in one: they are shown as escapes."""
    return ("# " + "\t".join(map(escape, line.rstrip("\r").split("\t")))).rstrip()
