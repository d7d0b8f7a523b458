"""What is told, in each of its forms, and which values must not get out of theirs."""

import asyncio
import os
import socket
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from tidegate.hooks.lane import Lane
from tidegate.hooks.mail import message_of, server_of
from tidegate.hooks.notice import Notice, Occasion, json_of, variables_of
from tidegate.hooks.sending import Sent, trouble
from tidegate.hooks.tail import BYTES_MAX, LINES_MAX, last_lines
from tidegate.model.job import HookLists
from tidegate.model.limits import HOOK_QUEUE_MAX, HOOK_RETRY_S_MAX
from tidegate.model.plan import Mail
from tidegate.model.run import Outcome, Run, State

T0 = datetime(2026, 3, 2, 12, tzinfo=UTC)
RUN = Run(
    run_id="r1", job="backup", scheduled_at=T0, queued_at=T0, started_at=T0, ended_at=T0, state=State.FINISHED,
    outcome=Outcome.TIMED_OUT, exit_code=3, duration_s=1.5, reason="too slow",
)  # fmt: skip
FAILURE = Notice(event=Occasion.FAILURE, job="backup", at=T0, run=RUN, reason="too slow")
ABSENCE = Notice(event=Occasion.ABSENCE, job="backup", at=T0, reason="none in two periods")


def test_there_is_an_occasion_for_each_list_of_hooks() -> None:
    assert {one.value for one in Occasion} - {"start"} == set(HookLists.__struct_fields__)


def test_a_webhook_gets_the_run_as_everybody_sees_it() -> None:
    body = msgspec.json.decode(json_of(FAILURE, "box"))
    assert (body["event"], body["job"], body["host"], body["reason"]) == ("failure", "backup", "box", "too slow")
    assert body["text"] == "backup timed out: too slow (box)"
    assert body["at"] == "2026-03-02T12:00:00Z"
    assert (body["run"]["run_id"], body["run"]["outcome"], body["run"]["exit_code"]) == ("r1", "timed_out", 3)
    assert body["version"]


def test_an_absence_has_no_run() -> None:
    assert msgspec.json.decode(json_of(ABSENCE, "box"))["run"] is None
    assert variables_of(ABSENCE)["TIDEGATE_RUN"] == "null"
    assert variables_of(ABSENCE)["TIDEGATE_RUN_ID"] == ""


def test_a_command_gets_the_same_in_variables() -> None:
    given = variables_of(FAILURE)
    assert given["TIDEGATE_EVENT"] == "failure"
    assert given["TIDEGATE_OUTCOME"] == "timed_out"
    assert given["TIDEGATE_EXIT_CODE"] == "3"
    assert msgspec.json.decode(given["TIDEGATE_RUN"])["job"] == "backup"


def test_each_message_has_a_key_of_its_own_that_its_tries_share() -> None:
    retry = Notice(event=Occasion.RETRY, job="backup", at=T0, run=RUN)
    assert len({FAILURE.key, ABSENCE.key, retry.key}) == 3


def test_no_value_adds_a_header_to_a_mail_or_steers_a_terminal() -> None:
    hostile = Notice(event=Occasion.FAILURE, job="a\r\nBcc: x@example.org", at=T0, run=RUN, reason="\x1b[2J\nfrom: y")
    message = message_of(hostile, Mail(to=("ops@example.org",)), "box\nEvil: 1", ["ok"])
    assert message["Bcc"] is None and message["Evil"] is None
    assert "\x1b" not in message.as_string()
    assert "\n" not in message["Subject"]


def test_a_mail_says_what_a_person_needs() -> None:
    message = message_of(FAILURE, Mail(to=("a@example.org", "b@example.org")), "box", ["last words"])
    assert message["Subject"] == "[box] backup timed out: too slow"
    assert message["From"] == "tidegate@box"
    assert message["To"] == "a@example.org, b@example.org"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"] == "<failure-backup-r1-1@box>"
    text = message.get_content()
    assert "    last words\n" in text and "exit code: 3" in text and "tidegate logs r1" in text


@pytest.mark.parametrize(
    ("written", "server"),
    [
        ("mail:587", ("mail", 587)),
        ("mail", ("mail", 25)),
        ("[::1]:2525", ("::1", 2525)),
    ],
)
def test_a_mail_server_is_host_and_port(written: str, server: tuple[str, int]) -> None:
    assert server_of(written) == server


