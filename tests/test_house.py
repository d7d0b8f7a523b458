"""The rules of the house, read from the source itself: floors, one clock, size limits, names, a tidy top level.

Each rule is a function from text to findings, and is itself tested with a sample that breaks it. The rules are
explained in docs/ARCHITECTURE.md.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT / "daemon"

# A room may import lower floors only: neither an upper one nor a neighbour.
FLOORS: Final = {
    "model": 0,
    "clock": 0,
    "failpoint": 0,
    "triggers": 1,
    "monitor": 1,
    "settings": 2,
    "engine": 2,
    "executors": 3,
    "history": 3,
    "telemetry": 3,
    "hooks": 3,
    "supervisor": 4,
    "pool": 4,
    "simulate": 4,
    "analysis": 4,
    "api": 5,
    "cli": 6,
    "__main__": 7,
}

# What pure code may use of the standard library. `random` only as random.Random(seed), see SEEDLESS.
ENGINE_IMPORTS: Final = {
    "__future__", "abc", "bisect", "collections", "copy", "dataclasses", "datetime", "enum", "functools", "graphlib",
    "hashlib", "heapq", "itertools", "math", "msgspec", "operator", "random", "re", "signal", "statistics", "string",
    "struct", "tidegate", "typing",
}  # fmt: skip

# These run outside the daemon: the keeper must have no reason to die, the worker lives in the user's interpreter.
ALONE: Final = re.compile(r"tidegate\.executors\.(keeper|worker)(_\w+)?")

CLOCKS: Final = {
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "clock_gettime",
             "clock_gettime_ns", "localtime", "gmtime", "ctime"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}  # fmt: skip
CLOCK_MODULES: Final = {"tidegate.clock"}

FUNCTION_LINES_MAX: Final = 60
MODULE_LINES_MAX: Final = 450
FORBIDDEN_WORDS: Final = {"manager", "helper", "helpers", "util", "utils", "handler", "base", "misc", "common"}

TOP_LEVEL: Final = {
    "pyproject.toml", "README.md", "daemon", "config", "packaging", "systemd", "tests", "docs",
    "Makefile", "LICENSE", "CHANGELOG.md", "constraints.txt",
}  # fmt: skip

# Spelled in pieces, so that this file is not the first to break the rule.
PRIVATE_PLACES: Final = re.compile(
    r"(?<![\w.~-])/(?:" + r"work/(?:main|shared)\b|ro" + r"ot/|Us" + r"ers/|tmp/br" + r"ief\b)"
    r"|\.py" + r"env/"
)  # fmt: skip
REGISTRIES: Final = re.compile(
    "pythonhosted" + r"\.org|" + "artifact" + r"ory|index" + r"-url|find" + r"-links|https?://\S+/simple\b"
)


def module_name(path: Path) -> str:
    """daemon/tidegate/engine/queue.py → tidegate.engine.queue; a package is named as its folder."""
    name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    return name.removesuffix(".__init__")


def modules() -> dict[str, str]:
    """Every module of the daemon with its text."""
    return {module_name(path): path.read_text(encoding="utf-8") for path in sorted(SOURCE.rglob("*.py"))}


def room_of(module: str) -> str:
    """tidegate.engine.queue → engine; the package itself has no room."""
    return module.split(".")[1] if "." in module else ""


def imports(text: str) -> Iterator[tuple[int, str]]:
    """Line and full name of every import, wherever it stands: at the top, in a function, under TYPE_CHECKING.

    `from a import b` gives a.b, which names either a module or something in one. Relative imports give a dot.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, "." * node.level + f"{node.module or ''}.{alias.name}") for alias in node.names)


