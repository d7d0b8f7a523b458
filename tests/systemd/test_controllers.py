"""Runs in control groups of their own, on a kernel that has the controllers: all but io, whose weights only the words
about their absence are tested for. One boot: inside.py looks, this judges.
"""

import shutil
from typing import Any

import pytest
import uml
from package import package

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    assert shutil.which("linux.uml"), "no User-Mode Linux: apt install user-mode-linux"
    return uml.results(tmp_path_factory.mktemp("uml") / "guest", package())


def look(found: dict[str, Any], name: str) -> dict[str, Any]:
    assert name in found, found["said"]
    assert "failed" not in found[name], found[name]["failed"] + found["said"][-3000:]
    return dict(found[name])


def test_the_keeper_divides_its_group_with_the_controllers_that_are_there(found: dict[str, Any]) -> None:
    groups = look(found, "controllers")
    assert {"cpu", "memory", "pids"} <= set(groups["offered"])
    assert {"cpu", "memory", "pids"} <= set(groups["enabled"])


def test_limits_are_those_of_the_runs_own_group(found: dict[str, Any]) -> None:
    run = look(found, "limits")
    limits = dict(line.split("=") for line in run["output"].splitlines() if "=" in line)
    assert limits["memory.max"] == str(96 * MIB)
    assert limits["memory.swap.max"] in ("0", "")  # "": a kernel without swap
    assert limits["memory.oom.group"] == "1"
    assert limits["pids.max"] == "40"
    assert limits["cpu.max"] == "50000 100000"
    if limits["io.weight"]:
        assert limits["io.weight"] == "default 200"
    else:  # Debian's User-Mode Linux has no controller for it: the run goes on without, and that is told
        assert "io_weight is not kept" in found["said"]
    assert "memory_max holds for each" not in found["said"]


def test_a_kernel_oom_kill_is_told_and_ends_nobody_else(found: dict[str, Any]) -> None:
    """Row 43."""
    run = look(found, "greedy")
    assert run["outcome"] == "killed_for_memory"
    assert run["same"] and run["results"] == ["success", "success"]


def test_peak_memory_is_what_a_run_held_and_no_page_cache(found: dict[str, Any]) -> None:
    runs = look(found, "peaks")
    assert {run["outcome"] for run in runs.values()} == {"succeeded"}
    assert 40 * MIB < runs["within"]["memory_peak_bytes"] < 80 * MIB
    # In a control group from a moment after its start on, and what it held until then is counted by another one.
    assert 40 * MIB < runs["unlimited"]["memory_peak_bytes"] < 80 * MIB
    assert runs["reader"]["memory_peak_bytes"] < 20 * MIB  # it read 150


def test_pids_max_stops_a_crowd(found: dict[str, Any]) -> None:
    run = look(found, "forks")
    assert run["outcome"] == "failed"
    assert "fork" in run["output"]


def test_cpu_max_is_kept(found: dict[str, Any]) -> None:
    run = look(found, "spinner")
    assert run["outcome"] == "succeeded"
    assert run["cpu_s"] < 0.5 * run["duration_s"]  # it spins for three seconds, and may have a quarter


def test_cancel_ends_what_left_its_session_and_its_parent(found: dict[str, Any]) -> None:
    assert look(found, "tree") == {"none_left": True, "outcome": "cancelled"}


def test_a_tree_is_frozen_counted_and_thawed_by_the_kernel_and_kill_reaches_it(found: dict[str, Any]) -> None:
    told = look(found, "freeze")
    assert told.pop("containment").startswith("cgroup ")
    assert told == {"frozen": True, "thawed": True, "signal": 9, "none_left": True}


def test_a_restart_of_the_daemon_touches_no_run(found: dict[str, Any]) -> None:
    assert look(found, "restart_daemon") == {"exit": 0, "same_run": True, "exit_code": 7, "same_keeper": True}


@pytest.mark.parametrize("how", ["restart_keeper", "kill_keeper"])
def test_a_keeper_begins_again_though_its_group_was_divided(found: dict[str, Any], how: str) -> None:
    """A group that has children and controllers takes no process: systemd reports status 219/CGROUP."""
    told = look(found, how)
    assert told["left"] == ""
    assert told["outcome"] in ("failed", "unknown", "interrupted")
    assert told["works"] and not told["died_219"]
