"""One fact, one line: its level, its sentence, its fields, and nothing in it that could steer a terminal."""

import json
import struct
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.model.command import Fact, Record
from tidegate.model.plan import Diff
from tidegate.model.run import Outcome, Run, Skip, State, Usage
from tidegate.telemetry.formats import VALUE_CHARS_MAX, Console, Json, clean, level_name
from tidegate.telemetry.journal import datagram, field_name, priority
from tidegate.telemetry.line import (
    DEBUG,
    ERROR,
    INFO,
    LOUDEST,
    WARNING,
    Line,
    duration,
    line_of,
    reload_text,
    size,
)

T0 = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)


def record(fact: Fact, *, job: str = "backup", reason: str = "", **changes: Any) -> Record:
    rest = {key: changes.pop(key) for key in ("lateness_s", "wait_s", "count") if key in changes}
    run = Run(**{"run_id": "01k0", "job": job, "scheduled_at": T0, "queued_at": T0, "reason": reason, **changes})
    return Record(fact=fact, at=T0, job=job, run=run, reason=reason, **rest)


def finished(outcome: Outcome, **changes: Any) -> Record:
    return record(Fact.RUN_FINISHED, state=State.FINISHED, outcome=outcome, **changes)


def parse(data: bytes) -> dict[str, str]:
    """journald's side of the native protocol."""
    fields: dict[str, str] = {}
    while data:
        head, _, rest = data.partition(b"\n")
        if b"=" in head:
            key, _, value = head.partition(b"=")
            data = rest
        else:
            key, length = head, struct.unpack("<Q", rest[:8])[0]
            value, data = rest[8 : 8 + length], rest[8 + length :]
            assert data[:1] == b"\n"
            data = data[1:]
        assert key.decode() not in fields, f"{key!r} twice"
        fields[key.decode()] = value.decode()
    return fields


def one_json(line: Line) -> dict[str, Any]:
    data = Json().render(line)
    assert data.endswith(b"\n") and data.count(b"\n") == 1
    row = json.loads(data)
    assert isinstance(row, dict)
    return row


# --- sentences and levels ---------------------------------------------------------------------------------


def test_a_success_says_how_long_and_how_much() -> None:
    line = line_of(finished(Outcome.SUCCEEDED, duration_s=2.13, usage=Usage(1.0, 12 << 20)))
    assert (line.level, line.event, line.text) == (INFO, "run.finished", "succeeded in 2.1 s, 12 MiB peak")


def test_a_later_attempt_is_named() -> None:
    assert line_of(finished(Outcome.SUCCEEDED, duration_s=2.0, attempt=3)).text == "succeeded in 2.0 s (attempt 3)"


def test_a_failure_is_an_error_with_its_reason() -> None:
    line = line_of(finished(Outcome.FAILED, duration_s=0.4, reason="exit code 1", exit_code=1))
    assert (line.level, line.text) == (ERROR, "failed after 0.40 s: exit code 1")


def test_a_failure_that_will_be_retried_is_a_warning() -> None:
    line = line_of(
        record(Fact.RUN_RETRYING, outcome=Outcome.TIMED_OUT, duration_s=60.0, reason="too long; try 2 of 3 in 10.0 s")
    )
    assert (line.level, line.text) == (WARNING, "timed out after 1 min 0 s: too long; try 2 of 3 in 10.0 s")


def test_a_start_that_failed_needs_no_duration() -> None:
    line = line_of(finished(Outcome.FAILED_TO_START, reason="/bin/nope: no such file"))
    assert (line.level, line.text) == (ERROR, "could not start: /bin/nope: no such file")


@pytest.mark.parametrize(
    ("skip", "level"), [(Skip.OVERLAP, WARNING), (Skip.START_DEADLINE, WARNING), (Skip.PAUSED, INFO)]
)
def test_a_skip_warns_unless_a_person_arranged_it(skip: Skip, level: int) -> None:
    line = line_of(record(Fact.RUN_SKIPPED, skip=skip, reason="run 01k1 is still running", count=3))
    assert (line.level, line.text) == (level, "skipped: run 01k1 is still running")
    assert (line.fields["skip"], line.fields["count"]) == (skip.value, 3)


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("fact", list(Fact))
def test_every_fact_has_a_sentence_no_louder_than_announced(fact: Fact, outcome: Outcome) -> None:
    line = line_of(record(fact, outcome=outcome, reason="because"))
    assert line.event == fact.value
    assert line.text
    assert line.level <= LOUDEST[fact]


