"""A real Prometheus scrapes a real daemon under load: what it holds is what happened, the queries of the docs answer as
documented, and the packaged alerts fire."""

import math
import re
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from scraped import DAEMON, ENDED, MADE_UP, ROOT, SKIPPED, UNDER_WAY, Row, Scraped

pytestmark = pytest.mark.live

PAGE = (ROOT / "docs" / "how-to" / "scrape-with-prometheus.md").read_text(encoding="utf-8")
QUESTIONS = dict(re.findall(r"^### (.*\?)\n(?:(?!^#).*\n)*?```promql\n((?:.*\n)*?)```$", PAGE, re.M))
JOBS = {"tick", "steady", "flaky", "stuck", "lost", "burn", "long", "dump", "soon", "newyear"}
SUCCEEDED = {"tick", "steady", "burn"}


def by_job(rows: list[Row]) -> dict[str, float]:
    """Of the real daemon's jobs."""
    found = {labels["job_name"]: value for labels, value in rows if labels["job_name"] != "x"}
    assert len(found) == len([row for row in rows if row[0]["job_name"] != "x"]), rows
    return found


def of_daemon(rows: list[Row], *keys: str) -> dict[tuple[str, ...], float]:
    """Of the real daemon, by these labels."""
    return of(DAEMON, rows, *keys)


def of(instance: str, rows: list[Row], *keys: str) -> dict[tuple[str, ...], float]:
    return {tuple(labels[key] for key in keys): value for labels, value in rows if labels["instance"] == instance}


# --- what each documented query must answer in this world --------------------------------------------------


def failing(world: Scraped, rows: list[Row]) -> None:
    assert by_job(rows) == dict.fromkeys({"flaky", "stuck", "lost"}, 1)


def never_succeeded(world: Scraped, rows: list[Row]) -> None:
    found = by_job(rows)
    assert set(found) == JOBS - SUCCEEDED
    assert all(0 <= time.time() - since_s < 120 for since_s in found.values())


def last_success(world: Scraped, rows: list[Row]) -> None:
    found = by_job(rows)
    assert set(found) == SUCCEEDED
    assert all(-1 < age_s < 120 for age_s in found.values())


def under_way(world: Scraped, rows: list[Row]) -> None:
    found = by_job(rows)
    assert set(found) == UNDER_WAY
    for job, running_s in found.items():
        started = next(record for record in world.daemon.seen("run.started", job=job))
        assert running_s == pytest.approx(time.time() - at_s(started), abs=5)


def due(world: Scraped, rows: list[Row]) -> None:
    found = by_job(rows)
    assert set(found) <= {"tick", "soon", "newyear"} and "soon" in found
    values = [value for _, value in rows]
    assert values == sorted(values) and values[-1] < 3600


def ends(world: Scraped, rows: list[Row]) -> None:
    found = {(labels["job_name"], labels["outcome"]): value for labels, value in rows if labels["job_name"] != "x"}
    assert found == dict(world.finished())
    assert {key: value for key, value in found.items() if key[0] != "tick"} == ENDED


def succeeded_in_an_hour(world: Scraped, rows: list[Row]) -> None:
    found = by_job(rows)
    assert set(found) == SUCCEEDED
    assert 25 <= found["steady"] <= 25 * 1.5  # stretched by up to one interval of a few
    assert 3 <= found["burn"] <= 3 * 1.5


def success_share(world: Scraped, rows: list[Row]) -> None:
    assert 0 < of_daemon(rows)[()] < 1
    assert of(MADE_UP, rows)[()] == 0


def tried_again(world: Scraped, rows: list[Row]) -> None:
    assert by_job(rows) == {"flaky": 8}


def skipped(world: Scraped, rows: list[Row]) -> None:
    assert {
        (labels["job_name"], labels["reason"]): n for labels, n in rows if labels["job_name"] not in "x tick"
    } == SKIPPED


def mean_duration(world: Scraped, rows: list[Row]) -> None:
    found = by_job(rows)
    for job in ("steady", "flaky", "stuck", "burn"):
        took = [record["duration_s"] for record in world.daemon.seen("run.finished", job=job)]
        assert found[job] == pytest.approx(sum(took) / len(took), rel=0.01), job
    assert not set(found) & UNDER_WAY


def most_stay_below(world: Scraped, rows: list[Row]) -> None:
    found = by_job(rows)
    assert 1 <= found["stuck"] <= 10
    assert 0 < found["steady"] <= 1


def mean_wait(world: Scraped, rows: list[Row]) -> None:
    found = by_job(rows)
    assert set(found) >= {"steady", "flaky", "stuck", "burn", "long", "dump"}
    assert all(0 <= wait_s < 60 for wait_s in found.values())