def floor_breaches(module: str, text: str) -> list[str]:
    """Imports of an upper floor, of a neighbour, or of a room that is not in the table."""
    room, found = room_of(module), []
    if room and room not in FLOORS:
        return [f"{module}: no floor is known for the room {room}"]
    for line, name in imports(text):
        if name.startswith("."):
            found.append(f"{module}:{line}: relative import; write it from tidegate")
            continue
        other = room_of(name)
        if not name.startswith("tidegate.") or other in (room, "__version__"):
            continue
        if other not in FLOORS:
            found.append(f"{module}:{line}: no floor is known for {name}")
        elif not room or FLOORS[other] >= FLOORS[room]:
            found.append(f"{module}:{line}: imports {name}, which is not on a lower floor")
    return found


def impurities(module: str, text: str) -> list[str]:
    """What the engine and the programs that stand alone import beyond what they may."""
    found = []
    for line, name in imports(text):
        top = name.split(".")[0]
        if room_of(module) == "engine":
            allowed = top in ENGINE_IMPORTS and (top != "tidegate" or room_of(name) in ("model", "engine"))
        elif ALONE.fullmatch(module):
            allowed = top in sys.stdlib_module_names or bool(ALONE.match(name))
        else:
            continue
        if not allowed:
            found.append(f"{module}:{line}: may not import {name}")
    return found


def bound_names(tree: ast.Module) -> dict[str, str]:
    """What the names of a module stand for: `import time as t` binds t to time, `from time import time` too."""
    bound = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            bound |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return bound


def meanings(text: str) -> Iterator[tuple[int, str]]:
    """Every dotted name that is read in the text, with its imports resolved: line and full name."""
    tree = ast.parse(text)
    bound = bound_names(tree)
    for node in ast.walk(tree):
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name) and node.id in bound:
            yield node.lineno, ".".join([bound[node.id], *parts])


def clock_reads(module: str, text: str) -> list[str]:
    """Reads of a clock outside clock.py. In the supervisor alone the event loop's own clock may be read: its timers
    (call_at, call_later) count in it."""
    if module in CLOCK_MODULES or ALONE.fullmatch(module):
        return []
    found = []
    for line, name in meanings(text):
        owner, _, what = name.rpartition(".")
        if what in CLOCKS.get(owner.rpartition(".")[2], ()):
            found.append(f"{module}:{line}: reads a clock: {name}")
    if room_of(module) != "supervisor":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "time":
                owner_name = ast.unparse(node.func.value)
                if "loop" in owner_name:
                    found.append(f"{module}:{node.lineno}: reads a clock: {owner_name}.time()")
    return sorted(set(found))


def seedless_chances(module: str, text: str) -> list[str]:
    """Random numbers in the engine that no seed repeats."""
    if room_of(module) != "engine":
        return []
    used = [(line, name) for line, name in meanings(text) if name.startswith("random.")]
    return [f"{module}:{line}: {name} has no seed" for line, name in used if name.split(".")[1] != "Random"]


def oversizes(module: str, text: str) -> list[str]:
    """Functions and modules that are too long to be read at once."""
    found = []
    lines = text.count("\n") + (not text.endswith("\n") and bool(text))
    if lines > MODULE_LINES_MAX:
        found.append(f"{module}: {lines} lines, and {MODULE_LINES_MAX} are the limit")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                found.append(
                    f"{module}:{node.lineno}: {node.name} has {length} lines, {FUNCTION_LINES_MAX} are the limit"
                )
    return found


def undocumented(module: str, text: str) -> list[str]:
    """Modules that do not open with their job. An __init__ without a line of code has none."""
    tree = ast.parse(text)
    return [] if not tree.body or ast.get_docstring(tree) else [f"{module}: begins without a docstring"]


