"""What the API answers, on a real socket, around a fake daemon."""

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from api_world import World, a_run, ended, run_id, world_in

from tidegate.api import output
from tidegate.model.command import Fact
from tidegate.model.refusal import Refused
from tidegate.model.run import Outcome, State
from tidegate.model.view import of_run

pytestmark = pytest.mark.live


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_in(tmp_path) as made:
        yield made


# --- jobs -------------------------------------------------------------------------------------------------


def test_jobs_are_listed_whole_in_their_order(world: World) -> None:
    listed = world.json("/api/v1/jobs")
    assert [job["name"] for job in listed["items"]] == ["backup", "quiet", "journaled"] and listed["next"] is None
    many = {f"job{number}": world.control.definitions["backup"] for number in range(1234)}
    world.control.definitions = many
    assert [job["name"] for job in world.json("/api/v1/jobs")["items"]] == list(many)
    world.control.definitions = {}
    assert world.json("/api/v1/jobs")["items"] == []


def test_a_job_is_shown_with_its_definition_and_without_its_secrets(world: World) -> None:
    shown = world.json("/api/v1/jobs/backup")
    assert shown["schedule"] == "15 2 * * *" and shown["definition"]["command"] == ["pg_dump"]
    assert shown["definition"]["env"] == {"PGPASSWORD": "***", "LANG": "C"}
    assert shown["definition"]["ping"]["start"] == "https://hc-ping.com/***"
    assert "hunter2" not in json.dumps(shown) and "secret-uuid" not in json.dumps(shown)
    assert 'no job "nope"' in world.json("/api/v1/jobs/nope", status=404)["detail"]


def test_a_job_is_triggered_with_arguments_and_the_asker_is_on_record(world: World) -> None:
    body = {"args": {"day": "monday"}, "request_id": "r-1"}
    assert world.json("/api/v1/jobs/backup/runs", "POST", body, 202)["request_id"] == "r-1"
    [(_, job, by, args, request_id)] = world.control.asked
    assert (job, args, request_id) == ("backup", {"day": "monday"}, "r-1") and "pid " in by
    skipped = world.json("/api/v1/jobs/quiet/runs", "POST", status=202)
    assert (skipped["state"], skipped["skip"], skipped["reason"]) == ("skipped", "paused", "it is paused")


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"{", 422, "body is wrong"),
        (b"\xff", 422, "body is wrong"),
        ({"arguments": {}}, 422, "arguments"),
        (
            {"args": {"a b": "x"}},
            422,
            "digits and _, not beginning with a digit - as the name of an argument",
        ),
        ({"args": {"PATH=x;": "x"}}, 422, "args"),
        ({"args": {"a": "x\x00y"}}, 422, "text without NUL characters"),
        ({"args": {"a": 1}}, 422, "args"),
        ({"args": {f"a{number}": "" for number in range(65)}}, 422, "args"),
        ({"args": {"a": "x" * 5000}}, 422, "args"),
        ({"request_id": ""}, 422, "request_id"),
        ({"request_id": "a\nb"}, 422, "printable ASCII characters without spaces - at `$.request_id`"),
        ({"command": ["sh", "-c", "id"]}, 422, "command"),
        ([], 422, "body is wrong"),
    ],
)
def test_a_wrong_body_starts_nothing_and_is_told_where(world: World, body: object, status: int, word: str) -> None:
    assert word in world.json("/api/v1/jobs/backup/runs", "POST", body, status)["detail"]
    assert world.control.asked == []


def test_a_form_is_not_json(world: World) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    world.json("/api/v1/jobs/backup/runs", "POST", b"a=b", 415, headers=headers)
    assert world.control.asked == []


def test_pause_resume_and_reload_reach_the_daemon(world: World) -> None:
    assert world.json("/api/v1/jobs/backup/pause", "POST")["name"] == "backup"
    assert world.json("/api/v1/jobs/backup/resume", "POST")["name"] == "backup"
    assert world.json("/api/v1/reload", "POST")["ok"] is True
    world.control.reload_ok = False
    refused = world.json("/api/v1/reload", "POST", status=422)
    assert (refused["ok"], refused["problems"]) == (False, ["jobs.d/a.toml:7: no"])
    assert [asked[0] for asked in world.control.asked] == ["pause", "resume", "reload", "reload"]
    for door in ("runs", "pause", "resume"):
        world.json(f"/api/v1/jobs/nope/{door}", "POST", status=404)


