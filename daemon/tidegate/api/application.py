"""Puts the parts of the API together into one ASGI application, for TCP and for the socket: the table of all routes."""

import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tidegate.api.archive import Archive
from tidegate.api.auth import Gate, Need
from tidegate.api.control import Control, Reader
from tidegate.api.events import MEDIA_TYPE as EVENTS_TYPE
from tidegate.api.events import Events
from tidegate.api.fresh import Fresh
from tidegate.api.jobs import Jobs
from tidegate.api.leases import Leases
from tidegate.api.openapi import document
from tidegate.api.output import ENDED_HEADER, Outputs
from tidegate.api.routes import Routes, Status
from tidegate.api.runs import Runs
from tidegate.api.shapes import (
    Health,
    JobDetail,
    JobsPage,
    LeaseBody,
    NoBody,
    NoQuery,
    PoolDetail,
    RunDetail,
    RunsPage,
    RunsQuery,
    TriggerBody,
    WhyPage,
    WhyQuery,
)
from tidegate.api.table import Answer, Call, Endpoint, Table
from tidegate.model.plan import Plan
from tidegate.model.view import JobView, LeaseView, ReloadView, RunView
from tidegate.telemetry.metrics import Metrics

_NO_JOB: Final = Answer(404, "there is no such job")
_NO_RUN: Final = Answer(404, "there is no such run")
_NO_HISTORY: Final = Answer(503, "history cannot be read now")
_CONFLICT: Final = Answer(409, "it cannot be done in this state; the sentence says why")
_INVALID: Final = Answer(422, "the body is wrong; the sentence says where")
_NOT_NOW: Final = Answer(503, "the daemon cannot do it now")


