"""Runs and decisions: what is live from the daemon, what is past from history, and no answer behind the other."""

import base64
import binascii
import re
from typing import Final

import msgspec
from starlette.responses import Response

from tidegate.api.archive import Archive
from tidegate.api.control import Control
from tidegate.api.fresh import ENDED, Fresh, matches, newness
from tidegate.api.shapes import NoBody, RunDetail, RunsPage, RunsQuery, WhyPage, WhyQuery
from tidegate.api.table import Call, json_response
from tidegate.model.refusal import Refused
from tidegate.model.text import escape
from tidegate.model.view import RunView

RUN_ID: Final = re.compile(r"[0-9a-hjkmnp-tv-z]{16}")
_CURSOR: Final = re.compile(r"runs:(\d{1,18})")


class Runs:
    """The handlers, around what they read."""

    def __init__(self, control: Control, archive: Archive, fresh: Fresh) -> None:
        self._control = control
        self._archive = archive
        self._fresh = fresh

    async def list_runs(self, call: Call) -> Response:
        """GET /api/v1/runs."""
        query: RunsQuery = call.query
        before = before_of(query.cursor)
        rows, next_before = await self._page(query, query.limit, before)
        if before is None:
            extra = self._not_yet_written(query, rows, next_before)
            if extra and len(rows) + len(extra) > query.limit:
                # The first page has room for fewer old ones; at least one, so that there is a place to go on from.
                extra = extra[: query.limit - 1] if query.limit > 1 else []
                rows, next_before = await self._page(query, query.limit - len(extra), None)
            known = {row.run_id for row in rows}
            rows = sorted([*rows, *(view for view in extra if view.run_id not in known)], key=newness, reverse=True)
        return json_response(RunsPage(rows, None if next_before is None else cursor_of(next_before)))

    async def _page(self, query: RunsQuery, limit: int, before: int | None) -> tuple[list[RunView], int | None]:
        rows, next_before = await self._archive.ask(
            lambda reader: reader.runs(
                job=query.job,
                outcome=query.outcome,
                state=query.state,
                since=query.since,
                until=query.until,
                limit=limit,
                before=before,
            )
        )
        current = [self._current(row) for row in rows]
        return [row for row in current if matches(row, query)], next_before

    def _not_yet_written(self, query: RunsQuery, rows: list[RunView], next_before: int | None) -> list[RunView]:
        since = rows[-1].queued_at if rows and next_before is not None else None
        return self._fresh.missing(query, {row.run_id for row in rows}, since)

    def _current(self, row: RunView) -> RunView:
        """The run as it stands now, where history is a moment behind."""
        if row.state in ENDED:
            return row
        return self._control.run(row.run_id) or self._fresh.run(row.run_id) or row

    async def find(self, run_id: str) -> RunView:
        """One run. Raises Refused."""
        if not RUN_ID.fullmatch(run_id):
            reason = f'"{escape(run_id)}" is not the id of a run: they have 16 characters; tidegate history shows them'
            raise Refused("not_found", reason)
        known = self._control.run(run_id) or self._fresh.run(run_id)
        found = known or await self._archive.ask(lambda reader: reader.run(run_id))
        if found is None:
            raise Refused("not_found", f"there is no run {run_id}, or history keeps it no longer")
        return found

    def ended(self, run: RunView) -> bool:
        """Whether it has ended: what the daemon does not know as live is over, whatever history has yet."""
        return run.state in ENDED or self._control.run(run.run_id) is None

    async def show(self, call: Call) -> Response:
        """GET /api/v1/runs/{id}."""
        run = await self.find(call.part("id"))
        attempts = []
        if run.attempt > 1:
            attempts = await self._archive.ask(lambda reader: reader.attempts(run.run_id))
        return json_response(RunDetail(**msgspec.structs.asdict(run), attempts=attempts))

    async def cancel(self, call: Call) -> Response:
        """POST /api/v1/runs/{id}/cancel."""
        assert isinstance(call.body, NoBody)
        run = await self.find(call.part("id"))
        if self.ended(run):
            raise Refused("conflict", f"run {run.run_id} has ended already: {run.outcome or run.state}")
        return json_response(await self._control.cancel(run.run_id, call.caller.name), 202)

    async def why(self, call: Call) -> Response:
        """GET /api/v1/why."""
        query: WhyQuery = call.query
        items = await self._archive.ask(lambda reader: reader.why(query.job, query.at, query.limit))
        if not any(item.run_id for item in items) and self._control.job(query.job) is None:
            runs, _ = await self._archive.ask(lambda reader: reader.runs(job=query.job, limit=1))
            if not runs:
                raise Refused("not_found", f'there is no job "{escape(query.job)}", and history knows of none')
        return json_response(WhyPage(items))


def cursor_of(before: int) -> str:
    """Where a page begins, as clients hand it back."""
    return base64.urlsafe_b64encode(b"runs:%d" % before).decode().rstrip("=")


def before_of(cursor: str | None) -> int | None:
    """The reverse of cursor_of. Raises Refused."""
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise Refused("invalid", "this cursor is none of ours: hand back `next` of the page before as it came")
    return int(found[1])
