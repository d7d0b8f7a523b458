"""The account against the ledger: what is lost, doubled, wrongly successful, unrecorded or untrue. Pure.

lost        a fire that was due has no row, or a row has no end
doubled     a fire or an attempt was worked off twice, or a try followed one that had succeeded
wrong       on record as succeeded, and the job itself did not say that it ended well
unrecorded  a job began, and history does not know
untrue      anything else that both sides tell differently
"""

from collections import Counter
from datetime import datetime

from account import Account, Attempt, Row
from ledger import Entry, Ledger
from msgspec import Struct

ENDED = ("finished", "skipped")


AT_LEAST = "missed at least "  # engine/fires.py: older ones are told of, and not counted


class Policy(Struct, frozen=True):
    """What a job's definition allows."""

    tries: int = 1  # 1 + retries.max
    rerun: bool = False  # on_interrupted = "rerun"
    catch_up: str = "last"


class Expected(Struct, frozen=True):
    """What the world did, as far as the test knows."""

    due: dict[str, list[datetime]]  # instants that each job's schedule has, rising, beyond both ends of the test
    policies: dict[str, Policy]
    until: datetime  # fires after this may be refused: the daemon was told to end
    unknown_allowed: bool = False  # a keeper was killed


class Verdict(Struct):
    """Findings as sentences, and totals."""

    lost: list[str]
    doubled: list[str]
    wrong: list[str]
    unrecorded: list[str]
    untrue: list[str]
    totals: Counter[str]

    def findings(self) -> list[str]:
        """All of them, each with its kind."""
        kinds = ("lost", "doubled", "wrong", "unrecorded", "untrue")
        return [f"{kind}: {text}" for kind in kinds for text in getattr(self, kind)]


def compare(account: Account, ledger: Ledger, expected: Expected) -> Verdict:
    """Hold the two against each other."""
    verdict = Verdict([], [], [], [], [], Counter())
    rows = {row.run_id: row for row in account.rows}
    attempts = ledger.attempts()
    _unrecorded_and_repeated(rows, attempts, ledger, verdict)
    for row in account.rows:
        _count(row, verdict)
        _judge_row(row, attempts, ledger, expected, verdict)
    for job, due in expected.due.items():
        since = account.since.get(job)
        if since is None:
            verdict.lost.append(f"{job}: history does not know the job")
            continue
        mine = [row for row in account.rows if row.job == job and row.cause == "schedule"]
        _judge_fires(job, [at for at in due if since < at], mine, expected, verdict)
    verdict.totals["starts"] = sum(ledger.starts.values())
    verdict.totals["ends"] = sum(ledger.ends.values())
    return verdict


def _count(row: Row, verdict: Verdict) -> None:
    totals = verdict.totals
    totals["runs" if row.state != "skipped" else "skipped"] += 1
    totals["catch-ups"] += row.catch_up
    for attempt in row.attempts().values():
        totals["unknown"] += attempt.outcome in ("unknown", "interrupted")


def _unrecorded_and_repeated(
    rows: dict[str, Row], attempts: dict[tuple[str, int], list[Entry]], ledger: Ledger, verdict: Verdict
) -> None:
    fires: dict[tuple[str, datetime], set[str]] = {}
    for (run_id, number), entries in attempts.items():
        row = rows.get(run_id)
        entry = entries[0]
        if row is None:
            verdict.unrecorded.append(f"{entry.job}: run {run_id} began, and history has no such run")
            continue
        if number not in row.attempts():
            verdict.unrecorded.append(f"{row.job}: attempt {number} of run {run_id} began and is not on record")
        if len(entries) > 1:
            verdict.doubled.append(f"{row.job}: attempt {number} of run {run_id} began {len(entries)} times")
        if (entry.job, entry.scheduled_at) != (row.job, row.scheduled_at):
            verdict.untrue.append(f"run {run_id} was told {entry.job} {entry.scheduled_at}, history has {row.job}")
        if row.cause == "schedule":
            fires.setdefault((row.job, row.scheduled_at), set()).add(run_id)
    for (job, at), run_ids in fires.items():
        if len(run_ids) > 1:
            verdict.doubled.append(f"{job}: the fire of {at} was run as {' and '.join(sorted(run_ids))}")
    for entry, count in ledger.ends.items():
        if count > ledger.starts[entry]:
            verdict.untrue.append(f"{entry.job}: attempt {entry.attempt} of run {entry.run_id} ended without beginning")


