"""Jobs and the pool: how they stand now, and the doors to change it. None is defined here: only files do that."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace
from starlette.responses import Response

from tidegate.api.archive import Archive
from tidegate.api.control import Control, Reader
from tidegate.api.fresh import Fresh, newness
from tidegate.api.routes import PAUSE_S
from tidegate.api.shapes import JobDetail, PoolDetail, TriggerBody
from tidegate.api.streamed import Streamed
from tidegate.api.table import Call, json_response
from tidegate.model.redact import redacted
from tidegate.model.refusal import Refused
from tidegate.model.run import Outcome, Run, State
from tidegate.model.text import escape
from tidegate.model.view import JobView, RunView, of_run

SLICE_JOBS: Final = 50  # made between two turns of the loop
WAITING_MAX: Final = 1000  # queued runs shown
NOT_BEGUN: Final = frozenset({State.HELD, State.QUEUED, State.SKIPPED})


class Past(Struct, frozen=True):
    """What history adds to how a job stands."""

    last_runs: dict[str, RunView]
    last_successes: dict[str, datetime]

    @staticmethod
    def of_all(reader: Reader) -> "Past":
        """Of every job."""
        return Past(reader.latest_each(), reader.last_successes())

    @staticmethod
    def of_one(reader: Reader, name: str) -> "Past":
        """Of one job."""
        latest, success = reader.latest(name), reader.last_success(name)
        return Past({name: latest} if latest else {}, {name: success} if success else {})

    def with_newest(self, runs: Iterable[Run]) -> "Past":
        """The same with what history may not have written yet; a view is made only of what is newer."""
        newest: dict[str, Run] = {}
        successes = dict(self.last_successes)
        for run in runs:
            other = newest.get(run.job)
            if run.state not in NOT_BEGUN and (other is None or newness(run) >= newness(other)):
                newest[run.job] = run
            success = successes.get(run.job)
            if run.outcome is Outcome.SUCCEEDED and run.ended_at and (success is None or run.ended_at > success):
                successes[run.job] = run.ended_at
        last_runs = dict(self.last_runs)
        for job, run in newest.items():
            known = last_runs.get(job)
            if known is None or newness(run) >= newness(known):
                last_runs[job] = of_run(run)
        return Past(last_runs, successes)

    def completed(self, view: JobView) -> JobView:
        """The view with its last run, where none is under way, and its last success."""
        return replace(
            view,
            last_run=view.last_run or self.last_runs.get(view.name),
            last_success_at=self.last_successes.get(view.name),
        )


class Jobs:
    """The handlers, around the daemon."""

    def __init__(self, control: Control, archive: Archive, fresh: Fresh) -> None:
        self._control = control
        self._archive = archive
        self._fresh = fresh
        self._turn = asyncio.Lock()  # however many ask at once, one slice is made between two turns of the loop

    async def list_jobs(self, _call: Call) -> Response:
        """GET /api/v1/jobs: all of them, made and sent in slices."""
        return Streamed(self._slices(), 200, {"content-type": "application/json"})

    async def _slices(self) -> AsyncIterator[bytes]:
        names = self._control.job_names()
        past = await self._past(Past.of_all)
        lead = b'{"items":['
        for start in range(0, len(names), SLICE_JOBS):
            async with self._turn:
                views = [self._control.job(name) for name in names[start : start + SLICE_JOBS]]
                # A reload may have taken some away meanwhile.
                pieces = [msgspec.json.encode(past.completed(view)) for view in views if view is not None]
                await asyncio.sleep(PAUSE_S)
            if pieces:
                yield lead + b",".join(pieces)
                lead = b","
        yield (lead if lead != b"," else b"") + b'],"next":null}'

    async def show(self, call: Call) -> Response:
        """GET /api/v1/jobs/{job}."""
        name = call.part("job")
        view, job = self._control.job(name), self._control.definition(name)
        if view is None or job is None:
            raise no_such_job(name)
        definition = redacted(job) if call.caller.confided else None
        past = await self._past(lambda reader: Past.of_one(reader, name))
        return json_response(JobDetail(**asdict(past.completed(view)), definition=definition))

    async def trigger(self, call: Call) -> Response:
        """POST /api/v1/jobs/{job}/runs."""
        body: TriggerBody = call.body
        name = self._existing(call)
        if body.request_id is not None:
            request_id = body.request_id
            known = await self._archive.ask(lambda reader: reader.requested(name, request_id))
            if known is not None:
                return json_response(self._control.run(known.run_id) or known, 202)
        run = await self._control.trigger(name, call.caller.name, body.args, body.request_id)
        return json_response(run, 202)

    async def pause(self, call: Call) -> Response:
        """POST /api/v1/jobs/{job}/pause."""
        return json_response(await self._control.pause(self._existing(call), call.caller.name))

    async def resume(self, call: Call) -> Response:
        """POST /api/v1/jobs/{job}/resume."""
        return json_response(await self._control.resume(self._existing(call), call.caller.name))

    async def reload(self, call: Call) -> Response:
        """POST /api/v1/reload."""
        done = await self._control.reload(call.caller.name)
        return json_response(done, 200 if done.ok else 422)

    async def pool(self, _call: Call) -> Response:
        """GET /api/v1/pool."""
        control = self._control
        return json_response(
            PoolDetail(control.pool(), control.running(), control.waiting(WAITING_MAX), control.resources())
        )

    async def _past(self, question: Callable[[Reader], "Past"]) -> "Past":
        try:
            past = await self._archive.ask(question)
        except Refused:
            past = Past({}, {})  # how the jobs stand now can be told all the same
        return past.with_newest(self._fresh.runs())

    def _existing(self, call: Call) -> str:
        name = call.part("job")
        if self._control.definition(name) is None:
            raise no_such_job(name)
        return name


def no_such_job(name: str) -> Refused:
    """The refusal that says so."""
    return Refused("not_found", f'there is no job "{escape(name)}"; tidegate list shows all jobs')
