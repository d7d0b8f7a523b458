"""The worker's own rules: it runs in interpreters that are older than ours, and has nothing but their library."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tidegate.executors import worker_call
from tidegate.executors.keeper_worker import BOOT, PARTS, Call, number_of, read_source, text_of
from tidegate.executors.result import unfit_result
from tidegate.model import limits

FOLDER = Path(worker_call.__file__).parent
NEWER = {"removeprefix", "removesuffix", "pairwise", "to_thread", "TaskGroup", "timeout", "zip_strict", "bit_count"}


def test_its_parts_are_all_there_are() -> None:
    assert {path.stem for path in FOLDER.glob("worker*.py")} == set(PARTS)


@pytest.mark.parametrize("name", PARTS)
def test_python_3_8_can_read_it(name: str) -> None:
    tree = ast.parse((FOLDER / f"{name}.py").read_text(), feature_version=(3, 8))
    assert "from __future__ import annotations" in (FOLDER / f"{name}.py").read_text()
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not used & NEWER


def test_the_boot_text_is_one_that_python_2_refuses_with_a_sentence() -> None:
    ast.parse(BOOT, feature_version=(3, 4))
    old = subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.version_info = (3, 7)\n{BOOT}"], capture_output=True, text=True
    )
    assert old.returncode == 1
    assert old.stderr.startswith("python jobs need Python 3.8 or later, and ")


def test_all_of_it_fits_one_packet() -> None:
    assert len(read_source()) < 150_000


def test_the_worker_keeps_what_the_daemon_keeps() -> None:
    assert worker_call.RESULT_BYTES_MAX == limits.RESULT_BYTES_MAX


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": [1, 2.5, null, "ü"]}', ""),
        ("null", ""),
        ("[" * 64 + "]" * 64, ""),
        ("[" * 70 + "]" * 70, "nested more than 64 deep"),
        ("[" * 8000 + "]" * 8000, "no JSON that others can read"),
        ("[NaN]", "no JSON that others can read"),
        ("1e999", "no JSON that others can read"),
        ('"\ud800"', "no JSON that others can read"),
        (f'"{"x" * 17000}"', "17002 bytes of JSON"),
    ],
)
def test_only_json_that_everybody_can_read_is_a_result(text: str, why: str) -> None:
    found = unfit_result(text)
    assert why in found and bool(found) == bool(why)


def test_what_a_worker_says_is_taken_for_no_more_than_it_is() -> None:
    assert number_of({"cpu_s": "much"}, "cpu_s") == number_of({"cpu_s": -1}, "cpu_s") == number_of({}, "cpu_s") == 0
    assert number_of({"cpu_s": float("nan")}, "cpu_s") == number_of({"cpu_s": True}, "cpu_s") == 0
    assert text_of({"error": "x" * 10}, "error", 9) is None and text_of({"error": 5}, "error", 9) is None


def message(**changes: object) -> dict[str, object]:
    python = {
        "executor": "process", "target": "a:b", "args": [], "kwargs": {}, "python_path": [], "host_runs": 1,
        "worker_runs": 1,
    }  # fmt: skip
    env = {"PATH": "/bin", "TIDEGATE_RUN_ID": os.urandom(4).hex(), "TIDEGATE_SCHEDULED_AT": "2026-01-01T00:00:00+00:00"}
    return {"argv": ["python3"], "env": env, "cwd": "/", "umask": 18, "nice": 10, "python": python} | changes


def test_runs_share_a_worker_only_where_all_around_them_is_the_same() -> None:
    key = Call(message()).key
    assert Call(message()).key == key  # the run is another one
    birth = {"uid": 1, "gid": 1, "groups": [1], "values_path": "/run/1"}
    other = [
        Call(message(**change)).key
        for change in (
            {"argv": ["/opt/python"]}, {"env": {"PATH": "/usr/bin"}}, {"cwd": "/tmp"}, {"umask": 63}, {"nice": 5},
            {"birth": birth}, {"birth": birth | {"gid": 2}}, {"birth": {"limits": {"memory_bytes": 1}}},
        )
    ]  # fmt: skip
    assert len({key, *other}) == 9
    assert Call(message(birth=birth | {"values_path": "/run/2"})).key == Call(message(birth=birth)).key
    assert json.loads(key)[0] == "process"
