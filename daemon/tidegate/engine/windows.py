"""Calendars as the engine knows them: which are open now, and what that forbids. Pure.

When a calendar opens or closes is found out elsewhere and told as an event; what a calendar is nobody asks here. One
that was never said to be open is closed: `only_during` it nothing runs, `not_during` it forbids nothing.
"""

from collections.abc import Iterable, Iterator

from tidegate.engine.live import Live
from tidegate.model.event import Now
from tidegate.model.job import During, Job, Window
from tidegate.model.run import Cause


class WindowGate:
    """Which calendars are open. A gate of engine/admission.py: it holds the fires that are deferred."""

    name = "calendar"
    whole = False

    def __init__(self) -> None:
        self._open: set[str] = set()

    def set(self, calendar: str, open: bool) -> bool:
        """A calendar is open or closed from now on; whether that is news."""
        if (calendar in self._open) is open:
            return False
        if open:
            self._open.add(calendar)
        else:
            self._open.discard(calendar)
        return True

    @property
    def reading(self) -> str:
        """How it stands, as a sentence."""
        return f"open: {', '.join(sorted(self._open))}" if self._open else "no calendar is open"

    def keep(self, calendars: Iterable[str]) -> bool:
        """Forget all but these, which are the ones that a reload left; whether an open one is gone."""
        gone = self._open - set(calendars)
        self._open -= gone
        return bool(gone)

    def forbids(self, job: Job) -> tuple[During, str] | None:
        """What becomes of a fire of this job now, and why; None: it passes. To skip goes before to defer."""
        deferred = None
        for window, reason in self._closed(job):
            if window.action is During.SKIP:
                return During.SKIP, reason
            deferred = deferred or (During.DEFER, f"deferred: {reason}")
        return deferred

    def holds(self, live: Live, now: Now) -> str | None:
        """Only windows that defer hold a run: what skips decided when it fired, and is not asked again. A run that a
        person asked for passes."""
        del now
        if live.run.cause is Cause.MANUAL or not (live.job.only_during or live.job.not_during):
            return None
        for window, reason in self._closed(live.job):
            if window.action is During.DEFER:
                return f"deferred: {reason}"
        return None

    def _closed(self, job: Job) -> Iterator[tuple[Window, str]]:
        """The windows that keep a fire of this job from passing."""
        for window in job.not_during:
            if window.calendar in self._open:
                yield window, f"calendar {window.calendar} is open (not_during)"
        for window in job.only_during:
            if window.calendar not in self._open:
                yield window, f"calendar {window.calendar} is closed (only_during)"
