"""Why a job ran, or did not: the account of one fire from its rows, with what was decided around it. Reads only."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from tidegate.history.query import page_query
from tidegate.history.rows import SELECTED, instant, micros, view_of
from tidegate.model.command import Fact
from tidegate.model.run import Cause
from tidegate.model.view import DecisionView, RunView

BEFORE: Final = timedelta(hours=1)  # what was decided this long before a fire may bear upon it, were it the last word
AFTER: Final = timedelta(minutes=1)
AROUND_MAX: Final = 50  # decisions of the whole daemon that are shown with a fire
# Of these the newest before a fire is its background, unless another fire of the job came between.
BACKGROUND: Final = (
    Fact.DAEMON_STARTED,
    Fact.CONFIG_RELOADED,
    Fact.CLOCK_STEPPED,
    Fact.CALENDAR_OPENED,
    Fact.CALENDAR_CLOSED,
    Fact.MEMORY_TIER,
)
RESIZES_MAX: Final = 10  # … of them how the pool was moved, which may be every second: the newest before the start
ALL: Final = -1  # rows, to SQLite
NOTHING: Final = "history.none"  # no fire is on record
NEAREST: Final = "history.nearest"  # none is on record for that very time


def explain(
    db: sqlite3.Connection, job: str, at: datetime | None, eras: Sequence[int], limit: int
) -> list[DecisionView]:
    """The fire due at or nearest before `at` (None: the newest one), oldest decision first."""
    run = newest(db, job) if at is None else nearest(db, job, at, eras)
    if run is None:
        lines = [nothing(db, job, at, eras)]
        if at is not None:
            lines += around(db, job, at - BEFORE, at + AFTER)
            lines += standing_pause(db, job, at - BEFORE)
    else:
        lines = own_lines(run)
        lines += decided(db, "run_id = ? AND run_id <> ''", (run.run_id,))
        if at is not None and abs(at - run.scheduled_at) >= timedelta(minutes=1):
            reason = (
                f"no fire of {job} is on record for {said(at)}; the nearest before was due {said(run.scheduled_at)}"
            )
            lines.insert(0, DecisionView(at=at, fact=NEAREST, job=job, run_id="", reason=reason))
            lines += covering(db, job, at, eras)
        first = min(run.scheduled_at, run.queued_at)
        last = max(run.started_at or run.queued_at, run.queued_at) + AFTER
        if run.ended_at is not None and run.state in ("finished", "skipped"):
            last = max(min(last, run.ended_at), run.queued_at)
        lines += around(db, job, first, last)
        lines += background(db, run, first)
        lines += resizes(db, run)
    lines = lines[:limit]
    lines.sort(key=lambda line: (line.fact not in (NEAREST, NOTHING), line.at))
    return lines


def said(at: datetime) -> str:
    """An instant within a sentence."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def newest(db: sqlite3.Connection, job: str) -> RunView | None:
    """The fire of the job that was claimed last."""
    query, arguments = page_query(job, None)
    row = db.execute(query, arguments).fetchone()
    return view_of(row[1:]) if row else None


def nearest(db: sqlite3.Connection, job: str, at: datetime, eras: Sequence[int]) -> RunView | None:
    """The fire due at or last before that moment; of several for one instant the one claimed last."""
    return _beside(db, job, at, eras, "<=", "DESC")


def _beside(
    db: sqlite3.Connection, job: str, at: datetime, eras: Sequence[int], side: str, order: str
) -> RunView | None:
    found: tuple[int, int] | None = None
    for era in eras:
        for cause in Cause:
            row = db.execute(
                "SELECT scheduled_at, seq FROM runs INDEXED BY runs_fire WHERE job = ? AND cause = ? AND era = ? "
                f"AND scheduled_at {side} ? ORDER BY scheduled_at {order} LIMIT 1",
                (job, cause.value, era, micros(at)),
            ).fetchone()
            if row and (found is None or (row > found if order == "DESC" else row < found)):
                found = row
    if found is None:
        return None
    return view_of(db.execute(f"SELECT {SELECTED} FROM runs WHERE seq = ?", (found[1],)).fetchone())


def covering(db: sqlite3.Connection, job: str, at: datetime, eras: Sequence[int]) -> list[DecisionView]:
    """A skipped row that stands for several fires has the newest instant: an earlier moment may be one of them."""
    after = _beside(db, job, at, eras, ">", "ASC")
    return own_lines(after) if after is not None and after.fires > 1 else []


def nothing(db: sqlite3.Connection, job: str, at: datetime | None, eras: Sequence[int]) -> DecisionView:
    """That no fire is on record, and the nearest that is."""
    first = None if at is None else _beside(db, job, at, eras, ">", "ASC")
    when = "" if at is None else f" at or before {said(at)}"
    reason = f"no fire of {job} is on record{when}"
    if first is not None:
        reason += f"; the nearest after was due {said(first.scheduled_at)}"
    if at is None:
        row = db.execute("SELECT max(at) FROM decisions WHERE job = ''").fetchone()
        at = instant(row[0] or 0)
    return DecisionView(at=at, fact=NOTHING, job=job, run_id="", reason=reason)


