"""The goals of the pool are computed from raw results as they are meant, and the raw results from logs."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.bench import claims, report
from tests.bench.pool import cell, company, daemons, goals, loads, makespans, plots, sections
from tests.bench.pool.contenders import Timing
from tests.bench.pool.names import BURST_MOST, CROWDED, DAEMON, IDLE, LOAD, NAIVE, ORACLE, OURS


def row(ours_s: float, oracle_s: float, **others: float) -> dict[str, Any]:
    times = {OURS: [ours_s, 99.0, ours_s], ORACLE: [oracle_s] * 3} | {name: [took] for name, took in others.items()}
    limits = {OURS: [[0.0, 2], [1.0, 8]]}
    return {"words": "w", "best": 8, "search_s": {"8": 1.0}, "elapsed_s": times, "cut": [], "limits": limits}


def one_pass(**changed: Any) -> dict[str, Any]:
    found = {"ended": 60, "bad": [], "evicted": 0, "frozen": 1, "worked_s": 100.0, "wasted_s": 0.5, "elapsed_s": 50.0}
    return found | {"oom_kills": 0, "used_mib": [[0.2, 100.0], [0.4, 900.0]]} | changed


def memory(**hogs: Any) -> dict[str, Any]:
    fixed = {"2": {"elapsed_s": 80.0, "oom_kills": 0}, "4": {"elapsed_s": 30.0, "oom_kills": 3}}
    told = {"words": "w", "cold": [one_pass()], "warm": [one_pass()], "fixed": fixed} | hogs
    small = one_pass(count=60, standstill_s=1.0)
    trace = {"running": [[0.5, 9.0], [1.5, 5.0], [2.5, 9.0]], "oom_kills": 0, "evicted": 0}
    return {"hogs": told, "ordinary": {"256 MiB": small}, "neighbour": trace | phases(2.0, 6.0)}


def phases(came_s: float, left_s: float) -> dict[str, Any]:
    return {"comes_s": 1, "leaves_s": 2, "ends_s": 3, "settled_s": [came_s, left_s]}


def in_company() -> dict[str, Any]:
    trace = [[0.0, 2], [3.0, 11], [30.0, 18]]
    return {
        "neighbour": {"limits": [[1.0, 12], [2.0, 5], [3.0, 12]], "words": "w"} | phases(3.0, 5.1),
        "burst": {"best": 12, "limits": trace, "in_3_s": 11, "most": 19, "turns": 2, "steady_s": 60.0},
        "steady": {"limits": trace, "turns": 3, "steady_s": 60.0},
        "beside": {
            "ms": {IDLE: [[1.0, 1.0]], DAEMON: [[1.0, 3.9]], CROWDED: [[9.0, 50.0]]},
            "period_s": 0.02,
            "cpu_s": 0.001,
        },
        "overhead": {"running": 100, "ended": 0, "used_s": 0.29, "span_s": 60.0},
    }


def met(found: Any) -> dict[str, bool]:
    return {goal: good for goal, _, good in found}


def test_makespans_are_judged_by_medians_beside_the_oracle_and_the_rule():
    raw = {"cpu": row(10.2, 10.0, **{NAIVE: 13.0}), "sleep": row(10.9, 10.0, **{LOAD: 10.0})}
    assert met(goals.makespans(raw)) == {
        "CPU: ≤ 1.03 × the best fixed size": True,
        "CPU: ≥ 1.35 × faster than the 80 % rule": False,
        "sleep: ≤ 1.08 × the best fixed size": False,
        "sleep: ≤ 1.1 × GNU parallel --load": True,
    }


def test_the_oracle_of_hogs_is_a_size_under_which_the_kernel_kills_none():
    assert goals.oracle_s(memory()["hogs"]) == 80.0
    assert all(good for goal, good in met(goals.memory(memory())).items() if goal.startswith("hogs"))


@pytest.mark.parametrize(
    ("changed", "goal"),
    [
        ({"oom_kills": 1}, "hogs, warm: 0 kernel OOM kills, none fails"),
        ({"bad": ["killed for memory"]}, "hogs, warm: 0 kernel OOM kills, none fails"),
        ({"wasted_s": 1.5}, "hogs, warm: wasted work ≤ 1%"),
        ({"elapsed_s": 93.0}, "hogs, warm: ≤ 1.15 × the best fixed size that survives"),
    ],
)
def test_a_pass_that_went_wrong_meets_no_goal(changed, goal):
    found = met(goals.memory(memory(warm=[one_pass(**changed)])))
    assert found[goal] is False
    assert all(good for other, good in found.items() if other.startswith("hogs") and other != goal)


@pytest.mark.parametrize("changed", [{"evicted": 1}, {"oom_kills": 1}, {"ended": 59}, {"standstill_s": 10.0}])
def test_ordinary_jobs_must_all_run_without_a_kill_or_a_standstill(changed):
    raw = memory()
    raw["ordinary"]["256 MiB"] |= changed
    assert [good for goal, good in met(goals.memory(raw)).items() if goal.startswith("ordinary")] == [False]


def test_company_is_judged_by_its_limits():
    assert list(met(goals.company(in_company())).values()) == [True, False, True, False, True, False, True, True]


def test_a_pool_that_was_narrow_before_the_neighbour_came_has_settled_nothing():
    raw = in_company()
    raw["neighbour"]["limits"] = [[1.0, 1], [2.0, 1], [3.0, 1]]
    raw["neighbour"] |= phases(0.0, 0.0)
    assert [good for goal, good in met(goals.company(raw)).items() if goal.startswith("two CPU hogs")] == [False] * 2


def test_the_mean_over_all_loads_is_geometric_and_takes_in_the_hogs():
    raw = {"pool": {"cpu": row(10.0, 10.0), "mixed": row(12.1, 10.0)}, "pool_memory": memory()}
    (_, mean, _), (_, worst, far) = goals.overall(raw)
    assert mean == "0.911 over 3 loads"
    assert (worst, far) == ("1.210", False)


def test_everything_has_its_place_in_the_report_and_its_picture(tmp_path: Path):
    results = {"pool": {"cpu": row(1, 1)}, "pool_memory": memory(), "pool_company": in_company()}
    machine = dict.fromkeys(("at", "commit", "cores", "cpu", "memory_gib", "kernel", "python", "load_1min"), "x")
    kept = {part: {"machine": machine, "took_s": 1.0, "data": data} for part, data in results.items()}
    text = report.render(json.loads(json.dumps(kept)))
    assert "## Pool: memory" in text and "geometric mean" in text
    plots.draw(kept, tmp_path)
    for part in results:
        assert f"](results/{part}.png)" in text
        assert (tmp_path / f"{part}.png").stat().st_size > 10_000
    assert len(claims.claims(kept)) == 20


def test_a_rival_that_was_cut_is_shown_as_longer():
    one = row(1.0, 1.0, **{LOAD: 20.0}) | {"cut": [LOAD]}
    assert "> 20.00" in sections.makespans({"sleep": one})
    assert "more than 20.00 s" in next(text for goal, text, _ in goals.makespans({"sleep": one}) if "parallel" in goal)


def test_the_best_size_is_the_smallest_that_is_as_good():
    assert makespans.smallest({2: 20.0, 8: 10.2, 12: 10.0, 24: 10.1}) == 8


def test_every_other_round_goes_backwards():
    order: list[str] = []

    def run(name: str) -> Timing:
        order.append(name)
        return Timing(1.0, [])

    makespans.rounds(loads.cpu(1, 0.1), {"a": lambda: run("a"), "b": lambda: run("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]


def test_loads_are_the_same_for_everybody():
    assert loads.hogs(60) == loads.hogs(60)
    assert sum(float(span) for _, span in loads.cpu(200, 0.5).commands) == pytest.approx(100, rel=0.02)
    one = loads.mixed(400, 1.0).commands
    shares = [sum(float(span) for kind, span in zip(c[::2], c[1::2], strict=True) if kind == "cpu") for c in one]
    assert sum(shares) == pytest.approx(80, rel=0.02)
    for _, peak, ramp, rest in loads.hogs(60).commands:
        assert loads.CELL_BYTES / 80 <= int(peak) <= loads.CELL_BYTES * 3 / 8
        assert int(ramp) <= loads.GIB and float(rest) > 0


class Log:
    """A daemon that has left this log."""

    def __init__(self, *events: tuple[float, str, str]) -> None:
        self._events = events

    def records(self, event: str) -> list[dict[str, object]]:
        return [
            {"time": f"2026-01-01T00:00:{at_s:09.6f}+00:00", "event": word, "run_id": run, "outcome": "succeeded"}
            for at_s, word, run in self._events
            if word == event
        ]


def test_work_done_twice_is_what_evicted_attempts_worked_and_frozen_time_is_no_work():
    log: Any = Log(
        (1, "run.started", "a"),
        (1, "run.started", "b"),
        (3, "run.frozen", "b"),
        (5, "run.evicted", "b"),
        (6, "run.started", "b"),
        (7, "run.frozen", "b"),
        (9, "run.thawed", "b"),
        (11, "run.finished", "a"),
        (12, "run.finished", "b"),
    )
    found = daemons.account(log)
    assert (found["ended"], found["evicted"], found["frozen"]) == (2, 1, 2)
    assert found["wasted_s"] == pytest.approx(2)
    assert found["worked_s"] == pytest.approx(10 + 2 + 4)
    assert goals.wasted(found) == pytest.approx(2 / 16)
    began_s = daemons.at_s({"time": "2026-01-01T00:00:00+00:00"})
    trace = daemons.running(log, 2.0, began_s)
    assert trace == [(2.0, 1.0), (4.0, 2.0), (6.0, 1.5), (8.0, 2.0), (10.0, 2.0), (12.0, 1.5), (14.0, 0.0)]


def test_a_cell_is_made_where_the_memory_controller_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cell, "own_v1", lambda: None)
    monkeypatch.setattr(cell, "V2", tmp_path)
    assert cell.home() is None
    (tmp_path / "cgroup.subtree_control").write_text("cpu io\n")
    assert cell.home() is None
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory io\n")
    assert cell.home() == (tmp_path, True)


def test_no_burst_is_judged_by_more_than_the_oracle_may_have():
    assert company.BURST_MOST is BURST_MOST
    assert max(loads.mixed(1, 1.0).sizes) == BURST_MOST
