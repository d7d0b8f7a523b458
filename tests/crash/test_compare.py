"""The comparison sees what it is for: an account and a ledger that agree, with one error seeded into either."""

import os
import subprocess
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from account import EPOCH, Account, Attempt, Row
from compare import Expected, Policy, compare
from ledger import Entry, Ledger, LedgerError, read
from msgspec.structs import replace

WORK = Path(__file__).with_name("work.sh")
OK = Attempt("succeeded", 0, None)


def at(seconds):
    return EPOCH + timedelta(seconds=seconds)


class Books:
    """Ten fires of job `a`, one a second, all well told."""

    def __init__(self):
        self.rows = [self.row(second) for second in range(1, 11)]
        self.ledger = Ledger(Counter(), Counter())
        for row in self.rows:
            self.tell(row.run_id, row.scheduled_at)
        self.policy = Policy()
        self.unknown_allowed = False

    @staticmethod
    def row(second, **fields):
        facts = {
            "run_id": f"r{second}",
            "scheduled_at": at(second),
            "job": "a",
            "cause": "schedule",
            "state": "finished",
            "attempt": 1,
            "last": OK,
        }
        return Row(**{**facts, **fields})

    def tell(self, run_id, scheduled_at, attempt=1, code=0, ended=True):
        entry = Entry(run_id, attempt, scheduled_at, "a", 100, code)
        self.ledger.starts[entry] += 1
        if ended:
            self.ledger.ends[entry] += 1
        return entry

    def untell(self, run_id):
        for counter in (self.ledger.starts, self.ledger.ends):
            for entry in list(counter):
                if entry.run_id == run_id:
                    del counter[entry]

    def change(self, second, **fields):
        self.rows[second - 1] = replace(self.rows[second - 1], **fields)

    def verdict(self):
        due = {"a": [at(second) for second in range(20)]}
        expected = Expected(due, {"a": self.policy}, at(10), self.unknown_allowed)
        return compare(Account(self.rows, {"a": at(0)}), self.ledger, expected)


@pytest.fixture
def books():
    return Books()


def test_books_that_agree_have_no_findings(books):
    verdict = books.verdict()
    assert verdict.findings() == []
    assert (verdict.totals["runs"], verdict.totals["due"], verdict.totals["starts"]) == (10, 10, 10)


# --- lost ----------------------------------------------------------------------------------------------------


def test_a_lost_fire_is_found(books):
    del books.rows[4]
    books.untell("r5")
    assert books.verdict().lost == [f"a: the fire of {at(5)} has no account"]


def test_a_fire_after_the_end_may_be_missing(books):
    del books.rows[9]
    books.untell("r10")
    due = {"a": [at(second) for second in range(20)]}
    account = Account(books.rows, {"a": at(0)})
    assert compare(account, books.ledger, Expected(due, {}, at(9.5))).findings() == []


def test_a_run_without_an_end_is_found(books):
    books.change(3, state="running", last=Attempt(None, None, None))
    assert "has no end" in books.verdict().lost[0]


def test_a_job_that_history_never_heard_of_is_found(books):
    verdict = compare(Account([], {}), Ledger(Counter(), Counter()), Expected({"a": []}, {}, at(0)))
    assert verdict.lost == ["a: history does not know the job"]


def test_a_skip_that_stands_for_several_fires_accounts_for_each_of_them(books):
    for second in (4, 5):
        books.untell(f"r{second}")
    books.untell("r6")
    books.change(6, state="skipped", skip="catch_up", reason="missed", fires=3)
    del books.rows[3:5]
    assert books.verdict().findings() == []


def test_a_fire_that_is_told_twice_is_found(books):
    books.untell("r6")
    books.change(6, state="skipped", skip="catch_up", reason="missed", fires=2)
    assert books.verdict().untrue == [f"a: the fire of {at(5)} is told 2 times"]


def test_a_fire_that_was_never_due_is_found(books):
    books.rows.append(Books.row(11, run_id="x", scheduled_at=at(3.5)))
    books.tell("x", at(3.5))
    assert "not in its schedule" in books.verdict().untrue[0]


# --- doubled -------------------------------------------------------------------------------------------------


def test_an_attempt_that_began_twice_is_found(books):
    entry = books.tell("r4", at(4))
    assert books.ledger.starts[entry] == 2
    assert "began 2 times" in books.verdict().doubled[0]


def test_an_attempt_that_began_twice_as_two_processes_is_found(books):
    books.ledger.starts[Entry("r4", 1, at(4), "a", 101, 0)] += 1
    assert "began 2 times" in books.verdict().doubled[0]


def test_a_fire_that_became_two_runs_is_found(books):
    books.rows.append(Books.row(4, run_id="x"))
    books.tell("x", at(4))
    verdict = books.verdict()
    assert "was run as r4 and x" in verdict.doubled[0]


def test_a_try_after_a_success_is_found(books):
    books.policy = Policy(tries=3)
    books.change(4, attempt=2, earlier={1: Attempt("failed", 1, None)})
    books.tell("r4", at(4), attempt=2)
    assert any("after it had succeeded" in text for text in books.verdict().doubled)


def test_more_tries_than_are_allowed_are_found(books):
    books.policy = Policy(tries=2)
    books.untell("r4")
    for attempt, code in ((1, 5), (2, 5), (3, 0)):
        books.tell("r4", at(4), attempt, code)
    failed = Attempt("failed", 5, None)
    books.change(4, attempt=3, earlier={1: failed, 2: failed})
    assert books.verdict().doubled == ["a: run r4 had 3 tries, 2 are allowed"]
    books.policy = Policy(tries=3)
    assert books.verdict().findings() == []