# --- the last lines -----------------------------------------------------------------------------------------


def test_the_last_lines_are_the_last_ones_escaped_and_bounded(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"line %d\n" % number for number in range(100)) + b"\x1b[31mred\xff\r\n")
    lines = last_lines(path)
    assert len(lines) == LINES_MAX
    assert lines[-1] == "\\x1b[31mred�"
    assert lines[0] == "line 61"


def test_one_endless_line_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * (3 * BYTES_MAX))
    assert len(last_lines(path)) == 1
    assert len(last_lines(path)[0]) < 600


def test_what_is_no_file_of_a_run_is_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (tmp_path / "link").symlink_to(secret)
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo", "nothing", "."):
        assert last_lines(tmp_path / name) == []


# --- the line -----------------------------------------------------------------------------------------------


class Script:
    """A way that answers as it is told, and notes what it was given."""

    def __init__(self, *answers: Sent) -> None:
        self.answers = list(answers)
        self.sent: list[Notice] = []

    async def send(self, notice: Notice, /) -> Sent:
        self.sent.append(notice)
        return self.answers.pop(0) if self.answers else Sent(True)


class Line:
    """A lane, with the pauses that it asked for."""

    def __init__(self, retries: int = 5) -> None:
        self.totals: Counter[tuple[str, ...]] = Counter()
        self.pauses: list[float] = []
        self.lane = Lane("ops", self.totals, asyncio.Semaphore(1), self.pause, timeout_s=1, retries=retries)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


def test_what_may_work_later_is_tried_again_later_each_time() -> None:
    async def play() -> None:
        line, way = Line(), Script(*[Sent(False, "503", again=True)] * 3)
        line.lane.put(FAILURE, way)
        await line.lane.idle()
        assert len(way.sent) == 4
        assert line.totals == {("ops", "delivered"): 1}
        assert all(0.75 * 2**n <= pause <= 1.25 * 2**n for n, pause in enumerate(line.pauses))

    asyncio.run(play())


def test_it_gives_up_after_its_retries_and_at_once_where_it_is_hopeless() -> None:
    async def play() -> None:
        line, way = Line(retries=9), Script(*[Sent(False, "503", again=True)] * 10, Sent(False, "404"))
        line.lane.put(FAILURE, way)
        line.lane.put(ABSENCE, way)
        await line.lane.idle()
        assert len(way.sent) == 11
        assert max(line.pauses) <= 1.25 * HOOK_RETRY_S_MAX
        assert line.totals == {("ops", "failed"): 2}

    asyncio.run(play())


def test_retry_after_is_heeded_up_to_a_limit() -> None:
    async def play() -> None:
        line = Line()
        way = Script(Sent(False, "429", again=True, after_s=120.0), Sent(False, "429", again=True, after_s=1e6))
        line.lane.put(FAILURE, way)
        await line.lane.idle()
        assert line.pauses == [120.0, 600.0]

    asyncio.run(play())


def test_a_full_line_drops_the_oldest_and_counts_them() -> None:
    async def play() -> None:
        line, way = Line(), Script()
        notices = [Notice(event=Occasion.FAILURE, job=str(n), at=T0) for n in range(HOOK_QUEUE_MAX + 3)]
        for notice in notices:
            line.lane.put(notice, way)
        await line.lane.idle()
        assert [notice.job for notice in way.sent] == [notice.job for notice in notices[3:]]
        assert line.totals["ops", "dropped"] == 3

    asyncio.run(play())


def test_an_error_of_our_own_is_a_failure_and_the_next_message_goes_out() -> None:
    class Broken:
        async def send(self, _notice: Notice, /) -> Sent:
            raise ZeroDivisionError("with a secret")

    async def play() -> None:
        line, way = Line(), Script()
        line.lane.put(FAILURE, Broken())
        line.lane.put(FAILURE, way)
        await line.lane.idle()
        assert line.totals == {("ops", "failed"): 1, ("ops", "delivered"): 1}

    asyncio.run(play())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
        (
            OSError(
                "Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0), "
                "[Errno 111] Connect call failed ('127.0.0.1', 1)"
            ),
            "Connection refused",
        ),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (OSError("3 earlier tries still hang"), "3 earlier tries still hang"),
    ],
)
def test_a_connection_that_failed_is_told_in_words(error: OSError, said: str) -> None:
    assert trouble(error) == said