def own_lines(run: RunView) -> list[DecisionView]:
    """What the row of a run tells, as decisions."""

    def line(at: datetime, fact: str, reason: str) -> DecisionView:
        return DecisionView(at=at, fact=fact, job=run.job, run_id=run.run_id, reason=reason)

    due = f"due {said(run.scheduled_at)} ({run.cause}{', caught up' if run.catch_up else ''})"
    if run.skip is not None:
        many = f", {run.fires} fires" if run.fires > 1 else ""
        return [line(run.ended_at or run.queued_at, Fact.RUN_SKIPPED, f"{run.skip}: {run.reason}; {due}{many}")]
    late_s = (run.queued_at - run.scheduled_at).total_seconds()
    noticed = f"noticed {late_s:.3f} s later" if late_s >= 0 else f"decided {-late_s:.3f} s ahead"
    lines = [line(run.queued_at, Fact.RUN_QUEUED, f"{due}, {noticed}")]
    if run.started_at is not None:
        waited_s = (run.started_at - run.queued_at).total_seconds()
        number = f"attempt {run.attempt}, " if run.attempt > 1 else ""
        process = f" as process {run.pid}" if run.pid else ""
        lines.append(line(run.started_at, Fact.RUN_STARTED, f"{number}{waited_s:.3f} s after it was queued{process}"))
    if run.outcome is not None and run.ended_at is not None and run.state == "finished":
        lines.append(line(run.ended_at, Fact.RUN_FINISHED, ": ".join(filter(None, (run.outcome, run.reason)))))
    elif run.state in ("held", "queued", "starting"):
        lines.append(line(run.queued_at, f"run.{run.state}", run.reason or f"it is {run.state} as far as is on record"))
    return lines


def around(db: sqlite3.Connection, job: str, first: datetime, last: datetime) -> list[DecisionView]:
    """What was decided about the whole daemon or the job then."""
    span = (micros(first), micros(last))
    return [
        *decided(
            db,
            "job = '' AND at BETWEEN ? AND ? AND fact <> ?",
            (*span, Fact.POOL_RESIZED),
            AROUND_MAX,
        ),
        *decided(
            db,
            "job = ? AND at BETWEEN ? AND ? AND run_id = ''",
            (job, *span),
            AROUND_MAX,
        ),
    ]


def background(db: sqlite3.Connection, run: RunView, first: datetime) -> list[DecisionView]:
    """How things stood when the fire came: what was decided before it, and not before another fire of the job."""
    since = max(first - BEFORE, previous(db, run))
    span = (micros(since), micros(first))
    marks = ", ".join("?" * len(BACKGROUND))
    lines = decided(
        db,
        "seq IN (SELECT max(seq) FROM decisions WHERE job = '' AND at >= ? AND at < ? "
        f"AND fact IN ({marks}) GROUP BY fact)",
        (*span, *BACKGROUND),
    )
    lines += decided(
        db,
        "job = ? AND at >= ? AND at < ? AND run_id = '' AND fact NOT IN ('job.paused', 'job.resumed')",
        (run.job, *span),
        1,
    )
    held = decided(
        db,
        "job = '' AND at >= ? AND at < ? AND fact IN ('starts.held', 'starts.resumed')",
        (micros(first - BEFORE), micros(first)),
        1,
    )
    lines += [line for line in held if line.fact == Fact.STARTS_HELD]
    return lines + standing_pause(db, run.job, first)


def standing_pause(db: sqlite3.Connection, job: str, at: datetime) -> list[DecisionView]:
    """The pause that the job was under, however long before."""
    newest = decided(
        db,
        "job = ? AND at < ? AND fact IN ('job.paused', 'job.resumed')",
        (job, micros(at)),
        1,
    )
    return [line for line in newest if line.fact == Fact.JOB_PAUSED]


def previous(db: sqlite3.Connection, run: RunView) -> datetime:
    """When the fire of the job that was claimed before this one was noticed; the epoch where there is none."""
    (seq,) = db.execute("SELECT seq FROM runs WHERE run_id = ?", (run.run_id,)).fetchone()
    query, arguments = page_query(run.job, None, seqs=(0, seq - 1))
    row = db.execute(query, arguments).fetchone()
    return view_of(row[1:]).queued_at if row else instant(0)


def resizes(db: sqlite3.Connection, run: RunView) -> list[DecisionView]:
    """How the pool was moved while the run waited for its first start: nothing else of it bears upon this fire."""
    last = run.started_at or run.ended_at
    until = () if last is None else (micros(last),)
    return decided(
        db,
        f"job = '' AND fact = ? AND at >= ?{' AND at <= ?' if until else ''}",
        (Fact.POOL_RESIZED, micros(run.queued_at), *until),
        RESIZES_MAX,
    )


def decided(db: sqlite3.Connection, where: str, arguments: tuple[object, ...], limit: int = ALL) -> list[DecisionView]:
    """The newest rows of `decisions`, in the order in which they were written."""
    rows = db.execute(
        f"SELECT at, fact, job, run_id, reason FROM decisions WHERE {where} ORDER BY at DESC, seq DESC LIMIT ?",
        (*arguments, limit),
    ).fetchall()
    return [
        DecisionView(at=instant(at), fact=fact, job=job, run_id=run_id, reason=reason)
        for at, fact, job, run_id, reason in reversed(rows)
    ]