def _judge_row(
    row: Row,
    attempts: dict[tuple[str, int], list[Entry]],
    ledger: Ledger,
    expected: Expected,
    verdict: Verdict,
) -> None:
    if row.state not in ENDED:
        verdict.lost.append(f"{row.job}: run {row.run_id} of {row.scheduled_at} has no end, it is {row.state}")
    if row.state == "skipped":
        if (row.run_id, 1) in attempts:
            verdict.untrue.append(f"{row.job}: run {row.run_id} is on record as skipped ({row.skip}), and it began")
        if not row.skip or not row.reason:
            verdict.untrue.append(f"{row.job}: run {row.run_id} was skipped without a reason")
        return
    policy = expected.policies.get(row.job, Policy())
    if row.catch_up and policy.catch_up == "none":
        verdict.untrue.append(f'{row.job}: run {row.run_id} is a catch-up of a job with catch_up = "none"')
    known = row.attempts()
    if sorted(known) != list(range(1, row.attempt + 1)):
        verdict.untrue.append(f"{row.job}: run {row.run_id} is at attempt {row.attempt} and has {sorted(known)}")
    for number, attempt in sorted(known.items()):
        _judge_attempt(row, number, attempt, attempts.get((row.run_id, number), []), ledger, expected, verdict)
    _judge_tries(row, known, policy, attempts, ledger, verdict)


def _judge_attempt(
    row: Row,
    number: int,
    attempt: Attempt,
    entries: list[Entry],
    ledger: Ledger,
    expected: Expected,
    verdict: Verdict,
) -> None:
    name = f"{row.job}: attempt {number} of run {row.run_id}"
    ended = [entry for entry in entries if ledger.ends[entry]]
    match attempt.outcome:
        case "succeeded":
            if not ended:
                verdict.wrong.append(f"{name} succeeded, and it never said that it ended")
            elif ended[0].code != 0:
                verdict.wrong.append(f"{name} succeeded, and it ended with {ended[0].code}")
        case "failed":
            if not ended or attempt.code != ended[0].code:
                said = ended[0].code if ended else "nothing"
                verdict.untrue.append(f"{name} failed with {attempt.code}, and it said {said} ({attempt.reason})")
        case "cancelled" | "timed_out" | None:
            pass  # ended by us, at any point of its own tale; not ended: told by its row
        case "unknown" if expected.unknown_allowed:
            pass
        case _:
            verdict.untrue.append(f"{name} is {attempt.outcome} ({attempt.reason}), which nothing here explains")


def _judge_tries(
    row: Row,
    known: dict[int, Attempt],
    policy: Policy,
    attempts: dict[tuple[str, int], list[Entry]],
    ledger: Ledger,
    verdict: Verdict,
) -> None:
    """Each try after another is allowed by what became of the one before."""
    failures = 0
    for number in sorted(known)[:-1]:
        outcome = known[number].outcome
        failures += outcome == "failed"
        well = any(ledger.ends[entry] and entry.code == 0 for entry in attempts.get((row.run_id, number), []))
        if outcome in ("unknown", "interrupted"):
            if not policy.rerun:
                verdict.doubled.append(f"{row.job}: run {row.run_id} was rerun, and nobody asked for that")
        elif well:
            verdict.doubled.append(f"{row.job}: run {row.run_id} was tried again after it had succeeded")
    if failures >= policy.tries:
        verdict.doubled.append(f"{row.job}: run {row.run_id} had {failures + 1} tries, {policy.tries} are allowed")


def _judge_fires(job: str, due: list[datetime], rows: list[Row], expected: Expected, verdict: Verdict) -> None:
    """Each instant of the schedule has exactly one account."""
    position = {at: index for index, at in enumerate(due)}
    told = Counter[datetime]()
    for row in sorted(rows, key=lambda row: row.scheduled_at):
        index = position.get(row.scheduled_at)
        if index is None:
            verdict.untrue.append(f"{job}: run {row.run_id} is of {row.scheduled_at}, which is not in its schedule")
            continue
        first = max(0, index - row.fires + 1)
        while row.reason.startswith(AT_LEAST) and first and not told[due[first - 1]]:
            first -= 1  # down for so long that not all were counted, but all are told of
        told.update(due[first : index + 1])
    for at in due:
        if at > expected.until:
            break
        verdict.totals["due"] += 1
        if not told[at]:
            verdict.lost.append(f"{job}: the fire of {at} has no account")
    for at, count in told.items():
        if count > 1:
            verdict.untrue.append(f"{job}: the fire of {at} is told {count} times")
