"""What docs/ says stands beside what the code has: keys, metrics, log fields, events and limits, none missing and none
invented; no link leads nowhere; no example is one that tidegate refuses."""

import ast
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tidegate.model import limits
from tidegate.model.command import Fact, Record, Resize
from tidegate.model.job import Job
from tidegate.model.plan import Plan
from tidegate.model.run import Outcome, Run, Skip, State, Usage
from tidegate.settings.read import load
from tidegate.settings.schema import schema
from tidegate.telemetry.line import line_of
from tidegate.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
SOURCE = sorted((ROOT / "daemon" / "tidegate").rglob("*.py"))
NOW = datetime(2026, 3, 1, tzinfo=UTC)
KEY_ROW = re.compile(r"^\| `([a-z_]+)`( ●)? \|", re.M)


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """From a heading to the next one that is not below it."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,9}} |\Z)", text, re.M | re.S)
    assert found, f"no section {title!r}"
    return found[2]


# --- configuration.md ---------------------------------------------------------------------------------------

CONFIGURATION = page("reference/configuration.md")
JOB_SECTIONS = (
    *("What to run", "When", "How a run ends", "Several at once", "Who is told", "Its surroundings"),
    "Whose it is and how much it may take",
)


def keys_of(*definition: str) -> set[str]:
    found: dict[str, Any] = schema()
    for part in definition:
        found = found["$defs"][part]
    return set(found["properties"])


@pytest.mark.parametrize(
    ("titles", "definition"),
    [
        (("daemon",), "RawDaemon"),
        (("pool",), "RawPool"),
        (("http",), "RawHttp"),
        (("metrics",), "RawMetrics"),
        (("control",), "RawControl"),
        (("history",), "RawHistory"),
        (("calendars",), "RawCalendar"),
        (("hooks",), "RawHook"),
        (("mail",), "RawMail"),
        (("ping",), "RawPing"),
        (("retries",), "RawRetries"),
        (JOB_SECTIONS, "RawJob"),
    ],
)
def test_every_key_is_in_the_reference_and_no_other(titles: tuple[str, ...], definition: str) -> None:
    listed = [key for title in titles for key, _ in KEY_ROW.findall(section(CONFIGURATION, title))]
    assert sorted(listed) == sorted(keys_of(definition))


def test_every_table_has_its_section() -> None:
    for table in keys_of():
        section(CONFIGURATION, table)


def test_the_keys_that_defaults_may_hold_are_marked() -> None:
    rows = [row for title in JOB_SECTIONS for row in KEY_ROW.findall(section(CONFIGURATION, title))]
    assert {key for key, mark in rows if mark} == keys_of("RawDefaults")


def test_defaults_in_the_reference_are_those_of_the_schema() -> None:
    for definition, titles in (
        ("RawJob", JOB_SECTIONS),
        ("RawRetries", ("retries",)),
        ("RawDaemon", ("daemon",)),
        ("RawHistory", ("history",)),
        ("RawPool", ("pool",)),
    ):
        for key, value in schema()["$defs"][definition]["properties"].items():
            if "default" in value:
                shown = str(value["default"]).replace("'", '"').replace("True", "true")
                text = "".join(section(CONFIGURATION, title) for title in titles)
                row = re.search(rf"^\| `{key}`(?: ●)? \| .*? \| `?\"?(.*?)\"?`? \|", re.sub(r"\\\|", "/", text), re.M)
                assert row and row[1] == shown, key


# --- metrics.md ---------------------------------------------------------------------------------------------


def exposition(**options: Any) -> str:
    """With one of everything that can happen to a job."""
    metrics = Metrics(
        "1",
        pool=lambda: (1, 0, 0),
        next_fires=lambda: {"job": 1.0},
        logs_dropped=lambda: 0,
        resources=lambda: {"db": (2, 1)},
        hook_deliveries=lambda: {("ops", "delivered"): 1},
        blocked_s=lambda: {"memory": 1.5},
        pressures=lambda: {"io": 0.1},
        **options,
    )
    metrics.load(Plan(jobs={"job": Job(name="job", command=("true",), expected_s=60.0)}), NOW)
    metrics.observe(Record(fact=Fact.POOL_RESIZED, at=NOW, resize=Resize(1, 2, "growth")))
    ended = {"outcome": Outcome.SUCCEEDED, "duration_s": 1.0, "usage": Usage(1.0, 1)}
    for fact, state, changes in (
        (Fact.RUN_QUEUED, State.QUEUED, {"catch_up": True}),
        (Fact.RUN_STARTING, State.STARTING, {}),
        (Fact.RUN_FINISHED, State.FINISHED, ended),
        (Fact.RUN_SKIPPED, State.SKIPPED, {"skip": Skip.OVERLAP}),
    ):
        after = Run(run_id="r", job="job", scheduled_at=NOW, queued_at=NOW, state=state, **changes)
        metrics.observe(Record(fact=fact, at=NOW, job="job", run=after, wait_s=0.1))
    under_way = Run(run_id="s", job="job", scheduled_at=NOW, queued_at=NOW, state=State.STARTING)
    metrics.observe(Record(fact=Fact.RUN_STARTING, at=NOW, job="job", run=under_way))
    return b"".join(metrics.render()).decode()


def test_every_metric_is_in_the_reference_with_its_type_and_no_other() -> None:
    exposed = dict(re.findall(r"^# TYPE (\S+) (\S+)$", exposition(), re.M))
    listed = re.findall(r"^\| `((?:tidegate|process|python)_\w+)` \| (\w+) \|", page("reference/metrics.md"), re.M)
    assert len(listed) == len(dict(listed)), "one metric twice"
    assert dict(listed) == exposed


def test_labels_in_the_reference_are_those_of_the_metrics() -> None:
    exposed: dict[str, set[str]] = {}
    text = exposition()
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    for name, labels in re.findall(r"^(tidegate_\w+)(?:\{(.*)\})? \S+$", text, re.M):
        family = name if name in types else re.sub(r"_(bucket|sum|count)$", "", name)
        exposed.setdefault(family, set()).update(set(re.findall(r"(\w+)=\"", labels)) - {"le"})
    rows = re.findall(r"^\| `(tidegate_\w+)` \| \w+ \| (.*?) \|", page("reference/metrics.md"), re.M)
    assert {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == exposed


def test_bounds_in_the_reference_are_those_of_the_histograms() -> None:
    text = exposition()
    for name, bounds in re.findall(r"^\| `(\w+)` \|.* Bounds ([0-9., ]+\d) \|$", page("reference/metrics.md"), re.M):
        exposed = dict.fromkeys(re.findall(rf"^{name}_bucket\{{.*le=\"([0-9.]+)\"\}}", text, re.M))
        assert [float(bound) for bound in exposed] == [float(bound) for bound in bounds.split(", ")], name


def test_every_outcome_and_every_reason_is_in_the_reference() -> None:
    text = page("reference/metrics.md")
    for word in (*Outcome, *Skip):
        assert f"`{word}`" in text


# --- logs.md ------------------------------------------------------------------------------------------------

LOGS = page("reference/logs.md")


def words_in(text: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, text, re.M))


def test_every_event_is_in_the_reference_and_no_other() -> None:
    bound = {
        word for path in SOURCE for word in words_in(path.read_text(encoding="utf-8"), r'\bevent="([a-z_]+\.[a-z_]+)"')
    }
    assert len(bound) > 10, "the pattern finds nothing any more"
    listed = words_in(section(LOGS, "Events"), r"^\| `([a-z_.]+)` \|")
    assert listed == bound | {fact.value for fact in Fact} | {"daemon.message"}


def test_every_field_of_a_line_is_in_the_reference_and_no_other() -> None:
    run = Run(
        run_id="r", job="job", task="task", scheduled_at=NOW, queued_at=NOW, outcome=Outcome.FAILED, skip=Skip.OVERLAP,
        exit_code=1, signal=9, duration_s=1.0, usage=Usage(1.0, 1), reason="why",
    )  # fmt: skip
    fields = set(line_of(Record(fact=Fact.RUN_FINISHED, at=NOW, job="job", run=run, reason="why")).fields)
    # What is said of anything else binds its fields where it says it.
    calls = (node for path in SOURCE for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    bound = {
        keyword.arg
        for node in calls
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "bind"
        for keyword in node.keywords
        if keyword.arg
    }
    assert {"hook", "event"} <= bound, "the search finds nothing any more"
    listed = words_in(section(LOGS, "Fields"), r"^\| `([a-z_]+)` \|")
    assert listed == fields | bound | {"time", "level", "event", "message", "job", "logger", "exception"}


# --- limits.md ----------------------------------------------------------------------------------------------

UNITS = {"s": 1, "h": 3600, "KiB": 1024, "MiB": 1024**2, "": 1}


def test_every_limit_is_in_the_reference_with_its_value() -> None:
    constants = {name: value for name, value in vars(limits).items() if name.isupper()}
    listed = re.findall(r"^\| `([A-Z_]+)` \| ([0-9,.]+) ?([A-Za-z]*) \|", page("reference/limits.md"), re.M)
    shown = {name: float(number.replace(",", "")) * UNITS[unit] for name, number, unit in listed}
    assert shown == constants


# --- all pages ----------------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_link_leads_nowhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name) if name else path
        assert found.exists(), f"{path.name}: {target}"
        if anchor:
            assert anchor in anchors(found.read_text(encoding="utf-8")), f"{path.name}: {target}"


def examples() -> list[Any]:
    found = []
    for path in PAGES:
        for number, text in enumerate(
            re.findall(r"^```toml\n(.*?)^```$", path.read_text(encoding="utf-8"), re.M | re.S)
        ):
            if "retrys" not in text:  # the page about `check` shows a wrong file
                found.append(pytest.param(text, id=f"{path.relative_to(ROOT)}-{number}"))
    return found


@pytest.mark.parametrize("text", examples())
def test_every_example_is_one_that_tidegate_takes(text: str, tmp_path: Path) -> None:
    if text.startswith("retries ="):
        text = f'[jobs.job]\ncommand = ["true"]\n{text}'
    (tmp_path / "tidegate.toml").write_text(text, encoding="utf-8")
    named = {name for names in re.findall(r"after = \[(.*?)\]", text) for name in re.findall(r'"([^"]+)"', names)}
    missing = {name for name in named if f"[jobs.{name}]" not in text}
    (tmp_path / "jobs.d").mkdir()
    others = "".join(f'[jobs.{name}]\ncommand = ["true"]\n' for name in sorted(missing))
    (tmp_path / "jobs.d" / "others.toml").write_text(others, encoding="utf-8")
    load(tmp_path)


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, pending = set(), [ROOT / "README.md"]
    while pending:
        path = pending.pop().resolve()
        if path in seen or path.suffix != ".md" or not path.is_file():
            continue
        seen.add(path)
        targets = re.findall(r"\]\(([^)#\s]+\.md)(?:#\S*)?\)", path.read_text(encoding="utf-8"))
        pending += [path.parent / target for target in targets if not re.match(r"[a-z]+:", target)]
    assert set(DOCS.rglob("*.md")) <= seen


# --- ARCHITECTURE.md ----------------------------------------------------------------------------------------

ARCHITECTURE = page("ARCHITECTURE.md")


def test_every_module_has_its_line_and_every_line_its_module() -> None:
    here = {str(path.relative_to(ROOT / "daemon" / "tidegate")) for path in SOURCE}
    modules = {name for name in here if not name.endswith("__init__.py")}
    rows = [row for row in section(ARCHITECTURE, "Floors").splitlines() if row.startswith("|")]
    assert set(re.findall(r"`([a-z_]+/[a-z_]+\.py|(?:clock|failpoint|__main__)\.py)`", "\n".join(rows))) == modules


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", ARCHITECTURE)
    assert len(named) > 40
    for path, name in named:
        assert re.search(rf"^(?:async )?def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.M), (
            f"{path}::{name}"
        )