def words(name: str) -> set[str]:
    """ "BaseJob_helper" → {"base", "job", "helper"}"""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def empty_names(module: str, text: str) -> list[str]:
    """Modules and classes whose name says nothing."""
    names = [(0, part) for part in module.split(".")]
    names += [(node.lineno, node.name) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
    return [f"{module}:{line}: {name} says nothing" for line, name in names if words(name) & FORBIDDEN_WORDS]


RULES: Final = (floor_breaches, impurities, clock_reads, seedless_chances, oversizes, undocumented, empty_names)


def strangers_at_the_top(paths: list[str]) -> list[str]:
    """Entries of the repository's top level that have no business there."""
    entries = {PurePosixPath(path).parts[0] for path in paths}
    return sorted(entry for entry in entries if entry not in TOP_LEVEL and not entry.startswith("."))


def private_places(path: str, text: str) -> list[str]:
    """Paths of somebody's machine, and hosts and settings of package registries."""
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        for pattern in (PRIVATE_PLACES, REGISTRIES):
            match = pattern.search(line)
            if match:
                found.append(f"{path}:{number}: {match[0]}")
    return found


def tracked() -> list[str]:
    """What git knows of this working copy, whoever owns it."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    return [path for path in listing.decode().split("\0") if path]


# --- the house keeps its rules -----------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_daemon_keeps_the_rule(rule):
    house = modules()
    assert len(house) > 20, "the source was not found, and a rule about nothing always holds"
    findings = [finding for module, text in house.items() for finding in rule(module, text)]
    assert not findings, "\n".join(findings)


def test_the_top_level_holds_nothing_else():
    paths = tracked()
    assert "pyproject.toml" in paths
    assert not strangers_at_the_top(paths)


def test_no_tracked_file_names_a_private_place_or_a_registry():
    findings = []
    for path in tracked():
        if (ROOT / path).is_file():
            findings += private_places(path, (ROOT / path).read_text(encoding="utf-8", errors="replace"))
    assert not findings, "\n".join(findings)


def test_constraints_pin_names_and_versions_and_nothing_else():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []


def test_every_dependency_is_pinned():
    import tomli

    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    pinned = {normal(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split()}
    assert {normal(re.split(r"[<>=!~\[; ]", name)[0]) for name in wanted} - pinned == set()


def normal(name: str) -> str:
    """Package names compare without case, and -, _ and . are one."""
    return re.sub(r"[-_.]+", "-", name).lower()


# --- each rule sees what breaks it ---------------------------------------------------------------

LONG_FUNCTION = "def f():\n" + "    pass\n" * FUNCTION_LINES_MAX
BROKEN: Final = [
    (floor_breaches, "tidegate.engine.x", "import tidegate.supervisor.pump"),
    (floor_breaches, "tidegate.engine.x", "from tidegate.settings import read"),
    (floor_breaches, "tidegate.engine.x", "from tidegate import settings"),
    (floor_breaches, "tidegate.model.x", "from tidegate import clock"),
    (
        floor_breaches,
        "tidegate.executors.x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tidegate.api",
    ),
    (floor_breaches, "tidegate.executors.x", "def late():\n    from tidegate.cli import main"),
    (floor_breaches, "tidegate.engine.x", "from .queue import Queue"),
    (floor_breaches, "tidegate.engine.x", "import tidegate.attic"),
    (floor_breaches, "tidegate.attic.x", ""),
    (floor_breaches, "tidegate", "from tidegate.model.job import Job"),
    (impurities, "tidegate.engine.x", "import os"),
    (impurities, "tidegate.engine.x", "from asyncio import Queue"),
    (impurities, "tidegate.engine.x", "import time"),
    (impurities, "tidegate.engine.x", "import psutil"),
    (impurities, "tidegate.engine.x", "from tidegate.triggers import cron"),
    (impurities, "tidegate.executors.keeper", "import msgspec"),
    (impurities, "tidegate.executors.keeper", "from tidegate.model.limits import WAKEUP_S_MAX"),
    (impurities, "tidegate.executors.keeper_tree", "from tidegate import clock"),
    (impurities, "tidegate.executors.worker", "import psutil"),
    (clock_reads, "tidegate.engine.x", "import time\ntime.monotonic()"),
    (clock_reads, "tidegate.engine.x", "import time as t\nf(clock=t.time)"),
    (clock_reads, "tidegate.engine.x", "from time import perf_counter_ns as p\np()"),
    (clock_reads, "tidegate.engine.x", "from datetime import datetime\ndatetime.now(UTC)"),
    (clock_reads, "tidegate.engine.x", "import datetime as d\nd.datetime.utcnow()"),
    (clock_reads, "tidegate.engine.x", "from datetime import date\ndate.today()"),
    (clock_reads, "tidegate.engine.x", "import time\ntime.clock_gettime_ns(1)"),
    (clock_reads, "tidegate.api.x", "asyncio.get_running_loop().time()"),
    (clock_reads, "tidegate.api.x", "self._loop.time()"),
    (clock_reads, "tidegate.supervisor.x", "import time\ntime.monotonic()"),
    (seedless_chances, "tidegate.engine.x", "import random\nrandom.uniform(0, 1)"),
    (seedless_chances, "tidegate.engine.x", "from random import choice\nchoice([1])"),
    (oversizes, "tidegate.engine.x", LONG_FUNCTION),
    (oversizes, "tidegate.engine.x", "async " + LONG_FUNCTION),
    (oversizes, "tidegate.engine.x", "pass\n" * (MODULE_LINES_MAX + 1)),
    (undocumented, "tidegate.engine.x", "import this"),
    (empty_names, "tidegate.engine.utils", ""),
    (empty_names, "tidegate.engine.job_helpers", ""),
    (empty_names, "tidegate.engine.x", "class BaseJob: ..."),
    (empty_names, "tidegate.engine.x", "class RunManager: ..."),
]


@pytest.mark.parametrize(("rule", "module", "text"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_the_rule_sees_what_breaks_it(rule, module, text):
    assert rule(module, text)


SOUND: Final = [
    (floor_breaches, "tidegate.cli.main", "from tidegate import __version__\nimport tidegate.api.serve\nimport os"),
    (floor_breaches, "tidegate.engine.x", "from tidegate.engine.queue import Queue\nimport tidegate.model"),
    (impurities, "tidegate.engine.x", "from msgspec.structs import replace\nimport heapq"),
    (impurities, "tidegate.executors.keeper", "import os, socket\nfrom tidegate.executors.keeper_tree import kill"),
    (impurities, "tidegate.executors.command", "import psutil"),
    (clock_reads, "tidegate.clock", "import time\ntime.monotonic()"),
    (clock_reads, "tidegate.executors.keeper_tree", "import time\ntime.monotonic()"),
    (clock_reads, "tidegate.supervisor.x", "asyncio.get_running_loop().time()"),
    (
        clock_reads,
        "tidegate.engine.x",
        "import time\nfrom datetime import datetime\ntime.strftime('')\ndatetime.max\nrun.time()",
    ),
    (seedless_chances, "tidegate.engine.x", "import random\nrandom.Random(run_id).random()"),
    (oversizes, "tidegate.engine.x", LONG_FUNCTION.removesuffix("    pass\n")),
    (oversizes, "tidegate.engine.x", "pass\n" * MODULE_LINES_MAX),
    (undocumented, "tidegate.api", ""),
    (empty_names, "tidegate.engine.database", "class Baseline: ..."),
]


@pytest.mark.parametrize(("rule", "module", "text"), SOUND, ids=lambda value: getattr(value, "__name__", None))
def test_the_rule_lets_sound_code_pass(rule, module, text):
    assert rule(module, text) == []


def test_a_stranger_at_the_top_is_seen():
    assert strangers_at_the_top(["daemon/tidegate/clock.py", ".ci/run", "setup.cfg", "src/x.py"]) == [
        "setup.cfg",
        "src",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "cd /wo" + "rk/main",
        '"/ro' + 'ot/.config"',
        "/Us" + "ers/kim/src",
        "~/.py" + "env/versions",
        "pip install --index" + "-url x",
        "https://mirror.example.org/pypi" + "/simple",
        "https://files.python" + "hosted.org/x",
    ],
)
def test_a_private_place_is_seen(text):
    assert private_places("x", f"one\n{text}\n") != []


@pytest.mark.parametrize(
    "text", ["/usr/bin/python3", "~/.config/tidegate", "the network/main road", "/home/ann/app.db"]
)
def test_a_public_place_passes(text):
    assert private_places("x", text) == []
