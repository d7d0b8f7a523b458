"""The walker: goes key by key over what msgspec refused as a whole, says everything that is wrong, and gives back
what is good, so that the rest can be judged too. Types and bounds come from the raw Structs: nothing is said twice."""

import re
import shlex
from collections.abc import Callable
from datetime import date, datetime, time
from typing import Any, Final

from msgspec import inspect

from tidegate.model.limits import ERRORS_MAX
from tidegate.settings import meta, raw, raw_daemon, raw_pool
from tidegate.settings.problem import SHOWN_CHARS_MAX, Keys, dotted, hint, quoted, shown

Report = Callable[[Keys, str], None]

BAD: Final = object()  # this value is not to be used; why was reported
TABLES: Final = frozenset(
    {
        raw_daemon.RawDaemon, raw_pool.RawPool, raw_daemon.RawHttp, raw_daemon.RawMetrics,
        raw_daemon.RawControl, raw_daemon.RawHistory,
    }
)  # fmt: skip
SHAPES: Final[dict[type, inspect.Type]] = {}
SHELL_SIGNS: Final = re.compile(r"[|&;<>$`*?()~{}\[\]#\n]|^\s*[A-Za-z_]\w*=")  # what a shell does not take as it is
MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d")
EXAMPLES = {meta.DURATION: '"30s"', meta.SIZE: '"64MiB"', meta.UMASK: '"022"'}