@pytest.mark.parametrize(
    ("kind", "status"), [("not_found", 404), ("conflict", 409), ("unavailable", 503), ("invalid", 422)]
)
def test_what_the_daemon_refuses_is_a_problem_with_its_sentence(world: World, kind: str, status: int) -> None:
    world.control.refusal = Refused(kind, "not today")  # type: ignore[arg-type]  # each of the kinds in turn
    answer = world.json("/api/v1/jobs/backup/runs", "POST", status=status)
    assert (answer["status"], answer["detail"]) == (status, "not today")


def test_a_bug_is_a_500_without_details(world: World) -> None:
    world.control.refusal = ZeroDivisionError("secret detail")
    answer = world.ask("/api/v1/jobs/backup/runs", "POST")
    assert answer[0] == 500 and b"secret" not in answer[2] and b"Traceback" not in answer[2]
    assert world.ask("/health")[0] == 200


# --- runs -------------------------------------------------------------------------------------------------


def test_runs_are_paged_by_cursor_newest_first(world: World) -> None:
    world.remember(*(ended(number) for number in range(25)))
    seen, cursor = [], ""
    while True:
        page = world.json(f"/api/v1/runs?limit=10{cursor}")
        seen += [run["run_id"] for run in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == [run_id(number) for number in reversed(range(25))]


def test_runs_are_filtered(world: World) -> None:
    world.remember(ended(1), ended(2, outcome=Outcome.FAILED), ended(3, "quiet"))

    def ids(query: str) -> list[int]:
        return [int(run["run_id"]) for run in world.json(f"/api/v1/runs?{query}")["items"]]

    assert ids("outcome=failed") == [2] and ids("job=quiet") == [3] and ids("job=gone") == []
    assert ids("since=2026-03-01T12:00:02Z") == [3, 2]
    assert ids("until=2026-03-01T13:00:01%2B01:00") == [1]
    assert ids("until=2026-03-01T13:00:01+01:00") == [1]  # as most clients write it
    assert ids("state=finished&limit=1") == [3]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "limit=x", "color=red", "job=a&job=b", "since=2026-03-01T12:00:00", "since=yesterday",
     "state=done", "outcome=great", "job="],
)  # fmt: skip
def test_a_wrong_parameter_is_told(world: World, query: str) -> None:
    assert "the parameters here: job, outcome" in world.json(f"/api/v1/runs?{query}", status=400)["detail"] or (
        "twice" in world.json(f"/api/v1/runs?{query}", status=400)["detail"]
    )


@pytest.mark.parametrize("cursor", ["x", "%00", "cnVuczo", "LTE", "cnVuczoxMjM0NTY3ODkwMTIzNDU2Nzg5MA", "'--"])
def test_a_forged_cursor_is_refused(world: World, cursor: str) -> None:
    assert "none of ours" in world.json(f"/api/v1/runs?cursor={cursor}", status=422)["detail"]


def test_a_listing_is_never_behind_what_happened(world: World) -> None:
    """History lingers before it writes: what it does not have yet, or has as it was, is shown as it is."""
    world.remember(ended(1), a_run(2, state=State.STARTING), a_run(3, state=State.RUNNING))
    world.control.live[run_id(2)] = a_run(2, state=State.RUNNING)
    newest = a_run(4)
    world.do(lambda: world.control.tell(Fact.RUN_QUEUED, newest))
    world.control.live[run_id(4)] = newest
    world.do(lambda: world.control.tell(Fact.RUN_FINISHED, ended(3, outcome=Outcome.FAILED)))
    listed = world.json("/api/v1/runs")["items"]
    assert [(int(run["run_id"]), run["state"]) for run in listed] == [
        (4, "queued"),
        (3, "finished"),
        (2, "running"),
        (1, "finished"),
    ]
    assert [int(run["run_id"]) for run in world.json("/api/v1/runs?state=running")["items"]] == []
    assert [int(run["run_id"]) for run in world.json("/api/v1/runs?outcome=failed")["items"]] == [3]