def on_time(world: Scraped, rows: list[Row]) -> None:
    seen = [
        of_daemon(world.query(f"max_over_time({series}[1h]) - min_over_time({series}[1h])"))[()]
        for series in (f"tidegate_fire_lateness_seconds_{one}" for one in ('bucket{le="0.1"}', "count"))
    ]
    assert of_daemon(rows)[()] == pytest.approx(seen[0] / seen[1], rel=0.01)
    assert of(MADE_UP, rows)[()] == 1


def cpu_users(world: Scraped, rows: list[Row]) -> None:
    assert len(rows) == 5
    assert by_job(rows)["burn"] >= 3 * 0.4


def memory_users(world: Scraped, rows: list[Row]) -> None:
    assert 0 < len(rows) <= 5
    assert all(value > 0 for _, value in rows)


def fullness(world: Scraped, rows: list[Row]) -> None:
    assert of_daemon(rows)[()] == pytest.approx(2 / world.daemon.metric("tidegate_pool_limit"), abs=0.3)
    assert of(MADE_UP, rows)[()] == 0.75


def resources(world: Scraped, rows: list[Row]) -> None:
    assert of_daemon(rows, "resource") == {("database",): 0.5}
    assert of(MADE_UP, rows, "resource") == {("gpu",): 0.25}


def blocked(world: Scraped, rows: list[Row]) -> None:
    assert ("pool",) in of_daemon(rows, "gate")
    blocked_s = of(MADE_UP, world.query("tidegate_admission_blocked_seconds_total"), "gate")[("memory",)]
    assert of(MADE_UP, rows, "gate")[("memory",)] == pytest.approx(blocked_s / 900, rel=0.5)


def limit_moves(world: Scraped, rows: list[Row]) -> None:
    found = of(MADE_UP, rows, "direction", "reason")
    assert set(found) == {("up", "growth"), ("down", "cpu")}
    assert all(count > 1 for count in found.values())


ANSWERS: dict[str, Callable[[Scraped, list[Row]], None]] = {
    "Which jobs are failing?": failing,
    "Which jobs never succeeded?": never_succeeded,
    "How long ago was the last success?": last_success,
    "What runs now, and since when?": under_way,
    "What is due within the hour?": due,
    "How did the runs end, since the daemon started?": ends,
    "How many runs succeeded within the last hour?": succeeded_in_an_hour,
    "What share of the runs succeeds?": success_share,
    "Which jobs are tried again and again?": tried_again,
    "Which fires were skipped, and why?": skipped,
    "How long do runs take?": mean_duration,
    "What do most runs stay below?": most_stay_below,
    "How long do runs wait for their start?": mean_wait,
    "Are fires on time?": on_time,
    "Who uses the processor?": cpu_users,
    "Who uses the memory?": memory_users,
    "How full is the pool?": fullness,
    "Which resources are short?": resources,
    "What holds runs back?": blocked,
    "What moves the limit?": limit_moves,
}


def at_s(record: dict[str, str]) -> float:
    return datetime.fromisoformat(record["time"]).timestamp()


def test_what_is_scraped_is_what_happened(world: Scraped) -> None:
    assert world.counted() == world.finished()
    assert sum(world.counted().values()) >= sum(ENDED.values()) + 3


@pytest.mark.parametrize("question", ANSWERS)
def test_the_documented_query_answers(world: Scraped, question: str) -> None:
    rows = world.query(QUESTIONS[question])
    assert rows and not any(math.isnan(value) for _, value in rows), rows
    ANSWERS[question](world, rows)


def test_every_query_of_the_docs_is_among_them() -> None:
    assert set(QUESTIONS) == set(ANSWERS)
    blocks = sum(path.read_text(encoding="utf-8").count("```promql") for path in (ROOT / "docs").rglob("*.md"))
    assert blocks == len(QUESTIONS)


def test_the_packaged_alerts_fire_for_what_went_wrong_and_for_nothing_else(world: Scraped) -> None:
    fired = {alert for alert in world.prometheus.alerts() if alert[1] in (DAEMON, "")}
    assert {alert[:3] for alert in fired} == {
        ("TidegateJobFailing", DAEMON, "flaky"),
        ("TidegateJobFailing", DAEMON, "stuck"),
        ("TidegateJobFailing", DAEMON, "lost"),
        ("TidegateJobOverrunning", DAEMON, "long"),
    }
    made_up = {alert[0] for alert in world.prometheus.alerts() if alert[1] == MADE_UP}
    assert made_up >= {"TidegateMemoryShort", "TidegateHistoryErrors", "TidegateHooksFailing", "TidegateLogRecordsLost"}


def test_no_rule_fails_when_it_is_evaluated(world: Scraped) -> None:
    rules = [rule for group in world.prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 15
    assert {rule["name"]: rule["health"] for rule in rules if rule["health"] != "ok"} == {}


@pytest.mark.parametrize("whose", [DAEMON, MADE_UP])
def test_promtool_finds_nothing_wrong_with_the_metrics(world: Scraped, whose: str, tmp_path: Path) -> None:
    text = world.daemon.get("/metrics")[1] if whose == DAEMON else world.made_up.exposition().decode()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