class Walker:
    """Walks one file's data. `report` takes each finding."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.left = ERRORS_MAX  # a file of a million wrong keys is wrong after a thousand

    def walk(self, value: object, struct: type[Any], keys: Keys) -> Any:
        """The good part of `value` as plain data for msgspec.convert, or BAD."""
        return self._walk(value, shape(struct), keys, "")

    def _refuse(self, keys: Keys, message: str) -> Any:
        if self.left:
            self.left -= 1
            self.report(keys, message)
        return BAD

    def _walk(self, value: object, type_: inspect.Type, keys: Keys, kind: str) -> Any:
        if not self.left:
            return BAD
        match type_:
            case inspect.Metadata():
                return self._walk(value, type_.type, keys, (type_.extra or {}).get("kind", ""))
            case inspect.StructType():
                return self._table(value, type_, keys)
            case inspect.DictType():
                return self._names(value, type_, keys)
            case inspect.VarTupleType():
                return self._list(value, type_, keys, kind)
            case inspect.UnionType():
                return self._choice(value, type_, keys)
            case inspect.AnyType():
                return value
            case _:
                wrong = scalar(value, type_, kind)
                return self._refuse(keys, wrong) if wrong else value

    def _table(self, value: object, type_: inspect.StructType, keys: Keys) -> Any:
        if not isinstance(value, dict):
            nameless = type_.cls is raw.RawJob and keys[-1] in raw.RawJob.__struct_fields__
            advice = "; a job has a name: its header is [jobs.NAME], not [jobs]" if nameless else ""
            return self._refuse(keys, f"must be a table, got {shown(value)}{advice}")
        fields = {field.encode_name: field.type for field in type_.fields}
        good = {}
        for key, item in value.items():
            if key not in fields:
                self._refuse((*keys, key), unknown(key, type_.cls, list(fields), keys))
                continue
            found = self._walk(item, fields[key], (*keys, key), "")
            if found is not BAD:
                good[key] = found
        return good

    def _names(self, value: object, type_: inspect.DictType, keys: Keys) -> Any:
        if not isinstance(value, dict):
            return self._refuse(keys, f"must be a table, got {shown(value)}")
        walked = {key: self._walk(item, type_.value_type, (*keys, key), meta.FREE) for key, item in value.items()}
        return {key: item for key, item in walked.items() if item is not BAD}

    def _list(self, value: object, type_: inspect.VarTupleType, keys: Keys, kind: str) -> Any:
        if not isinstance(value, list):
            return self._refuse(keys, f"must be a list, got {shown(value)}{as_list(value, type_.item_type, keys)}")
        if not value and type_.min_length:
            return self._refuse(keys, "must not be empty")
        walked = [self._walk(item, type_.item_type, (*keys, index), kind) for index, item in enumerate(value)]
        return BAD if any(item is BAD for item in walked) else walked

    def _choice(self, value: object, type_: inspect.UnionType, keys: Keys) -> Any:
        """A word, a number or a table: the only unions the files have."""
        for option in type_.types:
            if isinstance(option, inspect.StructType):
                if isinstance(value, dict):
                    return self._table(value, option, keys)
                if not isinstance(value, str):
                    return self._refuse(keys, f"must be text or a table, got {shown(value)}")
                return value
        wrong = [scalar(value, option, "") for option in type_.types]
        if "" in wrong:
            return value
        wanted = " or ".join(expected(option, "") for option in type_.types)
        return self._refuse(keys, f"must be {wanted}, got {shown(value)}")


def shape(struct: type[Any]) -> inspect.Type:
    """A raw Struct as msgspec sees it; asking takes milliseconds, so it is asked once."""
    found = SHAPES.get(struct)
    if found is None:
        found = SHAPES[struct] = inspect.type_info(struct)
    return found


def as_list(value: object, item: inspect.Type, keys: Keys) -> str:
    """How a list of this one value is written, where that would be good."""
    if isinstance(value, str) and keys[-1] == "command":
        return as_command(value, keys[0] == "jobs")
    while isinstance(item, inspect.Metadata):
        item = item.type
    options = item.types if isinstance(item, inspect.UnionType) else (item,)
    plain = [option for option in options if isinstance(option, inspect.StrType | inspect.IntType)]
    if not any(not scalar(value, option, "") for option in plain) or cut(value):
        return ""
    return f"; write [{shown(value)}]"


def as_command(text: str, of_job: bool) -> str:
    """How a command line is written: as a list of its words, or where only a shell would understand it, for one."""
    try:
        words = shlex.split(text)
    except ValueError:  # a quote that is not closed
        words = []
    if not text.strip() or not text.isprintable():
        return ""
    if not words or SHELL_SIGNS.search(text):
        line = "shell = …, with this text," if cut(text) else f"shell = {quoted(text)}"
        return f"; write {line} instead of command" if of_job else '; write ["sh", "-c", …] with this text'
    if any(map(cut, words)):
        return '; write each word as text of its own: ["program", "argument"]'
    return f"; write [{', '.join(map(quoted, words))}]"


def cut(value: object) -> bool:
    """Whether showing it would cut it, so that it could not be copied."""
    return isinstance(value, str) and len(value) > SHOWN_CHARS_MAX


def scalar(value: object, type_: inspect.Type, kind: str) -> str:
    """The sentence about a wrong value, or "" for a good one."""
    match type_:
        case inspect.BoolType():
            good = isinstance(value, bool)
        case inspect.StrType():
            good = isinstance(value, str)
        case inspect.IntType(ge=least, le=most):
            good = isinstance(value, int) and not isinstance(value, bool) and within(value, least, most)
        case inspect.FloatType(gt=over, ge=least, le=most):
            good = isinstance(value, int | float) and not isinstance(value, bool) and within(value, least, most)
            good = good and (over is None or (isinstance(value, int | float) and value > over))
        case inspect.DateTimeType():
            good = isinstance(value, datetime)
        case inspect.EnumType() | inspect.LiteralType():
            good = isinstance(value, str) and value in words_of(type_)
        case _:
            raise AssertionError(type_)
    return "" if good else sentence(value, type_, kind)


def sentence(value: object, type_: inspect.Type, kind: str) -> str:
    """Expected, found, and what to do about it where that is clear."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind in EXAMPLES and number:
        text = shown(value)
        example = {meta.DURATION: f'"{text}s"', meta.SIZE: f'"{text}B"', meta.UMASK: f'"{text:0>3}"'}[kind]
        simple = text.isdigit() and len(text) < 10 and (kind != meta.UMASK or len(text) <= 3)
        return f"write {example if simple else EXAMPLES[kind]} instead of {text}"
    advice = ""
    if isinstance(type_, inspect.StrType) and kind == meta.FREE and (number or isinstance(value, bool)):
        advice = f'; write "{shown(value)}"'
    elif isinstance(type_, inspect.EnumType | inspect.LiteralType) and isinstance(value, str):
        advice = hint(value, words_of(type_))
    elif kind in (meta.FREE, meta.DATE) and isinstance(value, date) and not isinstance(value, datetime):
        advice = f'; write "{value}"'
    elif isinstance(type_, inspect.DateTimeType) and isinstance(value, date) and not isinstance(value, datetime):
        advice = f"; write {value}T00:00:00"
    elif isinstance(type_, inspect.DateTimeType) and isinstance(value, str) and is_moment(value):
        advice = "; write it without quotes"
    return f"must be {expected(type_, kind)}, got {described(value)}{advice}"


