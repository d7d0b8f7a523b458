"""What is handed to history, and what it remembers when it is opened. Values only."""

from datetime import datetime

from msgspec import Struct

from tidegate.model.command import Record
from tidegate.model.lease import Lease
from tidegate.model.run import Run


class JobsKnown(Struct, frozen=True):
    """The jobs of a plan. `timing` is a text that identifies the trigger: a new or different one starts `since` afresh.

    `boot_id` is kept only together with a new `since`; "": none.
    """

    jobs: tuple[tuple[str, str, datetime, str], ...]  # name, timing, at, boot_id
    removed: tuple[str, ...] = ()


class Meta(Struct, frozen=True):
    """One value of the daemon's own, by key."""

    key: str
    value: str


class Note(Struct, frozen=True):
    """A decision that no record tells, for `why`."""

    at: datetime
    fact: str
    job: str
    reason: str


class Learned(Struct, frozen=True):
    """What the pool has learned of jobs, as JSON, by name."""

    values: dict[str, str]


Entry = Record | JobsKnown | Meta | Note | Learned


class Unended(Struct, frozen=True):
    """A run that has no end on record."""

    run: Run
    boot_id: str  # of its latest attempt
    keeper: str  # who was asked to start its latest attempt; "": nobody was


class JobMemory(Struct, frozen=True):
    """What history knows of a job."""

    timing: str
    since: datetime
    last_fire_at: datetime | None = None
    boot_id: str = ""
    paused_by: str | None = None
    paused_at: datetime | None = None
    last_run_id: str | None = None
    last_run_at: datetime | None = None
    last_success_at: datetime | None = None
    last_outcome: str | None = None


class Memory(Struct, frozen=True):
    """What a file held when it was opened."""

    runs: tuple[Unended, ...] = ()  # oldest first
    jobs: dict[str, JobMemory] = {}
    leases: tuple[Lease, ...] = ()  # granted and not ended
    meta: dict[str, str] = {}
    learned: dict[str, str] = {}
    era: int = 0


class HistoryError(OSError):
    """History cannot be used; the sentence is for a person."""


class NewerSchemaError(HistoryError):
    """A later tidegate wrote this file."""


class CorruptError(HistoryError):
    """The file is damaged."""


class NoHistoryError(HistoryError):
    """There is no history yet."""
