"""The JSON Schema that editors use says what the reader says."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tidegate.settings import amounts, raw, raw_daemon, raw_pool
from tidegate.settings.read import SettingsError, load
from tidegate.settings.schema import schema

DEFINITIONS = schema()["$defs"]


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(item)


def test_it_is_plain_json_and_every_reference_leads_somewhere() -> None:
    made = schema()
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(made)) == made
    references = {node["$ref"] for node in nodes(made) if "$ref" in node}
    assert references == {f"#/$defs/{name}" for name in made["$defs"]}


def test_it_serves_tidegate_toml_and_job_files() -> None:
    assert set(schema()["properties"]) == {
        *("daemon", "pool", "http", "metrics", "control", "history", "resources", "calendars", "hooks"),
        *("defaults", "jobs"),
    }
    assert schema()["required"] == []


@pytest.mark.parametrize(
    "struct",
    [
        *(raw.RawJob, raw.RawDefaults, raw.RawRetries, raw.RawWindow, raw.RawPing),
        *(raw_daemon.RawDaemon, raw_pool.RawPool, raw_daemon.RawHttp, raw_daemon.RawMetrics, raw_daemon.RawControl),
        *(raw_daemon.RawHistory, raw_daemon.RawCalendar, raw_daemon.RawHook, raw_daemon.RawMail),
    ],
)
def test_it_knows_every_key_and_no_other(struct: type) -> None:
    definition = DEFINITIONS[struct.__name__]
    assert set(definition["properties"]) == set(struct.__struct_encode_fields__)
    assert definition["additionalProperties"] is False
    assert not schema()["additionalProperties"]


def test_every_key_of_a_job_is_described() -> None:
    names = ("RawRetries", "RawWindow", "RawPing", "RawControl", "RawHistory", "RawCalendar", "RawHook", "RawMail")
    for name in ("RawJob", *names):
        for key, value in DEFINITIONS[name]["properties"].items():
            assert value.get("description"), key


def test_no_key_may_be_null() -> None:
    assert not [node for node in nodes(DEFINITIONS) if node.get("type") == "null"]


@pytest.mark.parametrize(
    "text",
    [
        "90s",
        "1h30m",
        "2d",
        "500ms",
        "1.5h",
        "1w2d3h4m5s6ms",
        "0s",
        "",
        "30",
        "30 s",
        "m",
        "1m1h",
        "-1s",
        "1s\n",
        "1e3s",
    ],
)
def test_the_pattern_of_durations_agrees_with_the_reader(text: str) -> None:
    pattern = DEFINITIONS["RawJob"]["properties"]["timeout"]["pattern"].removesuffix("$") + r"\Z"
    try:
        amounts.duration_s(text)
    except ValueError:
        assert not re.search(pattern, text)
    else:
        assert re.search(pattern, text)


@pytest.mark.parametrize("text", ["100B", "64KiB", "2GB", "1.5MiB", "1kB", "0B", "", "5", "5 MB", "5M", "-1B", "1kiB"])
def test_the_pattern_of_sizes_agrees_with_the_reader(text: str) -> None:
    pattern = DEFINITIONS["RawJob"]["properties"]["output_max"]["pattern"]
    try:
        amounts.size_bytes(text)
    except ValueError:
        assert not re.search(pattern, text)
    else:
        assert re.search(pattern, text)


@pytest.mark.parametrize("name", ["a", "_", "0", "a.b-c_d", "x" * 100, "", ".a", "-a", "a b", "ä", "x" * 101, "a/b"])
def test_the_pattern_of_names_agrees_with_the_reader(name: str, tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(f'[jobs."{name}"]\nshell = "x"\n')
    pattern = schema()["properties"]["jobs"]["propertyNames"]["pattern"]
    if re.search(pattern, name):
        assert list(load(file).jobs) == [name]
    else:
        with pytest.raises(SettingsError):
            load(file)


@pytest.mark.parametrize("name", ["A", "_b", "A1", "TIDEGATE_", "TIDEGATE_X", "1A", "A-B", "A=B", ""])
def test_the_pattern_of_variables_agrees_with_the_reader(name: str, tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(f'[jobs.x]\nshell = "x"\nenv = {{ "{name}" = "v" }}\n')
    pattern = DEFINITIONS["RawJob"]["properties"]["env"]["propertyNames"]["pattern"]
    if re.search(pattern, name):
        assert load(file).jobs["x"].env == {name: "v"}
    else:
        with pytest.raises(SettingsError):
            load(file)


def test_defaults_of_the_schema_are_the_defaults_of_the_reader(tmp_path: Path) -> None:
    bare, full = tmp_path / "bare.toml", tmp_path / "full.toml"
    bare.write_text('[jobs.x]\npython = "a:b"\n')
    lines = ['[jobs.x]\npython = "a:b"']
    for key, value in DEFINITIONS["RawJob"]["properties"].items():
        if "default" in value:
            lines.append(f"{key} = {json.dumps(value['default'])}")
    for key, value in DEFINITIONS["RawRetries"]["properties"].items():
        if "default" in value:
            lines.append(f"retries.{key} = {json.dumps(value['default'])}")
    full.write_text("\n".join(lines))
    assert len(lines) > 15
    assert load(full).jobs["x"].same_as(load(bare).jobs["x"])