def is_moment(text: str) -> bool:
    """Whether this would be a date and time without its quotes."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return bool(MOMENT.match(text))


def expected(type_: inspect.Type, kind: str) -> str:
    """What may stand here, in words."""
    match type_:
        case inspect.Metadata():
            return expected(type_.type, kind)
        case inspect.BoolType():
            return "true or false"
        case inspect.StrType():
            return "text" if kind in ("", meta.FREE, meta.DATE) else f"text such as {EXAMPLES.get(kind, kind)}"
        case inspect.IntType(ge=least, le=most):
            return f"a whole number from {least} to {most}"
        case inspect.FloatType(gt=None, ge=least, le=most):
            return f"a number from {least:g} to {most:g}"
        case inspect.FloatType(gt=over, le=most):
            return f"a number above {over:g}, up to {most:g}"
        case inspect.DateTimeType():
            return "a date and time such as 2026-12-24T18:00:00+01:00"
        case inspect.EnumType() | inspect.LiteralType():
            words = [f'"{word}"' for word in words_of(type_)]
            return ", ".join(words[:-1]) + " or " + words[-1] if len(words) > 1 else words[0]
        case _:
            raise AssertionError(type_)


def words_of(type_: inspect.EnumType | inspect.LiteralType) -> list[str]:
    """The words that may stand here."""
    return [str(word) for word in (type_.cls if isinstance(type_, inspect.EnumType) else type_.values)]


def within(value: float, least: float | None, most: float | None) -> bool:
    """Bounds as msgspec reads them; a NaN is within none."""
    return (least is None or value >= least) and (most is None or value <= most)


def described(value: object) -> str:
    """The value found; a date or a time by its kind too, for it looks like text."""
    match value:
        case datetime():
            return f"the date-time {value}"
        case date():
            return f"the date {value}"
        case time():
            return f"the time {value}"
        case _:
            return shown(value)


def unknown(key: str, struct: type, known: list[str], keys: Keys) -> str:
    """The sentence about a key that this table does not have."""
    if key in raw.LATER.get(struct, ()):
        return "not supported by this version"
    if struct is raw.RawDefaults and key in raw.RawJob.__struct_fields__:
        return "not allowed in [defaults]; write it in the jobs"
    if struct is raw.RawJobsFile and key in raw.RawMainFile.__struct_fields__:
        return "belongs in tidegate.toml, not in a jobs file"
    if struct in (raw.RawJobsFile, raw.RawMainFile) and key in raw.RawJob.__struct_fields__:
        return "unknown key; a job begins with a header such as [jobs.backup]"
    place = f"[{dotted(keys)}]" if keys and struct in TABLES else ""
    return f"unknown key{' in ' + place if place else ''}{hint(key, known)}"