def test_a_rerun_is_doubled_unless_the_job_asked_for_it(books):
    books.unknown_allowed = True
    books.untell("r4")
    books.tell("r4", at(4), 1, ended=False)
    books.tell("r4", at(4), 2)
    books.change(4, attempt=2, earlier={1: Attempt("unknown", None, None, "the keeper died")})
    assert "nobody asked" in books.verdict().doubled[0]
    books.policy = Policy(rerun=True)
    assert books.verdict().findings() == []


# --- wrongly successful ------------------------------------------------------------------------------------------


def test_a_success_that_never_ended_is_found(books):
    books.ledger.ends.clear()
    assert len(books.verdict().wrong) == 10


def test_a_success_that_never_began_is_found(books):
    books.untell("r2")
    assert len(books.verdict().wrong) == 1


def test_a_success_that_ended_badly_is_found(books):
    books.untell("r2")
    books.tell("r2", at(2), code=-9)
    assert books.verdict().wrong == ["a: attempt 1 of run r2 succeeded, and it ended with -9"]


# --- unrecorded and untrue ------------------------------------------------------------------------------------------


def test_a_start_that_history_does_not_know_is_found(books):
    books.tell("ghost", at(3))
    assert books.verdict().unrecorded == ["a: run ghost began, and history has no such run"]


def test_an_attempt_that_history_does_not_know_is_found(books):
    books.tell("r3", at(3), attempt=2)
    assert "attempt 2 of run r3" in books.verdict().unrecorded[0]


@pytest.mark.parametrize(
    ("last", "code"),
    [(Attempt("failed", 3, None), 4), (Attempt("failed", None, 15), -9), (Attempt("failed", 3, None), None)],
)
def test_a_wrong_status_is_found(books, last, code):
    books.untell("r3")
    books.tell("r3", at(3), code=code or 0, ended=code is not None)
    books.change(3, last=last)
    assert len(books.verdict().untrue) == 1


@pytest.mark.parametrize(("last", "code"), [(Attempt("failed", 3, None), 3), (Attempt("failed", None, 9), -9)])
def test_a_true_failure_is_none(books, last, code):
    books.untell("r3")
    books.tell("r3", at(3), code=code)
    books.change(3, last=last)
    assert books.verdict().findings() == []


def test_a_skipped_run_that_began_is_found(books):
    books.change(3, state="skipped", skip="overlap", reason="r2 is running")
    assert "and it began" in books.verdict().untrue[0]


def test_a_skip_without_a_reason_is_found(books):
    books.untell("r3")
    books.change(3, state="skipped", skip="overlap", reason="")
    assert "without a reason" in books.verdict().untrue[0]


@pytest.mark.parametrize("outcome", ["unknown", "interrupted", "failed_to_start"])
def test_an_outcome_that_nothing_explains_is_found(books, outcome):
    books.change(3, last=Attempt(outcome, None, None, "?"))
    assert "nothing here explains" in books.verdict().untrue[0]


def test_unknown_is_allowed_where_a_keeper_was_killed_and_counted(books):
    books.unknown_allowed = True
    books.change(3, last=Attempt("unknown", None, None, "the keeper died"))
    verdict = books.verdict()
    assert verdict.findings() == []
    assert verdict.totals["unknown"] == 1


def test_a_missing_attempt_is_found(books):
    books.policy = Policy(tries=5)
    books.change(3, attempt=2)
    books.tell("r3", at(3), attempt=2)
    assert any("is at attempt 2 and has [2]" in text for text in books.verdict().untrue)


def test_a_catch_up_that_the_job_does_not_want_is_found(books):
    books.policy = Policy(catch_up="none")
    books.change(3, catch_up=True)
    assert "catch-up" in books.verdict().untrue[0]


# --- the ledger -----------------------------------------------------------------------------------------------------


def work(tmp_path, *args, attempt=1):
    env = {
        **os.environ,
        "LEDGER": str(tmp_path / "ledger"),
        "TIDEGATE_RUN_ID": "r1",
        "TIDEGATE_ATTEMPT": str(attempt),
        "TIDEGATE_SCHEDULED_AT": "2026-03-02T12:00:00+01:00",
    }
    return subprocess.run(["sh", WORK, "a", "0", *args], env=env, timeout=10, check=False).returncode


def test_the_work_tells_its_start_and_its_end_and_how_it_is_going_to_end(tmp_path):
    assert work(tmp_path, "3", "-9", "0") == 3
    assert work(tmp_path, "3", "-9", "0", attempt=2) == -9
    assert work(tmp_path, "3", "-9", "0", attempt=3) == 0
    assert work(tmp_path, "3", "-9", "0", attempt=7) == 0
    ledger = read(tmp_path / "ledger")
    assert sorted((entry.attempt, entry.code) for entry in ledger.starts) == [(1, 3), (2, -9), (3, 0), (7, 0)]
    assert ledger.starts == ledger.ends
    assert {entry.scheduled_at.isoformat() for entry in ledger.starts} == {"2026-03-02T12:00:00+01:00"}


def test_a_ledger_that_is_not_whole_is_not_trusted(tmp_path):
    (tmp_path / "ledger").write_text("start r1 1 2026-03-02T12:00:00+00:00 a 10 0\nstart r1 1 2026-03-0")
    with pytest.raises(LedgerError, match=":2:"):
        read(tmp_path / "ledger")
    assert len(read(tmp_path / "ledger", growing=True).attempts()) == 1, "the second is just being written"
    with (tmp_path / "ledger").open("a") as ledger:
        ledger.write("\n")
    with pytest.raises(LedgerError, match=":2:"):
        read(tmp_path / "ledger", growing=True)


def test_no_ledger_is_an_empty_one(tmp_path):
    assert read(tmp_path / "none").attempts() == {}
