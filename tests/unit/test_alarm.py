"""The real alarm on a clock that is set: APScheduler, the store and the triggers together."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from apscheduler.schedulers import base

from tidegate import clock
from tidegate.model.job import At, CatchUp, Cron, Every, Job, Window
from tidegate.model.limits import CATCH_UP_FIRES_MAX, CLOCK_STEP_S
from tidegate.supervisor.alarm import LEAD_S, Alarm

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


class SetClock:
    """Wall and boot clock as numbers; `step` sets the wall clock alone, `sleep` moves both."""

    def __init__(self, monkeypatch) -> None:
        self.wall = NOON
        self.boot_s = 1000.0
        world = self

        class Datetime(datetime):
            @classmethod
            def now(cls, tz=None):
                return world.wall.astimezone(tz)

        monkeypatch.setattr(clock, "wall", lambda: self.wall)
        monkeypatch.setattr(clock, "boottime_s", lambda: self.boot_s)
        monkeypatch.setattr(base, "datetime", Datetime)

    def sleep(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.boot_s += seconds

    def step(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)


@pytest.fixture
def world(monkeypatch):
    return SetClock(monkeypatch)


def job(name: str, trigger, **fields) -> Job:
    return Job(name=name, command=("true",), trigger=trigger, **fields)


class Player:
    """An alarm that is looked at when the test says so."""

    def __init__(self, world: SetClock, *jobs: Job) -> None:
        self.world = world
        self.fired = []
        self.busy: set[str] = set()
        self.alarm = Alarm(self.fired.append, self.busy.__contains__)
        self.load(*jobs)
        self.alarm.start()

    def load(self, *jobs: Job) -> None:
        self.alarm.load({job.name: job for job in jobs})

    async def look(self) -> list:
        """What the daemon does every 30 s and at each timer."""
        begin = len(self.fired)
        self.alarm.check_clock(CLOCK_STEP_S)
        self.alarm.wakeup()
        for _ in range(3):
            await asyncio.sleep(0)
        return self.fired[begin:]

    async def live(self, seconds: float) -> list[str]:
        """Names in the order in which they fire."""
        fired = []
        for _ in range(int(seconds // 30)):
            self.world.sleep(30)
            fired += await self.look()
        return [event.job for event in fired for _ in event.times]


def test_set_back_one_hour_repeats_no_fixed_time_job_and_stalls_no_other(world):
    async def play():
        alarm = Player(world, job("fixed", Cron("30 12 * * *")), job("wild", Cron("*/5 * * * *")), job("e", Every(60)))
        first = await alarm.live(3590)
        world.step(-3610)
        return first, await alarm.live(600), await alarm.live(3600)

    before, just_after, later = asyncio.run(play())
    assert before.count("fixed") == 1
    assert just_after.count("wild") == 2
    assert just_after.count("e") >= 9
    assert (just_after + later).count("fixed") == 0


def test_set_back_four_hours_is_a_correction_that_fixed_time_jobs_follow(world):
    async def play():
        alarm = Player(world, job("fixed", Cron("30 12 * * *")))
        first = await alarm.live(3600)
        world.step(-4 * 3600)
        return first, await alarm.live(4 * 3600)

    before, after = asyncio.run(play())
    assert (before.count("fixed"), after.count("fixed")) == (1, 1)


@pytest.mark.parametrize("jump_s", [7200.0, 3652 * 86400.0])
def test_set_forward_lists_what_was_missed_bounded_and_goes_on(world, jump_s):
    async def play():
        jobs = [job(policy.value, Every(1.0), catch_up=policy) for policy in CatchUp]
        alarm = Player(world, *jobs, job("once", At(NOON + timedelta(hours=1))))
        await alarm.live(60)
        world.step(jump_s)
        late = await alarm.look()
        return late, await alarm.live(60)

    late, after = asyncio.run(play())
    counts = {event.job: len(event.times) for event in late}
    assert counts.pop("once") == 1
    assert counts["all"] <= 2 * CATCH_UP_FIRES_MAX
    assert counts["none"] <= 94  # 90 s, both ends, one given out ahead, and one to stand for all that are passed over
    assert counts["last"] <= 94
    assert after.count("last") == 60


def test_set_forward_by_ten_years_and_back_again_stalls_nothing(world):
    async def play():
        alarm = Player(world, job("fixed", Cron("30 12 * * *")), job("e", Every(60)))
        await alarm.live(60)
        world.step(3652 * 86400.0)
        await alarm.look()
        world.step(-3652 * 86400.0)
        return await alarm.live(3600)

    fired = asyncio.run(play())
    assert fired.count("fixed") == 1
    assert fired.count("e") >= 59


def test_a_fire_exactly_on_the_instant_of_the_look_is_fired_once(world):
    async def play():
        alarm = Player(world, job("m", Cron("* * * * *")))
        world.sleep(60)
        return await alarm.look(), await alarm.look()

    first, second = asyncio.run(play())
    assert [event.times for event in first] == [(NOON + timedelta(minutes=1),)]
    assert second == []


def test_what_was_due_before_a_reload_is_fired_though_the_reload_changes_its_trigger(world):
    async def play():
        alarm = Player(world, job("a", Cron("* * * * *")), job("gone", Cron("* * * * *")))
        world.sleep(61)  # asleep: nobody has looked yet
        alarm.load(job("a", Cron("0 0 * * *")))
        await alarm.look()
        return [(event.job, event.times) for event in alarm.fired]

    due = (NOON + timedelta(minutes=1),)
    assert asyncio.run(play()) == [("a", due), ("gone", due)]


def test_nothing_fires_after_stop_whatever_is_loaded(world):
    async def play():
        alarm = Player(world, job("a", Every(1.0)))
        alarm.alarm.stop()
        world.sleep(5)
        alarm.load(job("a", Every(2.0)))
        world.sleep(5)
        return await alarm.look()

    assert asyncio.run(play()) == []


def test_a_one_shot_taken_out_and_put_back_fires_once(world):
    async def play():
        once = job("once", At(NOON + timedelta(minutes=1)))
        alarm = Player(world, once)
        fired = await alarm.live(90)
        alarm.load()
        alarm.load(once)
        return fired + await alarm.live(90)

    assert asyncio.run(play()) == ["once"]


def test_what_is_due_together_comes_by_priority_in_small_groups_and_none_is_left_out(world):
    async def play() -> None:
        jobs = [job(f"j{i:03}", Cron("30 12 * * *"), priority=i % 7) for i in range(100)]
        player = Player(world, *jobs)
        world.sleep(1800)
        first = len(await player.look())
        assert 0 < first < 100
        while len(player.fired) < 100:
            await player.look()
        named = {each.name: each for each in jobs}
        priorities = [named[event.job].priority for event in player.fired]
        assert priorities == sorted(priorities, reverse=True)
        assert {event.job for event in player.fired} == set(named)

    asyncio.run(play())


def test_a_long_wait_ends_a_little_early_and_a_short_one_is_waited_for_whole(world):
    async def play() -> None:
        player = Player(world, job("a", Cron("30 12 * * *")))
        asked = []
        loop = asyncio.get_running_loop()
        call_later = loop.call_later
        loop.call_later = lambda delay_s, *rest: asked.append(delay_s) or call_later(delay_s, *rest)
        await player.look()
        world.sleep(1799.98 - LEAD_S)
        await player.look()
        assert 1750 < asked[0] < 1800 - 1800 * 0.005
        assert asked[-1] == pytest.approx(0.02, abs=1e-6)

    asyncio.run(play())


def test_a_fire_is_given_out_ahead_but_not_while_a_run_of_its_job_goes_on(world):
    async def play() -> None:
        player = Player(world, job("a", Cron("30 12 * * *")), job("b", Cron("30 12 * * *")))
        player.busy.add("b")
        world.sleep(1800 - LEAD_S - 0.001)
        assert await player.look() == []
        world.sleep(0.002)
        given = await player.look()
        assert [(event.job, event.times) for event in given] == [("a", (NOON + timedelta(minutes=30),))]
        assert await player.look() == []
        world.sleep(LEAD_S)
        assert [event.job for event in await player.look()] == ["b"]

    asyncio.run(play())


def test_a_fire_with_a_calendar_is_not_given_out_ahead_the_calendar_may_change_at_that_instant(world):
    async def play() -> None:
        player = Player(world, job("a", Cron("30 12 * * *"), only_during=(Window("office"),)))
        world.sleep(1800 - 0.001)
        assert await player.look() == []
        world.sleep(0.002)
        assert [event.job for event in await player.look()] == ["a"]

    asyncio.run(play())


def test_fires_missed_while_down_are_due_at_once_and_told_as_missed_however_recent(world):
    async def play() -> None:
        player = Player(world)
        jobs = {each.name: each for each in (job("hourly", Cron("0 * * * *")), job("new", Cron("59 11 * * *")))}
        player.alarm.load(jobs, {"hourly": NOON - timedelta(hours=3, seconds=1)})
        (event,) = await player.look()
        assert event.job == "hourly"
        assert event.times[-1] == NOON
        assert event.down_until == NOON
        world.sleep(3600)
        (event,) = await player.look()
        assert (event.times, event.down_until) == ((NOON + timedelta(hours=1),), None)

    asyncio.run(play())


def test_a_one_shot_that_came_while_down_is_due_at_once_and_one_that_ran_is_not(world):
    async def play() -> None:
        player = Player(world)
        at = NOON - timedelta(minutes=5)
        jobs = {each.name: each for each in (job("missed", At(at)), job("ran", At(at)), job("new", At(at)))}
        player.alarm.load(jobs, {"missed": at - timedelta(days=1), "ran": at})
        assert [(event.job, event.times) for event in await player.look()] == [("missed", (at,))]

    asyncio.run(play())


def test_a_clock_set_back_while_down_repeats_no_fixed_time_job_and_stalls_no_other(world):
    async def play() -> None:
        player = Player(world)
        jobs = {each.name: each for each in (job("fixed", Cron("30 12 * * *")), job("often", Cron("*/10 * * * *")))}
        last = NOON + timedelta(minutes=50)  # both have run, then the clock was set back by an hour
        player.alarm.load(jobs, {"fixed": last, "often": last})
        assert await player.look() == []
        assert "often" in await player.live(700)
        assert "fixed" not in await player.live(1800)

    asyncio.run(play())
