"""[pool]: every constant can be written, in units a person writes, and none is there for nothing."""

import re
from pathlib import Path

import pytest

from tidegate.model.pool import GIB, MIB, PoolSettings
from tidegate.settings.amounts import duration_s, size_bytes
from tidegate.settings.problem import SettingsError
from tidegate.settings.raw_pool import RawPool
from tidegate.settings.read import load
from tidegate.settings.resolve_pool import FIELDS
from tidegate.settings.schema import schema

SOURCE = Path(__file__).resolve().parents[2] / "daemon/tidegate"


@pytest.fixture
def pool(tmp_path):
    def read(text: str) -> PoolSettings:
        (tmp_path / "tidegate.toml").write_text(f"[daemon]\njobs = []\n[pool]\n{text}\n")
        return load(tmp_path).pool

    return read


def problem(read, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read(text)
    return str(caught.value.problems[0]).split(": ", 1)[1]


def test_every_constant_has_its_key():
    assert set(FIELDS) == set(RawPool.__struct_fields__)
    assert len(FIELDS) == len(PoolSettings.__struct_fields__)


def test_defaults_of_the_schema_are_those_of_the_settings():
    settings = PoolSettings()
    for key, value in schema()["$defs"]["RawPool"]["properties"].items():
        meant = getattr(settings, FIELDS[key])
        shown = value["default"]
        if FIELDS[key] != key:
            shown = size_bytes(shown) if FIELDS[key].endswith("_bytes") else duration_s(shown)
        assert (None if shown == "auto" else shown) == meant, key


def test_nothing_written_is_the_default(pool):
    assert pool("") == PoolSettings()


def test_durations_sizes_shares_and_counts(pool):
    found = pool(
        'interval = "1s"\nmemory_default = "2GiB"\nio_full = 0.5\nmemory_tries = 5\nshrink_clear = 6\nlook_max = "0.5s"'
    )
    assert (found.interval_s, found.memory_default_bytes, found.io_full, found.memory_tries) == (1.0, 2 * GIB, 0.5, 5)
    assert (found.shrink_clear, found.look_s_max, found.memory_killed_more_bytes) == (6.0, 0.5, 100 * MIB)
    assert isinstance(found.shrink_clear, float)


def test_a_fixed_pool_needs_its_size(pool):
    assert pool('mode = "fixed"\nmax = 4') == PoolSettings(mode="fixed", max=4)
    assert "fixed needs max" in problem(pool, 'mode = "fixed"')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('interval = "1ms"', 'pool.interval: must be at least "10ms"'),
        ("interval = 1", 'pool.interval: write "1s" instead of 1'),
        ("io_full = 1.5", "pool.io_full: must be a number from 0 to 1"),
        ("io_full = nan", "pool.io_full: must be a number from 0 to 1"),
        ("grow_below = 1.6", "pool.grow_below: must not be more than shrink_above, which is 1.5, got 1.6"),
        ("shrink_above = 1.1", "pool.shrink_above: must not be less than grow_below, which is 1.15, got 1.1"),
        ('memory_freeze = "11s"', "pool.memory_freeze: must not be more than memory_soon, which is 10 s, got 11 s"),
        ('look_min = "300ms"', "pool.look_min: must not be more than look_max"),
        ('memory_window = "0.4s"', "pool.memory_window: must be at least 2 look_max, which is 0.25 s, got 0.4 s"),
        ('look_max = "0.6s"', "pool.look_max: must be at most half of memory_window, 1 s, got 0.6 s"),
        (
            'memory_reserve_least = "100GiB"\nmemory_reserve_most = "1MiB"',
            "pool.memory_reserve_least: must not be more than memory_reserve_most, which is 1MiB, got 100GiB",
        ),
        (
            'memory_reserve_most = "100MB"',
            "pool.memory_reserve_most: must not be less than memory_reserve_least, which is 512MiB, got 100MB",
        ),
        ("interval_s = 1", "pool.interval_s: unknown key in [pool]"),
    ],
)
def test_what_cannot_be_is_told(pool, text, says):
    assert says in problem(pool, text)


def test_every_constant_is_read_by_somebody():
    """A key that changes nothing is a lie."""
    rooms = ("engine", "supervisor", "pool", "executors")
    text = "\n".join(path.read_text() for room in rooms for path in sorted((SOURCE / room).rglob("*.py")))
    fields = PoolSettings.__struct_fields__
    assert [field for field in fields if not re.search(rf"settings(\(\))?\.{field}\b", text)] == []
