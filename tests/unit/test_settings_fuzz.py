"""Fuzz: whatever the bytes, load() gives a Plan or a SettingsError, each problem on one line, within 100 ms of CPU.

2,000 inputs here; `make fuzz` runs the same with 100,000 and a new seed. TIDEGATE_FUZZ_INPUTS sets the number of both.
A failure of a mutation prints its seed: Random(seed) makes the same input again.
"""

import gc
import os
import random
import secrets
import string
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from datetime import time as clock_time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate.engine.dispatcher import Dispatcher
from tidegate.model.event import Now, PlanLoaded
from tidegate.model.plan import Plan
from tidegate.model.text import escape
from tidegate.settings import child, raw
from tidegate.settings.read import SettingsError, load
from tidegate.triggers.build import build

CPU_S_MAX = 0.1
SUITE_INPUTS = int(os.environ.get("TIDEGATE_FUZZ_INPUTS", "2000"))
FUZZ_INPUTS = int(os.environ.get("TIDEGATE_FUZZ_INPUTS", "100000"))

GOOD = [
    """
[daemon]
jobs = ["jobs.d/*.toml"]
timezone = "Europe/Berlin"
log_format = "json"
drain_timeout = "5m"
[pool]
min = 1
max = "auto"
[http]
listen = "127.0.0.1:9810"
allowed_hosts = ["cron.example.org"]
[metrics]
per_job_histograms = false
[defaults]
timeout = "1h"
env = { LANG = "C.UTF-8" }
retries = { max = 2, delay = "30s", on_exit_codes = [75] }
[jobs.inside]
shell = "date"
every = "1m"
""",
    """
#:schema ./jobs.schema.json
[jobs.backup]
description = "Dump the database"
command = ["pg_dump", "-Fc", "app", "-f", "/backup/app.dump"]
cron = "15 2 * * *"
timeout = "45m"
retries = { max = 3, delay = "30s", factor = 1.5, max_delay = "1h", jitter = 0.5 }
env_file = "backup.env"

[jobs.report]
shell = '''
cd /srv/shop &&
  make report # [not a header]
'''
every = "15m"
jitter = "10s"
start_deadline = "1h"
[jobs.report.env]
"SHOP" = "main"
PATH = "/usr/bin:/bin"

[jobs.once]
at = 2026-12-24T18:00:00+01:00
command = ["/usr/local/bin/lights"]

[jobs."re.index"]
command = [
  "reindex",   # the program
  \"\"\"all
lines\"\"\",
]
after = ["backup", "once"]
overlap = "queue"
catch_up = "all"
catch_up_window = "2d"
""",
    """
jobs.a = { shell = "a", cron = "H(10-20) 3 L * mon-fri", timezone = "Australia/Lord_Howe", umask = "077", nice = -5 }
jobs.b.command = ["b"]
jobs.b.cron = "*/10 0 9-17/2 1,15 jan-jun 5#2"
jobs.b.output = "journal"
jobs.b.output_max = "2GB"
jobs.b.success_exit_codes = [0, 0x10, 0b11]
jobs.c = { shell = "c", every = "1h30m", leftovers = "leave", priority = -100, enabled = false, after = ["a"] }
jobs.d = { shell = "d", cron = "@reboot", cwd = "~/x", kill_grace = "500ms" }
""",
    """
[control]
operators = "daemon"
[history]
keep = "9d"
keep_runs = 10
keep_bytes = "5GiB"
durability = "normal"
[resources]
db = 2
[calendars.office]
cron = "* 9-17 * * mon-fri"
dates = ["2026-12-25", "2026-12-27/2026-12-31"]
timezone = "Europe/Berlin"
[hooks.ops]
mail = { to = ["ops@example.org"], from = "a@b", smtp = "localhost:25" }
[hooks.chat]
webhook = "https://u:p@example.org:80/x"
headers = { X-A = "b" }
timeout = "3s"
[calendars.night]
cron = "* 0-5 * * *"
[jobs.a]
shell = "a"
every = "1h"
uses = { db = 2 }
only_during = ["office"]
not_during = [{ calendar = "night", action = "defer" }]
on_failure = ["ops", "chat"]
on_absence = ["ops"]
ping = { success = "https://example.org/x" }
memory_max = "1GiB"
cpu_max = 1.5
[jobs.called]
python = "shop.tasks:nightly"
args = [1, 1.0, true, ["a", { b = 2026-01-01 }]]
kwargs = { full = true, shops = ["x", "y"] }
cron = "@daily"
""",
]
TOKENS = [
    *("[", "]", "[[", "]]", "{", "}", '"', "'", '"""', "'''", "=", ".", ",", "#", "\\", "\n", "\r", "\r\n", "\t", " "),
    *("\0", "\x1b[31m", "\ufeff", "\u202e", "ü", "\\u0000", "\\U0010FFFF", "\\ud800", "é" * 50, "x" * 3000),
    *("true", "nan", "inf", "-inf", "1e999", "9" * 400, "-1", "0", "0x" + "f" * 300, "1_0", "1.5", "9" * 5000),
    *(
        "2026-02-30",
        "9999-10-31T02:30:00",
        "1969-01-01T00:00:00Z",
        "5200w",
        "400d",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "12:00:00",
        "1979-05-27 07:32:00",
    ),
    *("[" * 50, "{a=" * 50, ".a" * 50, "[jobs.x]\n", "[defaults]\n", "jobs", "after = ['a']\n", "* * * * *", "@reboot"),
    *("L", "LW", "5#5", "H", "H(1-", "31 2 *", "0 0 30 2 *", "UTC", "../../etc/passwd", "1h30m", "512MiB", "99999999d"),
]


