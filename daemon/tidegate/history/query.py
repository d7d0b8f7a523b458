"""Which rows a page of runs is made of, as SQL. Pure.

`result` is the outcome of a finished run, the word of a skipped one, and the state of any other: one column, and one
index, answers every filter.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from tidegate.history.rows import SELECTED, micros
from tidegate.model.run import Outcome, Skip, State

OUTCOMES: Final = tuple(word.value for word in Outcome)
SKIPS: Final = tuple(word.value for word in Skip)
UNENDED: Final = tuple(word.value for word in State if word not in (State.FINISHED, State.SKIPPED))
SEQ_MAX: Final = 2**62
WHOLE: Final = (0, SEQ_MAX)


def result_words(outcome: str | None, state: str | None) -> tuple[str, ...] | None:
    """The values of `result` that two filters let pass; None: all. A word that nobody knows lets nothing pass."""
    found: Iterable[str] | None = None
    if outcome is not None:
        found = SKIPS if outcome == State.SKIPPED else (outcome,) if outcome in OUTCOMES + SKIPS else ()
    if state is not None:
        of_state: Iterable[str] = (state,) if state in UNENDED else ()
        if state == State.FINISHED:
            of_state = OUTCOMES
        elif state == State.SKIPPED:
            of_state = SKIPS
        found = of_state if found is None else [word for word in found if word in of_state]
    return None if found is None else tuple(found)


def page_query(
    job: str | None,
    words: tuple[str, ...] | None,
    since: datetime | None = None,
    until: datetime | None = None,
    seqs: tuple[int, int] = WHOLE,
    limit: int = 1,
) -> tuple[str, list[Any]]:
    """Each word has its own walk down an index, and stops after a page: no filter looks at more than that."""
    limits, bounds = "seq BETWEEN ? AND ?", list[Any](seqs)
    if since is not None:
        limits, bounds = f"{limits} AND queued_at >= ?", [*bounds, micros(since)]
    if until is not None:
        limits, bounds = f"{limits} AND queued_at <= ?", [*bounds, micros(until)]
    if job is None and words is None:
        return f"SELECT seq, {SELECTED} FROM runs WHERE {limits} ORDER BY seq DESC LIMIT ?", [*bounds, limit]
    walks, arguments = [], list[Any]()
    for word in UNENDED + OUTCOMES + SKIPS if words is None else words:
        index = "runs_result" if job is None else "runs_job_result"
        of_job = "" if job is None else "job = ? AND "
        walks.append(
            f"SELECT * FROM (SELECT seq FROM runs INDEXED BY {index} WHERE {of_job}result = ? AND {limits} "
            "ORDER BY seq DESC LIMIT ?)"
        )
        arguments += [*([] if job is None else [job]), word, *bounds, limit]
    chosen = " UNION ALL ".join(walks)
    return f"SELECT seq, {SELECTED} FROM runs WHERE seq IN ({chosen}) ORDER BY seq DESC LIMIT ?", [*arguments, limit]
