"""A million fires and more, compared one by one with the reference in debian_cron.py."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from debian_cron import EPOCH, Entry, Place, Span

from tidegate.model.job import Cron, Job
from tidegate.triggers.build import build
from tidegate.triggers.errors import TriggerError

SEED = 3_014_162
FIRES_MIN = 1_000_000
DENSE = 30  # fires a day: beyond it only the days around changes are compared, not the whole year
EXPRESSIONS = 24  # random ones, for each zone and year
USUAL = ["0 * * * *", "*/5 0-3 * * *", "30 2 * * *", "0 0 * * *", "0 1,2,3 * * sun"]
# Years in which something happened; each zone gets random ones besides.
ZONES = {
    "Africa/Cairo": [2010, 2014, 2023],  # Ramadan breaks; changes at midnight, a gap of the first hour
    "Africa/Casablanca": [2012, 2018, 2024],  # negative summer time since 2018, moved by Ramadan
    "Africa/Monrovia": [1972],  # by 44:30
    "America/Argentina/Tucuman": [1894],  # forward by 4:24: the last that counts as having woken late
    "America/Ciudad_Juarez": [1922],  # forward by 5:56: no longer
    "America/Asuncion": [2017, 2024],
    "America/Caracas": [2007, 2016],  # by half an hour
    "America/Havana": [2012, 2023],  # at midnight
    "America/New_York": [1883, 1918, 2007, 2024],
    "America/Santiago": [2016, 2019],
    "America/Sao_Paulo": [2008, 2017, 2018],  # midnight does not exist
    "America/St_Johns": [1988, 2006, 2011],  # at 00:01; a double summer time of 2 hours
    "Antarctica/Casey": [2009, 2010, 2020, 2021],  # by exactly 3 hours, at 00:01 too
    "Antarctica/Troll": [2015, 2024],  # by 2 hours
    "Asia/Beirut": [2022, 2023],  # at midnight
    "Asia/Gaza": [2011, 2023],
    "Asia/Kathmandu": [1986],  # by 15 minutes
    "Asia/Kolkata": [1941, 1945],
    "Asia/Pyongyang": [2015, 2018],
    "Asia/Tehran": [1977, 2008, 2022],
    "Australia/Lord_Howe": [1981, 2008, 2024],  # by half an hour, by 1 hour and a half in 1981
    "Europe/Amsterdam": [1937, 1940],  # by 28 seconds, then 1 hour and 40 minutes
    "Europe/Berlin": [1945, 1947, 2024],  # double summer time
    "Europe/Dublin": [1916, 1971, 2024],  # by 34:39; negative winter time
    "Europe/London": [1941, 1968, 2024],
    "Europe/Moscow": [1919, 2011, 2014],
    "Europe/Riga": [1918, 1926, 2000, 2024],
    "Pacific/Apia": [2011, 2012],  # 30 December 2011 does not exist
    "Pacific/Chatham": [2024],  # at 02:45
    "Pacific/Kwajalein": [1969, 1993],  # 23 hours back, a day forward
}


def field(pick: random.Random, low: int, high: int, star: float, hot: tuple[int, ...] = ()) -> str:
    """A random field of a crontab."""
    kind = pick.random()
    if kind < star:
        return "*" if pick.random() < 0.6 else f"*/{pick.randint(2, max(2, (high - low) // 2))}"
    value = pick.choice(hot) if hot and pick.random() < 0.7 else pick.randint(low, high)
    kind = pick.random()
    if kind < 0.5:
        return str(value)
    end = pick.randint(value, high)
    span = f"{value}-{end}" if kind < 0.75 else f"{value}-{end}/{pick.randint(1, 9)}"
    return span if kind < 0.9 else f"{span},{pick.randint(low, high)}"


def expression(pick: random.Random) -> str:
    """A random crontab line; hours near midnight and the small hours are likelier, for that is where clocks change."""
    fixed = pick.random() < 0.65
    minute = field(pick, 0, 59, 0.0 if fixed else 0.5, (0, 1, 15, 30, 45, 59))
    hour = field(pick, 0, 23, 0.0 if fixed else 0.5, (0, 0, 1, 2, 2, 3, 4, 22, 23))
    dom = field(pick, 1, 31, 0.75)
    month = field(pick, 1, 12, 0.85)
    dow = pick.choice(["sun", "Mon-Fri", "sat,Sun", "6,7", "0-3/2"]) if pick.random() < 0.1 else field(pick, 0, 7, 0.75)
    return f"{minute} {hour} {dom} {month} {dow}"


def ours(expression: str, zone_name: str, from_s: int, to_s: int) -> list[int]:
    """What the trigger says of [from_s, to_s), in UTC seconds."""
    found: list[int] = []
    try:
        trigger = build(Job(name="job", trigger=Cron(expression), timezone=zone_name))
    except TriggerError:
        return found  # 31 February; compared with what Debian's cron makes of it all the same
    assert trigger is not None
    fire = trigger.after(EPOCH + timedelta(seconds=from_s - 1))
    end = EPOCH + timedelta(seconds=to_s)
    while fire is not None and fire < end:
        delta = fire - EPOCH
        found.append(delta.days * 86_400 + delta.seconds)
        fire = trigger.after(fire)
    return found


def assert_same(expression: str, zone_name: str, from_s: int, to_s: int, expected: list[int]) -> None:
    got = ours(expression, zone_name, from_s, to_s)
    if got != expected:
        wrong = sorted(set(got) ^ set(expected))[:5]
        told = [(str(EPOCH + timedelta(seconds=fire)), "ours" if fire in got else "Debian's") for fire in wrong]
        pytest.fail(f'"{expression}" in {zone_name} (seed {SEED}): fires that only one side has: {told}')


def year_s(year: int) -> int:
    return int((datetime(year, 1, 1, tzinfo=UTC) - EPOCH).total_seconds())


@pytest.mark.timeout(300)
def test_a_million_fires_are_those_of_debians_cron(capsys: pytest.CaptureFixture[str]) -> None:
    pick = random.Random(SEED)
    counts = {"fixed-time": 0, "wildcard": 0, "within 5 h of a change": 0}
    expressions = changes = 0
    for zone_name, notable in ZONES.items():
        place = Place(zone_name)
        years = {*notable, *pick.sample(range(1970, 2038), 6), *pick.sample(range(1880, 1970), 2)}
        for year in sorted(years):
            span = Span(place, year_s(year), year_s(year + 1))
            around = [Span(place, start - 86_400, end + 86_400) for start, end in span.windows]
            changes += len(span.windows)
            for line in USUAL + [expression(pick) for _ in range(EXPRESSIONS)]:
                entry = Entry(line)
                expressions += 1
                stretches = [(span, year_s(year), year_s(year + 1))]
                if len(entry.in_day) > DENSE:
                    edges = zip(around, span.windows, strict=True)
                    stretches = [(each, start - 86_400, end + 86_400) for each, (start, end) in edges]
                for each, from_s, to_s in stretches:
                    expected = each.fires(entry)
                    assert_same(line, zone_name, from_s, to_s, expected)
                    counts["wildcard" if entry.wild else "fixed-time"] += len(expected)
                    counts["within 5 h of a change"] += len(each.near(entry))
    total = counts["fixed-time"] + counts["wildcard"]
    with capsys.disabled():
        print(
            f"\nseed {SEED}: {total:,} fires of {expressions:,} expressions in {len(ZONES)} zones around {changes} "
            f"changes are Debian's; of these {', '.join(f'{count:,} {what}' for what, count in counts.items())}"
        )
    assert total >= FIRES_MIN


@pytest.mark.parametrize(
    ("zone_name", "year"),
    [
        ("Europe/Riga", 2024),
        ("Australia/Lord_Howe", 2024),
        ("America/Sao_Paulo", 2018),
        ("Antarctica/Troll", 2024),
        ("Antarctica/Casey", 2020),
        ("Europe/Dublin", 1916),
        ("Europe/Amsterdam", 1937),
        ("Pacific/Apia", 2011),
    ],
)
def test_expressions_with_seconds_follow_the_same_rules(zone_name: str, year: int) -> None:
    pick = random.Random(SEED)
    place = Place(zone_name)
    for start, end in place.windows(year_s(year), year_s(year + 1)):
        span = Span(place, start, end, unit_s=1)
        for _ in range(12):
            line = f"{field(pick, 0, 59, 0.2)} {expression(pick)}"
            entry = Entry(line)
            assert_same(line, zone_name, start, end, span.fires(entry))
