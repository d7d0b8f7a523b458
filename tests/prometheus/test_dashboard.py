"""The dashboard is one that Grafana takes, and each of its queries gets an answer from a real Prometheus."""

import json
import re
from itertools import combinations
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from scraped import MADE_UP, ROOT, MadeUp, Scraped

pytestmark = pytest.mark.live

BOARD: dict[str, Any] = json.loads((ROOT / "packaging" / "grafana" / "tidegate.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel, target) for panel in PANELS for target in panel["targets"]]
IDS = [f"{panel['title']}-{target['refId']}" for panel, target in TARGETS]

# What Grafana puts in, for a dashboard that shows everything of the last minute.
VARIABLES = {"instance": ".*", "job_name": ".*", "__rate_interval": "1m", "__range": "1m"}
UNITS = ["none", "short", "s", "bytes", "percentunit", "dateTimeFromNow"]
# The real daemon has none of these in this world; the made-up one has.
ONLY_MADE_UP = {"Evictions-A", "What moved the limit-A", "Made up for-A"}


def strict(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """An object with these keys and no other, so that a misspelt one is seen."""
    return {
        "type": "object",
        "properties": required | optional,
        "required": list(required),
        "additionalProperties": False,
    }


TEXT = {"type": "string", "minLength": 1}
SOME_TEXT = {"type": "string"}
FLAG = {"type": "boolean"}
NUMBER = {"type": "number"}
SOURCE = strict({"type": {"const": "prometheus"}, "uid": {"const": "${datasource}"}})
RESULT = strict({"text": TEXT, "color": TEXT, "index": {"type": "integer"}})
MAPPING = {
    "oneOf": [
        strict({"type": {"const": "value"}, "options": {"type": "object", "additionalProperties": RESULT}}),
        strict(
            {
                "type": {"const": "range"},
                "options": strict(
                    {"from": {"type": ["number", "null"]}, "to": {"type": ["number", "null"]}, "result": RESULT}
                ),
            }
        ),
    ]
}
STEPS = {"type": "array", "minItems": 1, "items": strict({"color": TEXT, "value": {"type": ["number", "null"]}})}
DEFAULTS = strict(
    {"unit": {"enum": UNITS}, "color": strict({"mode": {"enum": ["thresholds", "palette-classic"]}})},
    thresholds=strict({"mode": {"const": "absolute"}, "steps": STEPS}),
    mappings={"type": "array", "items": MAPPING},
    min=NUMBER,
    max=NUMBER,
    decimals={"type": "integer"},
    custom=strict(
        {
            "drawStyle": {"enum": ["line", "bars"]},
            "lineInterpolation": {"enum": ["linear", "stepAfter"]},
            "lineWidth": NUMBER,
            "fillOpacity": NUMBER,
            "showPoints": {"const": "never"},
            "spanNulls": FLAG,
            "stacking": strict({"mode": {"enum": ["none", "normal"]}, "group": TEXT}),
        }
    ),
)
OVERRIDE = strict(
    {
        "matcher": strict({"id": {"const": "byName"}, "options": TEXT}),
        "properties": {"type": "array", "items": strict({"id": TEXT, "value": True})},
    }
)
POSITION = strict(
    {
        "h": {"type": "integer", "minimum": 1},
        "w": {"type": "integer", "minimum": 1, "maximum": 24},
        "x": {"type": "integer", "minimum": 0, "maximum": 23},
        "y": {"type": "integer", "minimum": 0},
    }
)
TARGET = strict(
    {
        "refId": {"type": "string", "pattern": "^[A-Z]$"},
        "datasource": SOURCE,
        "expr": TEXT,
        "legendFormat": SOME_TEXT,
        "instant": FLAG,
        "range": FLAG,
        "format": {"enum": ["time_series", "table"]},
    }
)
PANEL = strict(
    {
        "type": {"enum": ["stat", "timeseries", "table"]},
        "id": {"type": "integer", "minimum": 1},
        "title": TEXT,
        "description": {"type": "string", "minLength": 15, "pattern": r"\.$"},
        "datasource": SOURCE,
        "gridPos": POSITION,
        "targets": {"type": "array", "minItems": 1, "items": TARGET},
        "fieldConfig": strict({"defaults": DEFAULTS, "overrides": {"type": "array", "items": OVERRIDE}}),
        "options": {"type": "object"},
    },
    transformations={
        "type": "array",
        "items": strict({"id": {"enum": ["merge", "organize"]}, "options": {"type": "object"}}),
    },
)
ROW = strict(
    {
        "type": {"const": "row"},
        "id": {"type": "integer", "minimum": 1},
        "title": TEXT,
        "collapsed": {"const": False},
        "gridPos": POSITION,
        "panels": {"type": "array", "maxItems": 0},
    }
)
VARIABLE = {
    "type": "object",
    "required": ["name", "label", "type", "query", "refresh", "multi", "includeAll", "current", "options"],
    "properties": {"type": {"enum": ["datasource", "query"]}, "refresh": {"enum": [1, 2]}},
}
DASHBOARD = strict(
    {
        "id": {"type": "null"},  # Grafana gives it one
        "uid": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,40}$"},
        "title": TEXT,
        "description": TEXT,
        "tags": {"type": "array", "items": TEXT},
        "schemaVersion": {"type": "integer", "minimum": 36},
        "version": {"type": "integer"},
        "editable": FLAG,
        "graphTooltip": {"enum": [0, 1, 2]},
        "timezone": {"enum": ["browser", "utc", ""]},
        "refresh": TEXT,
        "time": strict({"from": TEXT, "to": TEXT}),
        "links": {"type": "array"},
        "annotations": strict({"list": {"type": "array"}}),
        "templating": strict({"list": {"type": "array", "items": VARIABLE}}),
        "panels": {"type": "array", "items": {"oneOf": [PANEL, ROW]}},
    }
)


def test_it_has_the_shape_of_a_dashboard() -> None:
    found = [
        f"{error.json_path}: {error.message}"[:300] for error in Draft202012Validator(DASHBOARD).iter_errors(BOARD)
    ]
    assert found == []


def test_ids_and_places_are_taken_once() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    titles = [(panel["title"], panel["type"]) for panel in PANELS]
    assert len(titles) == len(set(titles))
    for panel in PANELS:
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs))
    places = [panel["gridPos"] for panel in BOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


def test_every_variable_that_is_used_is_there() -> None:
    known = {variable["name"] for variable in BOARD["templating"]["list"]}
    assert known == {"datasource", "instance", "job_name"}
    used = set(re.findall(r"\$\{?(\w+)", " ".join(target["expr"] for _, target in TARGETS)))
    assert used <= known | {"__rate_interval", "__range"}


def test_it_shows_every_metric_of_the_daemon() -> None:
    """But for those that say in another way what is shown."""
    text = "\n".join(target["expr"] for _, target in TARGETS)
    families = set(re.findall(r"^# TYPE (tidegate_\w+)", exposition(), re.M))
    not_shown = {name for name in families if name not in text}
    assert not_shown == {
        "tidegate_job_created_timestamp_seconds",  # in the variable
        "tidegate_job_expected_duration_seconds",
        "tidegate_history_failing",
        "tidegate_config_last_reload_timestamp_seconds",
    }


def exposition() -> str:
    made_up = MadeUp()
    try:
        return made_up.exposition().decode()
    finally:
        made_up.close()


def substituted(expression: str, **values: str) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda found: (VARIABLES | values)[found[1]], expression)