def check(folder: Path, data: bytes, name: str) -> None:
    """The promise, for one input."""
    path = folder / name
    path.write_bytes(data)
    outcome, spent_s = timed(path)
    assert spent_s < CPU_S_MAX, f"{spent_s:.3f} s"
    if isinstance(outcome, SettingsError):
        assert outcome.problems
        for problem in outcome.problems:
            line = str(problem)
            assert escape(line) == line, line
            assert len(line) < 1000, line
            assert 0 <= problem.line <= data.count(b"\n") + 1, line
    else:
        assert child.decode(child.encode(path)) == outcome
        runs(outcome)
        assert all(escape(warning) == warning for warning in outcome.warnings)


def runs(plan: Plan) -> None:
    """What is accepted can be run: the engine takes it, and each trigger tells when."""
    now = datetime.now(UTC)
    Dispatcher().handle([PlanLoaded(plan, cores=2.0)], Now(now, 0.0))
    for job in plan.jobs.values():
        trigger = build(job)
        if trigger is not None:
            trigger.first(now)
            trigger.missed(now - timedelta(days=1), now, 5)


def timed(path: Path) -> tuple[Plan | SettingsError, float]:
    """What load() says, and its CPU seconds."""
    gc.disable()  # what the test runner has piled up is not what is measured
    began = time.process_time()
    try:
        return load(path), time.process_time() - began
    except SettingsError as error:
        return error, time.process_time() - began
    finally:
        gc.enable()


# --- mutated good files -------------------------------------------------------------------------


