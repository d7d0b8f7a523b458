"""A Plan as bytes, and back with equal values shared: 10,000 jobs come out as small as load() made them. Pure.

Jobs differ in few fields, so they travel as columns: for each field the distinct values and, for each job, which one.
Plain MessagePack of the jobs makes a value of its own for each job and each field: 18 MB where 8 are enough.
"""

from array import array
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import FieldInfo, fields, replace

from tidegate.model.job import Job, Python
from tidegate.model.plan import Plan
from tidegate.settings.problem import Problem

FIELDS: Final[tuple[FieldInfo, ...]] = fields(Job)
Columns: Any = msgspec.defstruct("Columns", [(field.name, tuple[field.type, ...]) for field in FIELDS], frozen=True)  # type: ignore[name-defined]


class Loaded(Struct, frozen=True, tag="loaded"):
    """A good configuration: all but the jobs, the distinct values of each field, and rows of indices into them."""

    plan: Plan
    columns: Columns
    names: tuple[str, ...]  # the fields, in the order of the rows
    rows: bytes  # an array of C unsigned int: all of the first field, all of the second, …


class Refused(Struct, frozen=True, tag="refused"):
    """A configuration with problems."""

    problems: tuple[Problem, ...]


def pack(plan: Plan) -> Loaded:
    """Columns of a plan."""
    values: dict[str, tuple[Any, ...]] = {}
    rows = array("I")
    for field in FIELDS:
        index: dict[Any, int] = {}
        distinct: list[Any] = []
        for job in plan.jobs.values():
            value = getattr(job, field.name)
            key = as_key(value)
            at = index.setdefault(key, len(distinct))
            if at == len(distinct):
                distinct.append(value)
            rows.append(at)
        values[field.name] = tuple(distinct)
    return Loaded(replace(plan, jobs={}), Columns(**values), tuple(values), rows.tobytes())


def as_key(value: Any) -> Any:
    """What stands for a value among the values of its field: itself, or where it may hold a dict the bytes that travel.

    Those tell apart what == does not: the order of an env, and in arguments 1, 1.0 and true.
    """
    return msgspec.msgpack.encode(value) if isinstance(value, dict | Python) else value


def unpack(loaded: Loaded) -> Plan:
    """The plan again; values that are equal are one. Raises ValueError where another version packed it."""
    names = tuple(field.name for field in FIELDS)
    if loaded.names != names:
        raise ValueError("its jobs have other fields")
    rows = array("I")
    rows.frombytes(loaded.rows)
    count = len(rows) // len(FIELDS)
    shared: dict[str, str] = {}
    columns = []
    for number, field in enumerate(FIELDS):
        distinct = getattr(loaded.columns, field.name)
        if field.name == "command":
            distinct = [command and tuple(shared.setdefault(word, word) for word in command) for command in distinct]
        columns.append(map(distinct.__getitem__, rows[number * count : (number + 1) * count]))
    jobs = {}
    for row in zip(*columns, strict=True):
        job = Job(**dict(zip(names, row, strict=True)))
        jobs[job.name] = job
    return replace(loaded.plan, jobs=jobs)