@pytest.mark.parametrize(("panel", "target"), TARGETS, ids=IDS)
def test_its_query_is_answered(world: Scraped, panel: dict[str, Any], target: dict[str, Any]) -> None:
    assert world.query(substituted(target["expr"])), "nothing at all"
    name = f"{panel['title']}-{target['refId']}"
    whose = MADE_UP if name in ONLY_MADE_UP else "daemon"
    assert world.query(substituted(target["expr"], instance=whose)), f"nothing of {whose}"


@pytest.mark.parametrize(("panel", "target"), TARGETS, ids=IDS)
def test_its_legend_names_what_tells_the_lines_apart(
    world: Scraped, panel: dict[str, Any], target: dict[str, Any]
) -> None:
    if target["format"] == "table":
        return
    rows = world.query(substituted(target["expr"]))
    legends = [
        re.sub(r"\{\{(\w+)\}\}", lambda found, labels=labels: labels.get(found[1], ""), target["legendFormat"])
        for labels, _ in rows
    ]
    assert len(legends) == len(set(legends)), legends


def test_its_variables_have_values(world: Scraped) -> None:
    for variable in BOARD["templating"]["list"]:
        if variable["type"] != "query":
            continue
        asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
        assert asked, variable["query"]
        rows = world.query(substituted(asked[1]))
        assert len({labels[asked[2]] for labels, _ in rows}) >= 2
