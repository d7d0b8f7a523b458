"""Jobs and the pool: how they stand now, and the doors to change it. None is defined here: only files do that."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from starlette.responses import Response

from tidegate.api.control import Control
from tidegate.api.routes import PAUSE_S
from tidegate.api.shapes import JobDetail, PoolDetail, TriggerBody
from tidegate.api.streamed import Streamed
from tidegate.api.table import Call, json_response
from tidegate.model.job import Job
from tidegate.model.refusal import Refused
from tidegate.model.secret import masked, masked_url
from tidegate.model.text import escape
from tidegate.model.view import JobView

SLICE_JOBS: Final = 50  # made between two turns of the loop
WAITING_MAX: Final = 1000  # queued runs shown


class Jobs:
    """The handlers, around the daemon."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._turn = asyncio.Lock()  # however many ask at once, one slice is made between two turns of the loop

    async def list_jobs(self, _call: Call) -> Response:
        """GET /api/v1/jobs: all of them, made and sent in slices."""
        return Streamed(self._slices(), 200, {"content-type": "application/json"})

    async def _slices(self) -> AsyncIterator[bytes]:
        names = self._control.job_names()
        lead = b'{"items":['
        for start in range(0, len(names), SLICE_JOBS):
            async with self._turn:
                views = [self._control.job(name) for name in names[start : start + SLICE_JOBS]]
                # A reload may have taken some away meanwhile.
                pieces = [msgspec.json.encode(view) for view in views if view is not None]
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
        return json_response(JobDetail(**_fields(view), definition=definition))

    async def trigger(self, call: Call) -> Response:
        """POST /api/v1/jobs/{job}/runs."""
        body: TriggerBody = call.body
        name = self._existing(call)
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

    def _existing(self, call: Call) -> str:
        name = call.part("job")
        if self._control.definition(name) is None:
            raise no_such_job(name)
        return name


def no_such_job(name: str) -> Refused:
    """The refusal that says so."""
    return Refused("not_found", f'there is no job "{escape(name)}"')


def redacted(job: Job) -> dict[str, Any]:
    """What the job's file says, every default filled in, without secrets."""
    fields: dict[str, Any] = msgspec.to_builtins(job)
    fields["env"] = masked(job.env)
    fields["ping"] = {when: masked_url(url) for when, url in fields["ping"].items()}
    return fields


def _fields(view: JobView) -> dict[str, Any]:
    return {name: getattr(view, name) for name in view.__struct_fields__}