def test_queueing_and_starting_are_for_debugging() -> None:
    assert line_of(record(Fact.RUN_QUEUED, lateness_s=0.3)).text == "queued, 0.30 s late"
    assert line_of(record(Fact.RUN_STARTING, wait_s=12.0)).text == "starting after waiting 12 s"
    assert line_of(record(Fact.RUN_HELD, reason="waits for run 1")).level == DEBUG


def test_a_reload_names_what_changed_and_shortens_long_lists() -> None:
    assert reload_text(Diff(("a", "b"), (), ("c",), 12)) == "added a, b; removed c; 12 unchanged"
    assert reload_text(Diff(unchanged=3)) == "nothing changed (3 jobs)"
    assert reload_text(Diff(unchanged=1)) == "nothing changed (1 job)"
    assert reload_text(Diff(unchanged=1, tables=("pool",))) == "1 job unchanged; changed [pool]"
    changes = Diff(("a",), unchanged=2, tables=("daemon", "http"), restart_needed=("daemon.log_format", "http"))
    told = "added a; 2 unchanged; changed [daemon], [http]; only a restart applies [daemon] log_format, [http]"
    assert reload_text(changes) == told
    many = tuple(f"job-{number:02}" for number in range(50))
    assert reload_text(Diff(changed=many)).endswith("job-09 and 40 more; 0 unchanged")
    assert line_of(Record(fact=Fact.CONFIG_RELOADED, at=T0, diff=Diff(("a",)))).level == INFO


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0994, "99 ms"),
        (0.0996, "0.10 s"),
        (0.996, "1.0 s"),
        (9.96, "10 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (100_000, "1 d 3 h"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("bytes_", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (12 << 20, "12 MiB"), (1 << 41, "2.0 TiB")],
)
def test_sizes_read_well(bytes_: int, text: str) -> None:
    assert size(bytes_) == text


# --- forms --------------------------------------------------------------------------------------------------


def test_json_has_the_promised_fields() -> None:
    row = one_json(
        line_of(
            finished(Outcome.FAILED, duration_s=0.4, reason="exit code 7", exit_code=7, usage=Usage(0.1, 99), attempt=2)
        )
    )
    assert row == {
        "time": "2026-03-01T12:00:00.250000+00:00",
        "level": "error",
        "event": "run.finished",
        "job": "backup",
        "run_id": "01k0",
        "attempt": 2,
        "scheduled_at": "2026-03-01T12:00:00.250000+00:00",
        "outcome": "failed",
        "reason": "exit code 7",
        "exit_code": 7,
        "duration_s": 0.4,
        "memory_peak_bytes": 99,
        "message": "backup: failed after 0.40 s (attempt 2), 99 B peak: exit code 7",
    }


def test_the_journal_gets_the_same_in_capitals() -> None:
    fields = parse(datagram(line_of(finished(Outcome.FAILED, duration_s=0.4, reason="exit code 7", exit_code=7))))
    assert fields == {
        "MESSAGE": "backup: failed after 0.40 s: exit code 7",
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "tidegate",
        "TIDEGATE_EVENT": "run.finished",
        "TIDEGATE_JOB": "backup",
        "TIDEGATE_RUN_ID": "01k0",
        "TIDEGATE_ATTEMPT": "1",
        "TIDEGATE_SCHEDULED_AT": "2026-03-01T12:00:00.250000+00:00",
        "TIDEGATE_OUTCOME": "failed",
        "TIDEGATE_REASON": "exit code 7",
        "TIDEGATE_EXIT_CODE": "7",
        "TIDEGATE_DURATION_S": "0.4",
    }


def test_a_traceback_is_one_journal_field_with_its_lines() -> None:
    line = Line(at=T0, level=ERROR, event="x", text="boom", trace=("Traceback:", "  File\x1b[31m", "E: PRIORITY=0"))
    fields = parse(datagram(line))
    assert fields["TIDEGATE_EXCEPTION"] == "Traceback:\n  File\\x1b[31m\nE: PRIORITY=0"
    assert fields["PRIORITY"] == "3"


