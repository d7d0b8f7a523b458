"""The newest facts about runs, kept until history has surely written them: no answer is behind. It asks nobody."""

from collections import OrderedDict
from datetime import datetime
from typing import Final

from tidegate.api.shapes import RunsQuery
from tidegate.model.command import Record
from tidegate.model.run import Run, State
from tidegate.model.view import RunView, of_run

FRESH_RUNS_MAX: Final = 512  # history lingers 50 ms at most
ENDED: Final = frozenset({State.FINISHED.value, State.SKIPPED.value})


class Fresh:
    """The last record of each of the runs that were told of last."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, Record] = OrderedDict()

    def observe(self, record: Record) -> None:
        """Remember it."""
        if record.run is None:
            return
        self._records[record.run.run_id] = record
        self._records.move_to_end(record.run.run_id)
        if len(self._records) > FRESH_RUNS_MAX:
            self._records.popitem(last=False)

    def runs(self) -> list[Run]:
        """All of them."""
        return [record.run for record in self._records.values() if record.run is not None]

    def run(self, run_id: str) -> RunView | None:
        """One run, where it is among them."""
        record = self._records.get(run_id)
        return None if record is None or record.run is None else of_run(record.run, record.count)

    def missing(self, query: RunsQuery, known: set[str], since: datetime | None) -> list[RunView]:
        """Those that match and are not among the known, queued at `since` or later; newest first."""
        found = [
            (record.run, record.count)
            for run_id, record in self._records.items()
            if run_id not in known and record.run is not None and matches(record.run, query)
        ]
        if since is not None:
            found = [(run, count) for run, count in found if run.queued_at >= since]
        return sorted((of_run(run, count) for run, count in found), key=newness, reverse=True)


def newness(view: Run | RunView) -> tuple[datetime, str]:
    """Lists of runs are sorted by this."""
    return view.queued_at, view.run_id


def matches(run: Run | RunView, query: RunsQuery) -> bool:
    """Whether a run is one of those asked for."""
    skipped = "skipped" if run.state == "skipped" else None
    return (
        query.job in (None, run.job)
        and query.state in (None, run.state)
        and (query.outcome is None or query.outcome in (run.outcome, run.skip, skipped))
        and (query.since is None or run.queued_at >= query.since)
        and (query.until is None or run.queued_at <= query.until)
    )
