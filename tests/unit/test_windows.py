"""What open and closed calendars do to fires and to runs that wait."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from engine_bench import EPOCH

from tidegate import clock
from tidegate.engine.live import Live
from tidegate.engine.windows import WindowGate
from tidegate.model.event import Fired, Now, WindowChanged
from tidegate.model.job import During, Job, Window
from tidegate.model.plan import Calendar
from tidegate.model.run import Run
from tidegate.supervisor.windows import Windows

NOW = Now(EPOCH, 0.0)


def job(only=(), never=()):
    return Job(name="a", command=("work",), only_during=tuple(only), not_during=tuple(never))


def queued(of):
    return Live(Run(run_id="r1", job=of.name, scheduled_at=EPOCH, queued_at=EPOCH), of, 0.0)


def gate(*calendars):
    made = WindowGate()
    for calendar in calendars:
        made.set(calendar, True)
    return made


DEFER_OFFICE = Window("office", During.DEFER)
OFFICE = Window("office")


@pytest.mark.parametrize(
    ("open", "only", "never", "expected"),
    [
        ([], [], [], None),
        (["office"], [], [], None),
        (["office"], [], [OFFICE], (During.SKIP, "calendar office is open (not_during)")),
        ([], [], [OFFICE], None),
        (["office"], [OFFICE], [], None),
        ([], [OFFICE], [], (During.SKIP, "calendar office is closed (only_during)")),
        (["office"], [], [DEFER_OFFICE], (During.DEFER, "deferred: calendar office is open (not_during)")),
        ([], [DEFER_OFFICE], [], (During.DEFER, "deferred: calendar office is closed (only_during)")),
        (["office"], [OFFICE, Window("night")], [], (During.SKIP, "calendar night is closed (only_during)")),
    ],
)
def test_what_becomes_of_a_fire(open, only, never, expected):
    assert gate(*open).forbids(job(only, never)) == expected


def test_to_skip_goes_before_to_defer():
    both = job(only=[DEFER_OFFICE], never=[Window("holidays")])
    assert gate("holidays").forbids(both) == (During.SKIP, "calendar holidays is open (not_during)")


def test_a_deferred_run_is_held_until_its_calendar_lets_it():
    windows = gate("office")
    live = queued(job(never=[DEFER_OFFICE]))
    assert windows.holds(live, NOW) == "deferred: calendar office is open (not_during)"
    windows.set("office", False)
    assert windows.holds(live, NOW) is None


def test_a_run_that_passed_is_not_held_by_a_window_that_skips():
    assert gate("office").holds(queued(job(never=[OFFICE])), NOW) is None
    assert gate().holds(queued(job(only=[OFFICE])), NOW) is None


def test_a_job_without_windows_is_never_held():
    assert gate("office").holds(queued(job()), NOW) is None


def test_an_unknown_calendar_is_never_open():
    assert gate().forbids(job(only=[Window("nowhere")])) is not None
    assert gate().forbids(job(never=[Window("nowhere")])) is None


def test_only_a_change_is_news():
    windows = gate()
    assert windows.set("office", True)
    assert not windows.set("office", True)
    assert windows.set("office", False)
    assert not windows.set("office", False)


def test_calendars_that_a_reload_removed_are_closed():
    windows = gate("office", "night")
    assert windows.keep(["night", "other"])
    assert not windows.keep(["night"])
    assert windows.forbids(job(only=[OFFICE])) is not None
    assert windows.forbids(job(only=[Window("night")])) is None


NINE = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize("edge", [NINE, NINE + timedelta(hours=9)], ids=["opens", "closes"])
def test_a_fire_at_the_very_instant_of_a_change_comes_behind_it(monkeypatch, edge):
    wall = edge - timedelta(seconds=10)
    monkeypatch.setattr(clock, "wall", lambda: wall)
    told = []

    async def play() -> None:
        nonlocal wall
        windows = Windows(told.append)
        windows.load({"office": Calendar(cron="* 9-17 * * *")})
        told.clear()
        early = Fired("a", (wall,))
        windows.fired(early)
        wall = edge  # the window's own timer has not come yet
        sharp = Fired("a", (edge,))
        windows.fired(sharp)
        windows.fired(sharp)
        assert told == [early, WindowChanged("office", edge == NINE), sharp, sharp]

    asyncio.run(play())