def test_journal_field_names_are_what_journald_takes() -> None:
    assert field_name("run_id") == "TIDEGATE_RUN_ID"
    assert field_name("a.b-ü=\n") == "TIDEGATE_A_B____"
    assert len(field_name("x" * 100)) == 64
    assert [priority(level) for level in (50, 40, 30, 25, 20, 10, 5)] == [2, 3, 4, 6, 6, 7, 7]
    assert [level_name(level) for level in (50, 40, 30, 25, 20, 10, 5)] == [
        "critical", "error", "warning", "info", "info", "debug", "trace",
    ]  # fmt: skip


def test_the_console_shows_time_sign_job_and_sentence() -> None:
    console = Console(colour=False)
    first = console.render(line_of(finished(Outcome.SUCCEEDED, duration_s=2.0))).decode().splitlines()
    local = T0.astimezone()
    assert first[0] == f"{local:%A, %Y-%m-%d, UTC%z}"
    assert first[1] == f"{local:%H:%M:%S} ✓ backup              succeeded in 2.0 s"
    second = console.render(line_of(finished(Outcome.FAILED, reason="exit code 1"))).decode()
    assert second == f"{local:%H:%M:%S} ✗ backup              failed: exit code 1  run 01k0\n"


def test_the_console_shows_the_moments_of_a_reason_in_the_time_of_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "run 01k0 is still running (since 2026-03-01 23:30:00 UTC)"
    skipped = Record(fact=Fact.STARTS_HELD, at=T0, reason=reason)
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Europe/Berlin")
        time.tzset()
        shown = Console(colour=False).render(line_of(skipped)).decode()
    time.tzset()
    assert "still running (since 2026-03-02 00:30:00)" in shown


def test_long_job_names_widen_the_column_for_the_lines_after_them() -> None:
    console = Console(colour=False)
    console.render(line_of(finished(Outcome.SUCCEEDED, job="a-rather-long-job-name")))
    shown = console.render(line_of(finished(Outcome.SUCCEEDED, job="b"))).decode()
    assert "b" + " " * 21 + "  succeeded" in shown


def test_only_a_coloured_console_has_escape_sequences() -> None:
    line = line_of(finished(Outcome.FAILED, reason="exit code 1"))
    assert b"\x1b[31m" in Console(colour=True).render(line)
    assert b"\x1b" not in Console(colour=False).render(line)


def test_a_latin_1_terminal_gets_plain_signs() -> None:
    shown = (
        Console(colour=False, encoding="latin-1")
        .render(line_of(finished(Outcome.SUCCEEDED, job="☃")))
        .decode("latin-1")
    )
    assert " + \\u2603" in shown


# --- threat 13 ----------------------------------------------------------------------------------------------

STEERING = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u2028\u2029\u202a\u202e\u2066\u2069\u200e\u200f\u061c",
]
texts = st.text(st.one_of(st.characters(), st.sampled_from([*STEERING, "\ud800", "\udcff"])), max_size=40)


@settings(max_examples=200, deadline=None)
@given(texts, texts, texts, texts)
def test_no_logged_value_can_steer_a_terminal_or_forge_a_line(job: str, text: str, key: str, value: str) -> None:
    fields = {"reason": value, f"x{key}": value}
    line = Line(at=T0, level=ERROR, event="x", text=text, job=job, fields=fields, trace=(value, text))
    steering = set(STEERING)

    shown = Console(colour=False).render(line).decode()
    assert not steering & set(shown.replace("\n", ""))
    assert shown.count("\n") == 4  # the date, the line, two lines of the traceback

    row = one_json(line)
    flat = [*row, *(part for part in row.values() if isinstance(part, str)), *row["exception"]]
    assert not steering & set("".join(flat))

    sent = parse(datagram(line))
    sent_trace = sent.pop("TIDEGATE_EXCEPTION")
    assert sent_trace.count("\n") == 1
    assert not steering & set("".join([*sent, *sent.values(), sent_trace.replace("\n", "")]))
    assert sent["PRIORITY"] == "3"


def test_bound_fields_cannot_pose_as_the_fixed_ones() -> None:
    line = Line(
        at=T0, level=WARNING, event="x", text="m", job="a", fields={"time": "never", "level": "debug", "message": "m2"}
    )
    row = one_json(line)
    assert (row["time"][:4], row["level"], row["message"]) == ("2026", "warning", "a: m")


def test_a_huge_value_is_cut() -> None:
    assert clean("x" * (VALUE_CHARS_MAX + 5)) == "x" * VALUE_CHARS_MAX + "… (5 more characters)"