def test_unwritten_runs_do_not_make_a_page_longer_and_hide_no_old_one(world: World) -> None:
    world.remember(*(ended(number) for number in range(10)))
    for number in range(10, 13):
        world.do(lambda number=number: world.control.tell(Fact.RUN_QUEUED, a_run(number)))
    first = world.json("/api/v1/runs?limit=5")
    rest = world.json(f"/api/v1/runs?limit=100&cursor={first['next']}")
    assert len(first["items"]) == 5
    assert [int(run["run_id"]) for run in first["items"] + rest["items"]] == list(reversed(range(13)))


def test_a_run_is_shown_with_its_attempts(world: World) -> None:
    world.remember(ended(1, attempt=2), ended(2))
    assert [attempt["outcome"] for attempt in world.json(f"/api/v1/runs/{run_id(1)}")["attempts"]] == ["failed"]
    assert world.json(f"/api/v1/runs/{run_id(2)}")["attempts"] == []
    world.json(f"/api/v1/runs/{run_id(3)}", status=404)


def test_a_live_run_is_shown_while_history_cannot_be_read(world: World) -> None:
    world.control.live[run_id(1)] = a_run(1, state=State.RUNNING)
    world.trouble.append(sqlite3.OperationalError("disk I/O error"))
    assert world.json(f"/api/v1/runs/{run_id(1)}")["state"] == "running"
    for path in ("/api/v1/runs", f"/api/v1/runs/{run_id(2)}"):
        assert "history cannot be read" in world.json(path, status=503)["detail"]
    world.trouble.clear()
    assert world.json("/api/v1/runs")["items"] == []


def test_a_run_is_cancelled_once(world: World) -> None:
    world.control.live[run_id(1)] = a_run(1, state=State.RUNNING)
    world.remember(ended(2))
    assert world.json(f"/api/v1/runs/{run_id(1)}/cancel", "POST", status=202)["run_id"] == run_id(1)
    assert "ended already: succeeded" in world.json(f"/api/v1/runs/{run_id(2)}/cancel", "POST", status=409)["detail"]
    world.json(f"/api/v1/runs/{run_id(3)}/cancel", "POST", status=404)
    assert [asked[:2] for asked in world.control.asked] == [("cancel", run_id(1))]


def test_why_tells_decisions(world: World) -> None:
    [item] = world.json("/api/v1/why?job=backup&at=2026-03-01T12:00:00Z")["items"]
    assert (item["fact"], item["reason"]) == ("run.skipped", "it was paused")
    assert [item["fact"] for item in world.json("/api/v1/why?job=quiet")["items"]] == ["history.none"]
    world.json("/api/v1/why?job=gone", status=404)
    world.json("/api/v1/why", status=400)


def test_the_pool_shows_what_runs_and_what_each_waits_for(world: World) -> None:
    world.control.live = {run_id(1): a_run(1, state=State.RUNNING), run_id(2): a_run(2)}
    pool = world.json("/api/v1/pool")
    assert pool["pool"]["limit"] == 2 and [run["run_id"] for run in pool["running"]] == [run_id(1)]
    assert [(waits["run"]["run_id"], waits["gate"]) for waits in pool["waiting"]] == [(run_id(2), "pool")]
    assert pool["resources"][0]["holdings"][0]["holder"] == "run 1"


# --- output -----------------------------------------------------------------------------------------------


def printed(world: World, number: int, text: bytes, job: str = "backup") -> str:
    folder = world.control.state_dir / "output" / job
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{run_id(number)}.log").write_bytes(text)
    world.remember(ended(number, job))
    return f"/api/v1/runs/{run_id(number)}/output"


def test_output_is_given_as_bytes_and_as_nothing_a_browser_runs(world: World) -> None:
    text = b"<script>alert(1)</script>\x1b[31m\xff\x00" + b"x" * 200_000
    path = printed(world, 1, text)
    status, headers, body = world.ask(path)
    assert (status, body) == (200, text)
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["tidegate-run-ended"] == "true" and headers["accept-ranges"] == "bytes"
    status, headers, body = world.ask(path, "HEAD")
    assert (status, body, headers["content-length"]) == (200, b"", str(len(text)))


