"""What somebody is told, and its forms: JSON, variables, a subject and a sentence. Pure."""

from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import Struct

from tidegate import __version__
from tidegate.model.run import Run
from tidegate.model.text import escape
from tidegate.model.view import RunView, of_run


class Occasion(StrEnum):
    """Why somebody is told; each is the `on_…` key of the same name."""

    FAILURE = "failure"
    SUCCESS = "success"
    RETRY = "retry"
    SKIP = "skip"
    RECOVERY = "recovery"
    OVERRUN = "overrun"
    ABSENCE = "absence"
    START = "start"  # of pings alone


VERBS: Final[dict[Occasion, str]] = {
    Occasion.FAILURE: "failed",
    Occasion.SUCCESS: "succeeded",
    Occasion.RETRY: "is tried again",
    Occasion.SKIP: "was skipped",
    Occasion.RECOVERY: "works again",
    Occasion.OVERRUN: "runs too long",
    Occasion.ABSENCE: "has not succeeded",
    Occasion.START: "started",
}


class Notice(Struct, frozen=True, kw_only=True):
    """One message, whoever gets it. `run` is None only with an absence."""

    event: Occasion
    job: str
    at: datetime  # aware, UTC
    run: Run | None = None
    reason: str = ""

    @property
    def sentence(self) -> str:
        """The whole of it in one line, safe to show."""
        outcome = self.run.outcome if self.run is not None and self.event is Occasion.FAILURE else None
        verb = outcome.value.replace("_", " ") if outcome is not None else VERBS[self.event]
        return escape(f"{self.job} {verb}: {self.reason}" if self.reason else f"{self.job} {verb}")

    @property
    def key(self) -> str:
        """The same for each try to deliver it, another for each other message: what a receiver knows repeats by."""
        which = f"{self.run.run_id}-{self.run.attempt}" if self.run is not None else f"{self.at.timestamp():.0f}"
        return f"{self.event}-{self.job}-{which}"


class _Body(Struct, frozen=True, kw_only=True):
    event: str
    job: str
    text: str  # what chat services show
    reason: str
    at: datetime
    run: RunView | None
    host: str
    version: str = __version__


def json_of(notice: Notice, host: str) -> bytes:
    """What a webhook gets."""
    body = _Body(
        event=notice.event.value,
        job=notice.job,
        text=f"{notice.sentence} ({escape(host)})",
        reason=notice.reason,
        at=notice.at,
        run=of_run(notice.run) if notice.run is not None else None,
        host=host,
    )
    return msgspec.json.encode(body)


def run_json_of(notice: Notice) -> bytes:
    """The run alone, or null."""
    return msgspec.json.encode(of_run(notice.run) if notice.run is not None else None)


def variables_of(notice: Notice) -> dict[str, str]:
    """What a command gets beside the run as JSON. What is unknown is empty."""
    run = notice.run
    outcome = run.outcome.value if run is not None and run.outcome is not None else ""
    return {
        "TIDEGATE_EVENT": notice.event.value,
        "TIDEGATE_JOB": notice.job,
        "TIDEGATE_AT": notice.at.isoformat(),
        "TIDEGATE_REASON": notice.reason.replace("\0", ""),
        "TIDEGATE_TEXT": notice.sentence,
        "TIDEGATE_RUN_ID": run.run_id if run is not None else "",
        "TIDEGATE_TASK": run.task if run is not None else "",
        "TIDEGATE_ATTEMPT": str(run.attempt) if run is not None else "",
        "TIDEGATE_SCHEDULED_AT": run.scheduled_at.isoformat() if run is not None else "",
        "TIDEGATE_OUTCOME": outcome,
        "TIDEGATE_SKIP": run.skip.value if run is not None and run.skip is not None else "",
        "TIDEGATE_EXIT_CODE": str(run.exit_code) if run is not None and run.exit_code is not None else "",
        "TIDEGATE_SIGNAL": str(run.signal) if run is not None and run.signal is not None else "",
        "TIDEGATE_RUN": run_json_of(notice).decode(),
    }