class Api:
    """An ASGI application that has something to end."""

    def __init__(
        self,
        metrics: Metrics,
        status: Status,
        control: Control,
        open_reader: Callable[[], Reader],
        plan: Callable[[], Plan],
    ) -> None:
        # One thread for history: making views of rows is Python, and each thread more that does so holds the loop up
        # for milliseconds. One for output files and the user database, which mostly wait. They end with the process:
        # answers under way need them for as long as there are any.
        history = ThreadPoolExecutor(1, thread_name_prefix="tidegate-history-reader")
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="tidegate-api")
        self._events, self._fresh = Events(), Fresh()
        self._ends = [control.subscribe(one.observe) for one in (self._fresh, self._events)]
        self._leases = Leases(control)
        self._about = Routes(metrics, status)
        archive = Archive(open_reader, history)
        self._jobs = Jobs(control, archive, self._fresh)
        self._runs = Runs(control, archive, self._fresh)
        self._outputs = Outputs(self._runs, control, self._threads)
        self.table = Table(self._endpoints(), Gate(plan, os.environ), self._threads)
        # Made here: the first use of what makes it takes milliseconds, and no fire waits for it now.
        self._document = msgspec.json.encode(document(self.table.endpoints))
        self._app = self.table.application()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._app(scope, receive, send)

    async def close(self) -> None:
        """End what would not end by itself: event streams, waits for leases. Call it before Server.close."""
        for end in self._ends:
            end()
        self._events.close()
        await self._leases.close()

    async def _openapi(self, _call: Call) -> Response:
        return Response(self._document, media_type="application/json")

    def _endpoints(self) -> list[Endpoint]:
        return [*self._about_itself(), *self._about_jobs(), *self._about_runs(), *self._about_resources()]

    def _about_itself(self) -> list[Endpoint]:
        works, about = Answer(200, "it does", Health), self._about
        text = Answer(200, "Prometheus' text format", "text/plain")
        facts = Answer(200, "events; their data is JSON: at, fact, job, reason, run", EVENTS_TYPE)
        live = Answer(200, "it is live; what changed", ReloadView)
        not_live = Answer(422, "it is not, and the old one stays; why", ReloadView)
        return [
            _get("/metrics", "metrics", "All metrics.", _plain(about.metrics), text),
            _get("/health", "health", "Whether it works.", _plain(about.health), works, Answer(503, "restart it")),
            _get("/ready", "ready", "Whether it runs jobs now.", _plain(about.ready), works, Answer(503, "wait")),
            _get("/api/openapi.json", "openapi", "This.", self._openapi, Answer(200, "OpenAPI 3.1", dict)),
            _confided("/api/v1/events", "events", "Every fact as it happens.", self._events.listen, facts, _NOT_NOW),
            _post("/api/v1/reload", "reload", "Read the files again.", self._jobs.reload, live, not_live, _NOT_NOW),
        ]

    def _about_jobs(self) -> list[Endpoint]:
        jobs, one = self._jobs, "/api/v1/jobs/{job}"
        queued, run_it = Answer(202, "the run, queued or skipped", RunView), f"{one}/runs"
        stands = Answer(200, "how the job stands now", JobView)
        changed = (_NO_JOB, _CONFLICT, _NOT_NOW)
        return [
            _get("/api/v1/jobs", "listJobs", "All jobs.", jobs.list_jobs, Answer(200, "all of them", JobsPage)),
            _get(one, "showJob", "One job.", jobs.show, Answer(200, "the job and its definition", JobDetail), _NO_JOB),
            _post(run_it, "triggerJob", "Run it now.", jobs.trigger, queued, *changed, _INVALID, body=TriggerBody),
            _post(f"{one}/pause", "pauseJob", "Fire it no more.", jobs.pause, stands, *changed),
            _post(f"{one}/resume", "resumeJob", "Undo a pause.", jobs.resume, stands, *changed),
        ]

    def _about_runs(self) -> list[Endpoint]:
        runs, one = self._runs, "/api/v1/runs/{id}"
        page = Answer(200, "runs, newest first", RunsPage)
        detail = Answer(200, "the run and its earlier attempts", RunDetail)
        whole = Answer(200, f"all of it; {ENDED_HEADER} tells whether more may come", "text/plain")
        part = Answer(206, "the range", "text/plain")
        told = Answer(200, "decisions with their reasons", WhyPage)
        ending = Answer(202, "the run, which is being ended", RunView)
        beyond = Answer(416, "no byte of the range is there")
        reading = (_NO_RUN, _NO_HISTORY)
        return [
            _get("/api/v1/runs", "listRuns", "Runs.", runs.list_runs, page, _INVALID, _NO_HISTORY, query=RunsQuery),
            _get(one, "showRun", "One run.", runs.show, detail, *reading),
            _confided(
                f"{one}/output", "runOutput", "What it printed.", self._outputs.output, whole, part, *reading, beyond,
                Answer(501, "it is in the journal, which cannot be read here")),
            _post(f"{one}/cancel", "cancelRun", "End it.", runs.cancel, ending, _NO_RUN, _CONFLICT, _NOT_NOW),
            _confided("/api/v1/why", "why", "What was decided.", runs.why, told, _NO_JOB, _NO_HISTORY, query=WhyQuery),
        ]  # fmt: skip

    def _about_resources(self) -> list[Endpoint]:
        pool = Answer(200, "what runs, waits and holds", PoolDetail)
        granted, over = Answer(201, "it is granted", LeaseView), Answer(200, "it is over", LeaseView)
        not_granted = Answer(409, "not granted in time, or no such process; `lease` has it")
        gone = Answer(404, "there is no such lease")
        leases, act, ask = "/api/v1/leases", self._leases, LeaseBody
        return [
            _get("/api/v1/pool", "pool", "The pool.", self._jobs.pool, pool),
            _post(leases, "acquire", "Take units.", act.acquire, granted, not_granted, _INVALID, _NOT_NOW, body=ask),
            Endpoint(
                method="DELETE",
                path=f"{leases}/{{id}}",
                need=Need.OPERATE,
                name="release",
                summary="Give units back.",
                act=act.release,
                answers=(over, gone, _NOT_NOW),
            ),
        ]


def control_application(
    metrics: Metrics, status: Status, control: Control, open_reader: Callable[[], Reader], plan: Callable[[], Plan]
) -> Api:
    """Everything that can be asked. `open_reader` is called in threads; `plan` gives the live plan ([http], [control]).

    Call it where a loop runs.
    """
    return Api(metrics, status, control, open_reader, plan)


Act = Callable[[Call], Awaitable[Response]]


def _get(path: str, name: str, summary: str, act: Act, *answers: Answer, query: type[Struct] = NoQuery) -> Endpoint:
    return Endpoint(
        method="GET", path=path, need=Need.READ, name=name, summary=summary, act=act, answers=answers, query=query
    )


def _confided(
    path: str, name: str, summary: str, act: Act, *answers: Answer, query: type[Struct] = NoQuery
) -> Endpoint:
    return Endpoint(
        method="GET", path=path, need=Need.CONFIDE, name=name, summary=summary, act=act, answers=answers, query=query
    )


def _post(path: str, name: str, summary: str, act: Act, *answers: Answer, body: type[Struct] = NoBody) -> Endpoint:
    return Endpoint(
        method="POST", path=path, need=Need.OPERATE, name=name, summary=summary, act=act, answers=answers, body=body
    )


def _plain(answer: Callable[[Request], Awaitable[Response]]) -> Act:
    """A handler of the routes that need no control."""
    return lambda call: answer(call.request)