@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        ("bytes=0-3", 206, b"0123"),
        ("bytes=4-", 206, b"456789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=-99", 200, b"0123456789"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=0-", 200, b"0123456789"),
        ("bytes=0-1,4-5", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
        ("bytes=5-2", 200, b"0123456789"),
        ("bytes=-", 200, b"0123456789"),
        ("bytes=10-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=99999999999999999-", 416, None),
    ],
)
def test_ranges_of_output(world: World, asked: str, status: int, expected: bytes | None) -> None:
    found, headers, body = world.ask(printed(world, 1, b"0123456789"), headers={"Range": asked})
    assert found == status
    if expected is None:
        assert headers["content-range"] == "bytes */10" and headers["tidegate-run-ended"] == "true"
    else:
        assert body == expected and headers["content-length"] == str(len(expected))
        assert ("content-range" in headers) == (status == 206)


def test_output_of_a_live_run_says_that_more_may_come(world: World) -> None:
    path = printed(world, 1, b"so far")
    world.control.live[run_id(1)] = a_run(1, state=State.RUNNING)
    assert world.ask(path)[1]["tidegate-run-ended"] == "false"
    assert world.ask(path, headers={"Range": "bytes=6-"})[1]["tidegate-run-ended"] == "false"


def test_a_run_that_said_nothing_has_empty_output_and_a_discarded_one_says_so(world: World) -> None:
    world.remember(ended(1), ended(2, "quiet"), ended(3, "removed-job"))
    assert world.ask(f"/api/v1/runs/{run_id(1)}/output")[::2] == (200, b"")
    assert "discard" in world.json(f"/api/v1/runs/{run_id(2)}/output", status=404)["detail"]
    assert world.ask(f"/api/v1/runs/{run_id(3)}/output")[::2] == (200, b"")


def test_output_in_the_journal_is_read_there_or_it_is_said_what_to_install(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.remember(ended(1, "journaled", pid=7))
    monkeypatch.setattr(output, "journal_text", lambda run: f"line of {run.job}\n".encode())
    assert world.ask(f"/api/v1/runs/{run_id(1)}/output")[2] == b"line of journaled\n"

    def missing(run: object) -> bytes:
        raise output.NoJournalError

    monkeypatch.setattr(output, "journal_text", missing)
    assert "tidegate[systemd]" in world.json(f"/api/v1/runs/{run_id(1)}/output", status=501)["detail"]


@pytest.mark.parametrize(
    "forged",
    ["..%2f..%2fetc%2fpasswd", "%2e%2e", "000000000000000", "00000000000000000", "000000000000000u",
     "0000000000000\x20", "0000000000000%00%00%00", "../../../../etc/x", "000000000000000l"],
)  # fmt: skip
def test_an_id_that_is_none_opens_nothing(world: World, forged: str) -> None:
    """Threat 9."""
    secret = world.control.state_dir / "secret.log"
    secret.write_text("secret")
    world.past[unquote(forged)] = of_run(ended(1))  # even if such a row stood in history
    answer = world.ask(f"/api/v1/runs/{forged.replace(' ', '%20')}/output")
    assert answer[0] == 404 and b"secret" not in answer[2]


def test_links_and_pipes_in_the_output_folder_are_not_followed(world: World) -> None:
    """Threat 9: what a job of another user might put there, were it able to."""
    secret = world.control.state_dir / "secret"
    secret.mkdir()
    (secret / f"{run_id(1)}.log").write_text("secret")
    path = printed(world, 2, b"")
    folder = world.control.state_dir / "output"
    (folder / "backup" / f"{run_id(1)}.log").symlink_to(secret / f"{run_id(1)}.log")
    (folder / "linked").symlink_to(secret)
    os.mkfifo(folder / "backup" / f"{run_id(3)}.log")
    world.remember(ended(1), ended(3), ended(4, "linked"))
    for number in (1, 3):
        answer = world.json(f"/api/v1/runs/{run_id(number)}/output", status=503)
        assert "cannot be opened" in answer["detail"]
    (secret / f"{run_id(4)}.log").write_text("secret")
    assert world.ask(f"/api/v1/runs/{run_id(4)}/output")[0] == 503
    assert world.ask(path)[0] == 200


def test_the_document_is_served(world: World) -> None:
    assert world.json("/api/openapi.json")["openapi"] == "3.1.0"
