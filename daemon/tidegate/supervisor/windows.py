"""Calendars as events: tells the engine when one opens or closes. The engine reads no calendar."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from tidegate import clock
from tidegate.model.event import Fired, WindowChanged
from tidegate.model.limits import WAKEUP_S_MAX
from tidegate.model.plan import Calendar
from tidegate.triggers.calendar import CalendarWindow, build_window


class Windows:
    """The calendars of the live plan. A change is told when it is due, and looked for again at each `look`."""

    def __init__(self, post: Callable[[Fired | WindowChanged], None]) -> None:
        self._post = post
        self._calendars: dict[str, tuple[Calendar, CalendarWindow]] = {}
        self._open: dict[str, bool] = {}
        self._change_at: datetime | None = None  # the next one, as the last look saw it
        self._timer: asyncio.TimerHandle | None = None

    def fired(self, event: Fired) -> None:
        """Post a fire behind the changes that are due: at nine sharp the calendar that opens at nine is open."""
        if self._change_at is not None and clock.wall() >= self._change_at:
            self.look()
        self._post(event)

    def load(self, calendars: dict[str, Calendar]) -> None:
        """Follow a plan."""
        for name in self._calendars.keys() - calendars.keys():
            del self._calendars[name]
            if self._open.pop(name, False):
                self._post(WindowChanged(name, False))
        for name, calendar in calendars.items():
            old = self._calendars.get(name)
            if old is None or old[0] != calendar:
                self._calendars[name] = (calendar, build_window(calendar))
        self.look()

    def look(self) -> None:
        """Compare with the wall clock now: a step or a suspend may have passed over a change."""
        now = clock.wall()
        self._change_at = None
        for name, (_, window) in self._calendars.items():
            is_open = window.open_at(now)
            if is_open != self._open.get(name, False):
                self._open[name] = is_open
                self._post(WindowChanged(name, is_open))
            change = window.next_change(now)
            if change is not None and (self._change_at is None or change < self._change_at):
                self._change_at = change
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._change_at is None:
            return
        in_s = max(0.0, (self._change_at - now).total_seconds())
        if in_s < 2 * WAKEUP_S_MAX:  # else a later look sets it
            self._timer = asyncio.get_running_loop().call_later(in_s, self.look)
