"""What goes in and out over HTTP, besides the views: queries, bodies, pages. Unknown names are errors."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from tidegate.model.view import (
    AttemptView,
    DecisionView,
    JobView,
    LeaseView,
    PoolView,
    ResourceView,
    RunningView,
    RunView,
    WaitingView,
)

PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 500
ARGS_MAX: Final = 64
ARG_NAME: Final = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"  # of an environment variable, behind TIDEGATE_ARG_
ARG_TEXT: Final = r"^[^\x00]*$"  # environment variables end at a NUL
REQUEST_ID: Final = r"^[!-~]{1,100}$"
# What a pattern asks for, for people.
PATTERNS: Final = {
    ARG_NAME: "a name of up to 64 letters (A-Z, a-z), digits and _, not beginning with a digit",
    ARG_TEXT: "text without NUL characters",
    REQUEST_ID: "1 to 100 printable ASCII characters without spaces",
}
ARG_CHARS_MAX: Final = 4096
LEASE_WAIT_S_MAX: Final = 86400.0

Instant = Annotated[datetime, Meta(tz=True, description="ISO 8601 with offset")]
Word = Annotated[str, Meta(min_length=1, max_length=200)]
Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX)]
StateWord = Literal["held", "queued", "starting", "running", "stopping", "retrying", "finished", "skipped"]
OutcomeWord = Literal[
    "succeeded", "failed", "timed_out", "cancelled", "failed_to_start", "killed_for_memory", "interrupted", "unknown",
    "skipped", "overlap", "paused", "calendar", "start_deadline", "catch_up", "queue_full", "upstream", "replaced",
]  # fmt: skip


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """A route without parameters."""


class RunsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which runs."""

    job: Word | None = None
    outcome: OutcomeWord | None = None  # or why it was skipped
    state: StateWord | None = None
    since: Instant | None = None
    until: Instant | None = None
    limit: Limit = PAGE_DEFAULT
    cursor: Annotated[str, Meta(max_length=100)] | None = None  # `next` of the page before


class WhyQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """About which fire."""

    job: Word
    at: Instant | None = None  # the fire nearest at or before this; none: the newest
    limit: Limit = PAGE_DEFAULT


class TriggerBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A run by hand."""

    args: Annotated[
        dict[
            Annotated[str, Meta(pattern=ARG_NAME)],
            Annotated[str, Meta(max_length=ARG_CHARS_MAX, pattern=ARG_TEXT)],
        ],
        Meta(max_length=ARGS_MAX),
    ] = {}
    request_id: Annotated[str, Meta(pattern=REQUEST_ID)] | None = None  # the same again: the same run


class LeaseBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Units of shared resources for a process."""

    uses: Annotated[dict[Word, Annotated[int, Meta(ge=1)]], Meta(min_length=1, max_length=64)]
    wait_s: Annotated[float, Meta(ge=0, le=LEASE_WAIT_S_MAX)] | None = None  # none: for as long as it takes
    pid: Annotated[int, Meta(ge=1)] | None = None  # none: the process that asks


class NoBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A request that says everything with its path."""


class JobsPage(Struct, frozen=True):
    """All jobs."""

    items: list[JobView]
    next: None = None


class JobDetail(JobView, frozen=True, kw_only=True):
    """A job, and what its file says. None: over TCP without a token."""

    definition: dict[str, Any] | None


class RunsPage(Struct, frozen=True):
    """Runs, newest first, and where the next page begins."""

    items: list[RunView]
    next: str | None


class RunDetail(RunView, frozen=True, kw_only=True):
    """A run with its earlier attempts."""

    attempts: list[AttemptView]


class PoolDetail(Struct, frozen=True):
    """What runs, what waits for what, and who holds what. `waiting` has the first thousand."""

    pool: PoolView
    running: list[RunningView]
    waiting: list[WaitingView]
    resources: list[ResourceView]


class WhyPage(Struct, frozen=True):
    """What was decided, oldest first."""

    items: list[DecisionView]


class EventData(Struct, frozen=True):
    """The data of one server-sent event."""

    at: datetime
    fact: str
    job: str
    reason: str
    run: RunView | None


class Health(Struct, frozen=True):
    """The daemon works, or is ready."""

    status: str
    version: str
    uptime_s: float


class Problem(Struct, frozen=True, kw_only=True):
    """What is wrong (RFC 9457); `detail` is a sentence for a person."""

    type: str
    title: str
    status: int
    detail: str
    lease: LeaseView | None = None  # of a lease that was not granted