def flipped(data: bytearray, rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwritten(data: bytearray, rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice(string.printable.encode())


def cut(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    del data[start : start + rng.choice((1, 2, 5, 20, 10_000))]


def inserted(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice(TOKENS).encode("utf-8", "surrogatepass") * rng.choice((1, 1, 1, 2, 40))


def lines_changed(data: bytearray, rng: random.Random) -> None:
    lines = bytes(data).splitlines(keepends=True)
    if not lines:
        return
    one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            lines[one], lines[two] = lines[two], lines[one]
        case 1:
            del lines[one]
        case 2:
            lines.insert(two, lines[one])
        case _:
            lines[one] = rng.choice(rng.choice(GOOD).encode().splitlines(keepends=True))
    data[:] = b"".join(lines)


def value_replaced(data: bytearray, rng: random.Random) -> None:
    lines = bytes(data).splitlines(keepends=True)
    having = [number for number, line in enumerate(lines) if b"=" in line]
    if having:
        number = rng.choice(having)
        lines[number] = lines[number].partition(b"=")[0] + b"= " + rng.choice(TOKENS).encode("utf-8") + b"\n"
        data[:] = b"".join(lines)


MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [
    flipped,
    overwritten,
    cut,
    inserted,
    lines_changed,
    lines_changed,
    value_replaced,
    value_replaced,
]


def mutated(rng: random.Random) -> bytes:
    data = bytearray(rng.choice(GOOD).encode())
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        rng.choice(MUTATIONS)(data, rng)
    return bytes(data)


# --- made values --------------------------------------------------------------------------------

KEYS = sorted(
    {field for struct in (raw.RawMainFile, raw.RawJob, raw.RawRetries, raw.RawDaemon, raw.RawPool, raw.RawHttp)
     for field in struct.__struct_fields__} | {key for later in raw.LATER.values() for key in later}
)  # fmt: skip
WORDS = ["skip", "queue", "all", "last", "file", "json", "auto", "kill", "022", "UTC", "Asia/Tokyo", "30s", "1h", "2d"]
ZONES = st.sampled_from([None, UTC, timezone(timedelta(hours=23, minutes=59)), timezone(timedelta(hours=-23))])
TEXTS = st.one_of(st.sampled_from([*WORDS, "* * * * *", "@daily", "64MiB", "a", "x"]), st.text(max_size=30))
SCALARS = st.one_of(
    TEXTS,
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-300, 300),
    st.floats(),
    st.dates(),
    st.times(),
    st.datetimes(timezones=ZONES),
)
NAMES = st.one_of(st.sampled_from([*KEYS, "a", "x"]), st.text(max_size=12))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=8,
)
RIGHT: dict[str, st.SearchStrategy[Any]] = {
    "command": st.lists(TEXTS, max_size=4),
    "after": st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=3),
    "env": st.dictionaries(TEXTS, TEXTS, max_size=3),
    "at": st.datetimes(timezones=ZONES),
}
ENTRIES = st.one_of(
    st.tuples(NAMES, VALUES),
    st.sampled_from(sorted(RIGHT)).flatmap(lambda key: st.tuples(st.just(key), RIGHT[key])),
    st.tuples(st.sampled_from(["shell", "cron", "every", "timeout", "timezone", "umask", "cwd"]), TEXTS),
)
JOBS = st.dictionaries(
    st.one_of(st.sampled_from(["a", "b", "c", "d"]), NAMES),
    st.lists(ENTRIES, max_size=6).map(dict) | VALUES,
    max_size=4,
)
TABLES = st.lists(ENTRIES, max_size=4).map(dict) | VALUES
FILES = st.one_of(
    st.fixed_dictionaries({"jobs": JOBS}),
    st.fixed_dictionaries(
        {"jobs": JOBS},
        optional=dict.fromkeys(("daemon", "pool", "http", "metrics", "defaults", "control"), TABLES),
    ),
    st.dictionaries(NAMES, VALUES, max_size=4),
)


def toml(value: Any) -> str:
    """Inline TOML of a value."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return '"' + "".join(map(escaped, value)) + '"'
        case float():
            return repr(value) if "e" not in repr(value) else f"{value:.20e}"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
        case datetime() | date() | clock_time():
            return value.isoformat()
        case _:
            return str(value)


def escaped(sign: str) -> str:
    plain = sign.isprintable() and sign not in '"\\'
    return sign if plain else f"\\U{ord(sign):08X}" if not 0xD800 <= ord(sign) < 0xE000 else "?"


def document(value: dict[str, Any]) -> Iterator[str]:
    """A file with headers for its tables and jobs, as people write it."""
    for key, item in value.items():
        if key != "jobs":
            yield f"{toml(key)} = {toml(item)}"
    for name, job in value.get("jobs", {}).items() if isinstance(value.get("jobs"), dict) else ():
        if isinstance(job, dict):
            yield f"[jobs.{toml(name)}]"
            yield from (f"{toml(key)} = {toml(item)}" for key, item in job.items())


def run_all(folder: Path, inputs: int, seed: str) -> None:
    """Half mutations, a quarter made values, a quarter raw text and bytes."""
    check(folder, GOOD[0].encode(), "tidegate.toml")  # imports are not what is measured
    for number in range(inputs // 2):
        rng = random.Random(f"{seed}-{number}")
        data = mutated(rng)
        try:
            check(folder, data, rng.choice(("tidegate.toml", "shop.toml")))
        except Exception as error:
            error.add_note(f"Random({seed}-{number}) made {data[:2000]!r}")
            raise
    quick = settings(
        max_examples=max(1, inputs // 4),
        deadline=None,
        database=None,
        derandomize=seed == "suite",
        suppress_health_check=list(HealthCheck),
    )

    @quick
    @given(FILES, st.sampled_from(["tidegate.toml", "shop.toml"]))
    def made(value: dict[str, Any], name: str) -> None:
        check(folder, "\n".join(document(value)).encode(), name)

    @quick
    @given(
        st.one_of(
            st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")), st.binary(max_size=200)
        )
    )
    def unstructured(data: bytes) -> None:
        check(folder, data, "shop.toml")

    made()
    unstructured()


def test_the_files_that_are_mutated_are_good(tmp_path: Path) -> None:
    for text in GOOD:
        path = tmp_path / "shop.toml"
        path.write_text(text)
        assert load(path).jobs


def test_two_thousand_broken_inputs_are_refused_or_read(tmp_path: Path) -> None:
    run_all(tmp_path, SUITE_INPUTS, "suite")


@pytest.mark.fuzz
@pytest.mark.timeout(7200)
def test_a_hundred_thousand_broken_inputs_are_refused_or_read(tmp_path: Path) -> None:
    run_all(tmp_path, FUZZ_INPUTS, secrets.token_hex(8))
