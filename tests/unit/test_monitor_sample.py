"""What two readings tell: rates, loads by each source, who takes our cores; never nonsense from counters that jump."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tidegate.model.sample import Disk, Pressure, Reading, sample, wanted_cores
from tidegate.monitor.workers import memory_calm, optimal_workers, reserve_bytes

NOW = datetime(2026, 3, 1, tzinfo=UTC)
GIB = 1 << 30
MIB = 1 << 20


def a_reading(at_s: float = 0.0, **facts: Any) -> Reading:
    """Two CPUs, all ours, that idle; 16 GiB, half of it available."""
    blank: dict[str, Any] = {
        "at": NOW + timedelta(seconds=at_s), "at_s": at_s, "cores": 2.0, "cpus": 2, "runnable_sum": None,
        "runnable_looks": 0, "load_average": None, "busy_s": 0.0, "idle_s": 2 * at_s, "own_cpu_s": 0.0,
        "own_run_s": None,
        "own_wait_s": None, "quota_used_s": None, "throttled_s": None, "pressure_of": "machine", "cpu": None,
        "memory": None, "io": None, "available_bytes": 8 * GIB, "memory_limit_bytes": 16 * GIB, "swap_total_bytes": 0,
        "swap_free_bytes": 0, "swapped_in_bytes": 0, "swapped_out_bytes": 0, "disks": (),
    }  # fmt: skip
    return Reading(**(blank | facts))


def full(at_s: float, **facts: Any) -> Reading:
    return a_reading(at_s, busy_s=2 * at_s, idle_s=0.0, **facts)


# --- load ---------------------------------------------------------------------------------------


def test_load_is_the_mean_of_all_looks_in_between() -> None:
    before = a_reading(runnable_sum=100.0, runnable_looks=50)
    after = a_reading(1, runnable_sum=130.0, runnable_looks=60)
    seen = sample(before, after)
    assert (seen.load_ratio, seen.load_source) == (1.5, "runnable")


def test_without_a_look_in_between_older_looks_tell_nothing() -> None:
    before = a_reading(runnable_sum=100.0, runnable_looks=50)
    assert sample(before, replace(before, at_s=1.0)).load_source == "none"


@pytest.mark.parametrize(("runnable", "share"), [(3, 0.337), (4, 0.502), (8, 0.752)])
def test_run_delay_shows_what_counting_would(runnable: int, share: float) -> None:
    """The measurements of the design: N busy processes on two cores."""
    before = full(0, own_run_s=5.0, own_wait_s=1.0)
    after = full(1, own_run_s=5.0 + 2 * (1 - share), own_wait_s=1.0 + 2 * share)
    seen = sample(before, after)
    assert seen.load_source == "run_delay"
    assert seen.run_delay_ratio == pytest.approx(share)
    assert seen.load_ratio == pytest.approx(runnable / 2, rel=0.02)


def test_run_delay_of_an_idle_machine_is_no_load() -> None:
    seen = sample(a_reading(own_run_s=0.0, own_wait_s=0.0), a_reading(1, own_run_s=0.1, own_wait_s=0.0))
    assert (seen.load_ratio, seen.load_source) == (0.0, "run_delay")


def test_processes_that_hardly_ran_tell_no_delay() -> None:
    seen = sample(a_reading(own_run_s=0.0, own_wait_s=0.0), a_reading(1, own_run_s=0.001, own_wait_s=0.005))
    assert (seen.run_delay_ratio, seen.load_source) == (None, "none")


@pytest.mark.parametrize(("runnable", "some_us"), [(2, 10_000), (3, 505_000), (4, 995_000)])
def test_pressure_shows_what_counting_would(runnable: int, some_us: int) -> None:
    seen = sample(full(0, cpu=Pressure(77, 0)), full(1, cpu=Pressure(77 + some_us, 0)))
    assert seen.load_source == "pressure"
    assert seen.load_ratio == pytest.approx(runnable / 2, rel=0.02)


def test_load_average_is_the_last_resort() -> None:
    seen = sample(a_reading(load_average=3.0), a_reading(1, load_average=5.0))
    assert (seen.load_ratio, seen.load_source) == (2.5, "load_average")


def test_the_machines_threads_say_nothing_of_a_part_of_it() -> None:
    part = {"cores": 1.0, "cpus": 64, "own_run_s": 0.0, "own_wait_s": 0.0}
    before = full(0, runnable_sum=0.0, **part)
    after = replace(full(1, **part), own_run_s=0.5, own_wait_s=0.5, runnable_sum=640.0, runnable_looks=10)
    assert sample(before, after).load_source == "run_delay"


# --- who takes the cores ------------------------------------------------------------------------


def test_what_others_use_is_the_machines_use_less_ours() -> None:
    seen = sample(a_reading(), a_reading(2, busy_s=3.0, idle_s=1.0, own_cpu_s=1.0))
    assert (seen.busy_ratio, seen.own_cores, seen.foreign_cores) == (0.75, 0.5, 1.0)


def test_others_on_cores_that_we_may_not_use_cost_nothing() -> None:
    before = a_reading(cores=2.0, cpus=8)
    assert sample(before, a_reading(1, cores=2.0, cpus=8, busy_s=6.0, idle_s=2.0)).foreign_cores == 0.0
    assert sample(before, a_reading(1, cores=2.0, cpus=8, busy_s=7.0, idle_s=1.0)).foreign_cores == 1.0


def test_neighbours_under_our_quota_take_from_it() -> None:
    before = a_reading(cores=2.0, cpus=8, quota_used_s=50.0)
    after = a_reading(1, cores=2.0, cpus=8, busy_s=2.0, idle_s=6.0, quota_used_s=51.5, own_cpu_s=0.5)
    seen = sample(before, after)
    assert (seen.foreign_cores, seen.busy_ratio) == (1.0, 0.75)


def test_a_process_of_ours_that_ended_unreaped_makes_nothing_negative() -> None:
    seen = sample(a_reading(own_cpu_s=100.0), a_reading(1, own_cpu_s=3.0, busy_s=1.0, idle_s=1.0))
    assert (seen.own_cores, seen.foreign_cores) == (0.0, 1.0)


# --- the rest -----------------------------------------------------------------------------------


def test_a_first_reading_has_no_rates() -> None:
    seen = sample(None, a_reading(5, cpu=Pressure(5, 5), runnable_sum=9.0, runnable_looks=1))
    assert (seen.interval_s, seen.load_ratio, seen.cpu_some_ratio, seen.foreign_cores) == (None, None, None, None)
    assert (seen.available_bytes, seen.memory_used_ratio) == (8 * GIB, 0.5)


def test_two_readings_at_one_instant_have_no_rates() -> None:
    assert sample(a_reading(5), a_reading(5, busy_s=9.0)).busy_ratio is None


def test_pressure_is_the_share_of_the_time_between() -> None:
    before = a_reading(memory=Pressure(1_000_000, 0), io=Pressure(0, 500_000))
    seen = sample(before, a_reading(2, memory=Pressure(1_500_000, 200_000), io=Pressure(9_000_000, 500_000)))
    assert (seen.memory_some_ratio, seen.memory_full_ratio) == (0.25, 0.1)
    assert (seen.io_some_ratio, seen.io_full_ratio) == (1.0, 0.0)


def test_pressures_of_two_scopes_have_no_difference() -> None:
    before = a_reading(cpu=Pressure(5, 0), pressure_of="machine")
    assert sample(before, a_reading(1, cpu=Pressure(900_000, 0), pressure_of="cgroup")).cpu_some_ratio is None


def test_memory_that_fills_up_has_a_rate_and_one_that_empties_a_negative_one() -> None:
    assert sample(a_reading(), a_reading(2, available_bytes=6 * GIB)).fill_bytes_per_s == GIB
    assert sample(a_reading(), a_reading(2, available_bytes=10 * GIB)).fill_bytes_per_s == -GIB


def test_swap_and_disks_are_rates() -> None:
    swap = {"swap_total_bytes": 4 * GIB, "swap_free_bytes": 3 * GIB}
    before = a_reading(disks=(Disk("a", 0, 0, 0.0), Disk("gone", 9, 9, 9.0)), **swap)
    disks = (Disk("a", 4096, 2048, 1.0), Disk("new", 1 << 40, 0, 99.0))
    seen = sample(before, a_reading(2, disks=disks, swapped_out_bytes=8192, **swap))
    assert (seen.swap_used_ratio, seen.swap_out_bytes_per_s, seen.swap_in_bytes_per_s) == (0.25, 4096, 0)
    assert (seen.disk_read_bytes_per_s, seen.disk_write_bytes_per_s, seen.disk_busy_ratio) == (2048, 1024, 0.5)


amounts = st.one_of(st.none(), st.floats(0, 1e9))
pressures = st.one_of(st.none(), st.builds(Pressure, st.integers(0, 10**15), st.integers(0, 10**15)))


@given(st.data())
def test_whatever_counters_do_nothing_is_nonsense(data: st.DataObject) -> None:
    def any_reading(at_s: float) -> Reading:
        drawn = {name: data.draw(amounts) for name in ("busy_s", "idle_s", "own_cpu_s", "own_run_s", "own_wait_s")}
        drawn |= {name: data.draw(amounts) for name in ("quota_used_s", "throttled_s", "runnable_sum", "load_average")}
        drawn |= {name: data.draw(pressures) for name in ("cpu", "memory", "io")}
        drawn |= {"cores": data.draw(st.floats(0.01, 64)), "runnable_looks": data.draw(st.integers(0, 100))}
        drawn |= {"cpus": data.draw(st.integers(1, 64)), "available_bytes": data.draw(st.integers(0, 1 << 50))}
        return a_reading(at_s, **drawn, pressure_of=data.draw(st.sampled_from(("machine", "cgroup", "none"))))

    seen = sample(any_reading(0), any_reading(data.draw(st.floats(0.001, 1e6))))
    for name in seen.__struct_fields__:
        value = getattr(seen, name)
        if name.endswith("_ratio") and name not in ("load_ratio", "throttled_ratio"):
            assert value is None or 0 <= value <= 1, name
        assert not isinstance(value, int | float) or value >= 0 or name == "fill_bytes_per_s", name
    assert seen.foreign_cores is None or seen.foreign_cores <= seen.cores
    assert 1 <= optimal_workers(seen, "cpu") <= max(1, seen.cores + 1)
    assert optimal_workers(seen, "cpu") <= optimal_workers(seen, "io") <= max(1, 32 * seen.cores)


# --- how many workers ---------------------------------------------------------------------------


def busy_with(foreign_cores: float, **facts: Any) -> Any:
    before = a_reading(cores=4.0, cpus=4)
    seen = sample(before, a_reading(1, cores=4.0, cpus=4, busy_s=foreign_cores, idle_s=4 - foreign_cores))
    return replace(seen, **facts)


@pytest.mark.parametrize(("foreign", "cpu", "io"), [(0, 4, 18), (1, 3, 14), (1.5, 3, 12), (4, 1, 2)])
def test_workers_are_the_cores_that_others_leave(foreign: float, cpu: int, io: int) -> None:
    assert (optimal_workers(busy_with(foreign), "cpu"), optimal_workers(busy_with(foreign), "io")) == (cpu, io)


def test_our_own_use_lowers_nothing() -> None:
    seen = sample(a_reading(), full(1, own_cpu_s=2.0))
    assert (optimal_workers(seen, "cpu"), optimal_workers(seen, "io")) == (2, 9)


def test_a_saturated_disk_lowers_io_workers_only_and_at_most_by_half() -> None:
    assert optimal_workers(busy_with(0, io_full_ratio=0.30), "io") == 18
    assert optimal_workers(busy_with(0, io_full_ratio=0.40), "io") == 13
    assert optimal_workers(busy_with(0, io_full_ratio=1.0), "io") == 9
    assert optimal_workers(busy_with(0, io_full_ratio=1.0), "cpu") == 4


@pytest.mark.parametrize(
    "facts",
    [
        {"memory_some_ratio": 0.11},
        {"available_bytes": 2 * GIB},  # under 1.5 × 10 % of 16 GiB
        {"fill_bytes_per_s": 0.7 * GIB},  # 8 GiB less the reserve, gone in less than 10 s
    ],
)
def test_short_memory_leaves_one_worker(facts: dict[str, float]) -> None:
    assert (optimal_workers(busy_with(0, **facts), "cpu"), optimal_workers(busy_with(0, **facts), "io")) == (1, 1)


@pytest.mark.parametrize(
    "facts", [{"memory_some_ratio": 0.10}, {"available_bytes": 3 * GIB}, {"fill_bytes_per_s": -9e9}]
)
def test_calm_memory_bounds_no_workers(facts: dict[str, float]) -> None:
    assert memory_calm(busy_with(0, **facts))


@pytest.mark.parametrize(
    ("limit", "fill", "reserve"),
    [
        (512 * MIB, 0, 76.8 * MIB),  # a small container must run its jobs too
        (1 * GIB, 0, 153.6 * MIB),
        (16 * GIB, 0, 1.6 * GIB),
        (256 * GIB, 0, 4 * GIB),
        (16 * GIB, 1 * GIB, 1.9 * GIB),
        (16 * GIB, 100 * GIB, 4 * GIB),
    ],
)
def test_the_reserve_follows_the_limit_and_the_fill_rate(limit: int, fill: float, reserve: float) -> None:
    assert reserve_bytes(limit, fill) == pytest.approx(reserve, abs=1)


def test_what_ours_want_is_what_they_use_and_what_they_wait_for() -> None:
    before, after = full(0.0), full(1.0)
    seen = replace(sample(before, after), own_cores=0.5, run_delay_ratio=0.75)
    assert wanted_cores(seen) == 2.0
    assert wanted_cores(replace(seen, run_delay_ratio=None)) is None, "they may have waited for most of the time"
    assert wanted_cores(replace(seen, own_cores=0.01, run_delay_ratio=None)) == 0.01
    assert wanted_cores(replace(seen, own_cores=None)) is None
