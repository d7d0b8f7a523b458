"""The machine read from made-up kernel files: limits of cgroups, containers, what is missing, what is garbage."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monitor_world import GIB, MIB, PID, V1, V2, World

from tidegate.model.sample import Disk, Memory, Pressure, sample
from tidegate.monitor import process
from tidegate.monitor.machine import Machine


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def in_use(machine: Machine) -> dict[str, tuple[str, str]]:
    machine.read()
    return {use.what: (use.source, use.instead) for use in machine.readings_in_use()}


def test_a_whole_machine_needs_no_fallback(world: World) -> None:
    world.children(PID)
    machine = world.machine()
    reading = machine.read()
    assert (reading.cores, reading.cpus, reading.available_bytes) == (4.0, 4, 8 * GIB)
    assert [use for use in machine.readings_in_use() if use.instead] == []


# --- cores --------------------------------------------------------------------------------------


def test_affinity_bounds_the_cores(world: World) -> None:
    assert world.machine(affinity=3).read().cores == 3.0


def test_an_affinity_of_more_than_is_online_counts_what_is_online(world: World) -> None:
    assert world.machine(affinity=64).read().cores == 4.0


def test_the_tightest_quota_above_counts_in_version_2(world: World) -> None:
    world.cgroup("0::/a/b/c\n", V2)
    world.write("sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n")
    world.write("sys/fs/cgroup/a/b/cpu.max", "250000 100000\n")
    world.write("sys/fs/cgroup/a/cpu.max", "150000 100000\n")
    machine = world.machine()
    assert machine.read().cores == 1.5
    assert in_use(machine)["cores"][0] == "CPU quota of /sys/fs/cgroup/a (cgroup v2)"


def test_the_tightest_quota_above_counts_in_version_1(world: World) -> None:
    world.cgroup("4:memory:/m\n3:cpu,cpuacct:/a/b\n", V1)
    folder = "sys/fs/cgroup/cpu,cpuacct"
    for name, quota in (("a/b", "-1"), ("a", "50000"), (".", "-1")):
        world.write(f"{folder}/{name}/cpu.cfs_quota_us", f"{quota}\n")
        world.write(f"{folder}/{name}/cpu.cfs_period_us", "100000\n")
    world.write(f"{folder}/a/cpu.stat", "nr_periods 5\nnr_throttled 2\nthrottled_time 3000000000\n")
    world.write(f"{folder}/a/cpuacct.usage", "7000000000\n")
    reading = world.machine().read()
    assert (reading.cores, reading.throttled_s, reading.quota_used_s) == (0.5, 3.0, 7.0)


def test_use_of_a_quota_is_found_where_cpuacct_is_mounted_by_itself(world: World) -> None:
    apart = V1.replace("cpu,cpuacct", "cpu") + "33 20 0:4 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n"
    world.cgroup("3:cpu:/a/b\n4:cpuacct:/a/b\n", apart)
    world.write("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "50000\n")
    world.write("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n")
    world.write("sys/fs/cgroup/cpuacct/a/cpuacct.usage", "7000000000\n")
    reading = world.machine().read()
    assert (reading.cores, reading.quota_used_s) == (0.5, 7.0)


def test_a_quota_wider_than_the_affinity_bounds_nothing(world: World) -> None:
    world.cgroup("0::/a\n", V2)
    world.write("sys/fs/cgroup/a/cpu.max", "800000 100000\n")
    reading = world.machine().read()
    assert (reading.cores, reading.quota_used_s) == (4.0, None)


def test_a_quota_that_is_changed_is_seen_at_once(world: World) -> None:
    world.cgroup("0::/a\n", V2)
    world.write("sys/fs/cgroup/a/cpu.max", "max 100000\n")
    machine = world.machine()
    assert machine.read().cores == 4.0
    world.write("sys/fs/cgroup/a/cpu.max", "100000 100000\n")
    assert machine.read().cores == 1.0


def test_a_process_that_is_moved_is_followed(world: World) -> None:
    world.cgroup("0::/a\n", V2)
    world.write("sys/fs/cgroup/a/cpu.max", "100000 100000\n")
    world.write("sys/fs/cgroup/b/cpu.max", "200000 100000\n")
    machine = world.machine()
    assert machine.read().cores == 1.0
    world.write(f"proc/{PID}/cgroup", "0::/b\n")
    assert machine.read().cores == 2.0


# --- memory -------------------------------------------------------------------------------------


def v2_memory(world: World, name: str, limit: str, usage: int, idle: int = 0, high: str = "max") -> None:
    folder = f"sys/fs/cgroup/{name}"
    world.write(f"{folder}/memory.max", f"{limit}\n")
    world.write(f"{folder}/memory.high", f"{high}\n")
    world.write(f"{folder}/memory.current", f"{usage}\n")
    world.write(f"{folder}/memory.stat", f"anon 5\nfile 9\ninactive_anon 77\ninactive_file {idle}\n")


def test_the_least_of_the_machine_and_every_cgroup_above_is_available(world: World) -> None:
    world.cgroup("0::/a/b/c\n", V2)
    v2_memory(world, "a/b/c", "max", 5 * GIB)
    v2_memory(world, "a/b", str(4 * GIB), 1 * GIB)
    v2_memory(world, "a", str(5 * GIB), 3 * GIB)
    machine = world.machine()
    assert machine.available() == Memory(2 * GIB, 4 * GIB)
    assert "/sys/fs/cgroup/a/b (cgroup v2), /sys/fs/cgroup/a (cgroup v2)" in in_use(machine)["memory"][0]
    world.memory(1 * GIB)
    assert machine.available() == Memory(1 * GIB, 4 * GIB)


def test_page_cache_that_is_idle_counts_as_available(world: World) -> None:
    world.cgroup("0::/a\n", V2)
    v2_memory(world, "a", str(GIB), GIB, idle=300 * MIB)
    assert world.machine().available() == Memory(300 * MIB, GIB)


def test_a_cgroup_above_its_limit_leaves_nothing_and_not_less(world: World) -> None:
    world.cgroup("0::/a\n", V2)
    v2_memory(world, "a", str(GIB), 2 * GIB)
    assert world.machine().available() == Memory(0, GIB)


def test_memory_high_is_a_limit(world: World) -> None:
    world.cgroup("0::/a\n", V2)
    v2_memory(world, "a", str(2 * GIB), 256 * MIB, high=str(GIB))
    assert world.machine().available() == Memory(768 * MIB, GIB)


def test_version_1_limits_nest_and_its_word_for_none_is_none(world: World) -> None:
    world.cgroup("4:memory:/a/b\n3:cpu,cpuacct:/\n", V1)
    for name, limit, usage in (("a/b", 9223372036854771712, GIB), ("a", 2 * GIB, GIB), (".", 9223372036854771712, GIB)):
        folder = f"sys/fs/cgroup/memory/{name}"
        world.write(f"{folder}/memory.limit_in_bytes", f"{limit}\n")
        world.write(f"{folder}/memory.usage_in_bytes", f"{usage}\n")
        world.write(f"{folder}/memory.stat", f"inactive_file 1\ntotal_inactive_file {100 * MIB}\n")
    machine = world.machine()
    assert machine.available() == Memory(GIB + 100 * MIB, 2 * GIB)
    assert in_use(machine)["memory"][0] == "MemAvailable and the limits of /sys/fs/cgroup/memory/a (cgroup v1)"


def test_a_container_without_a_namespace_sees_its_own_limit(world: World) -> None:
    world.cgroup("0::/docker/x\n", V2.replace(" / /sys", " /docker/x /sys"))
    v2_memory(world, ".", str(GIB), 256 * MIB)
    assert world.machine().available() == Memory(768 * MIB, GIB)


def test_of_both_versions_each_controller_is_where_it_is_mounted(world: World) -> None:
    world.cgroup("4:memory:/m\n0::/u\n", V1 + V2.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified "))
    world.write("sys/fs/cgroup/memory/m/memory.limit_in_bytes", f"{GIB}\n")
    world.write("sys/fs/cgroup/memory/m/memory.usage_in_bytes", "0\n")
    v2_memory(world, "unified/u", str(MIB), 0)
    assert world.machine().available() == Memory(GIB, GIB)


def test_a_limit_without_its_usage_bounds_nothing(world: World) -> None:
    world.cgroup("0::/a\n", V2)
    world.write("sys/fs/cgroup/a/memory.max", f"{MIB}\n")
    assert world.machine().available() == Memory(8 * GIB, 16 * GIB)


def test_old_kernels_without_memavailable_get_half_the_cache(world: World) -> None:
    world.write("proc/meminfo", "MemTotal: 1000 kB\nMemFree: 100 kB\nCached: 300 kB\n")
    machine = world.machine()
    assert machine.available() == Memory(250 * 1024, 1000 * 1024)
    assert in_use(machine)["memory"] == ("MemFree and half of Cached", "/proc/meminfo has no MemAvailable")


def test_swap_is_not_available_memory_and_its_traffic_is_told(world: World) -> None:
    world.swap(4 * GIB, 3 * GIB)
    world.write("proc/vmstat", "nr_free_pages 5\npswpin 10\npswpout 20\n")
    reading = world.machine().read()
    assert (reading.available_bytes, reading.swap_total_bytes, reading.swap_free_bytes) == (8 * GIB, 4 * GIB, 3 * GIB)
    assert reading.swapped_out_bytes == 2 * (reading.swapped_in_bytes or 0) > 0


# --- pressure -----------------------------------------------------------------------------------


def test_on_a_whole_machine_its_own_pressure_counts(world: World) -> None:
    world.cgroup("0::/a\n", V2)
    world.pressure("cpu", 5, 2)
    world.pressure("cpu", 900, 900, folder="sys/fs/cgroup/a")
    reading = world.machine().read()
    assert (reading.pressure_of, reading.cpu) == ("machine", Pressure(5, 2))


def test_under_a_limit_the_pressure_of_the_limited_cgroup_counts(world: World) -> None:
    world.cgroup("0::/a/b\n", V2)
    world.write("sys/fs/cgroup/a/cpu.max", "100000 100000\n")
    for name in ("cpu", "memory", "io"):
        world.pressure(name, 7, 3, folder="sys/fs/cgroup/a")
        world.pressure(name, 1, 1, folder="sys/fs/cgroup/a/b")
    reading = world.machine().read()
    assert (reading.pressure_of, reading.cpu, reading.io) == ("cgroup", Pressure(7, 3), Pressure(7, 3))


def test_in_a_container_without_limits_its_own_pressure_counts(world: World) -> None:
    world.cgroup("0::/\n", V2)
    (world.root / f"proc/{PID}/ns").mkdir()
    (world.root / f"proc/{PID}/ns/pid").symlink_to("pid:[4026532999]")
    world.pressure("memory", 7, 3, folder="sys/fs/cgroup")
    reading = world.machine().read()
    assert (reading.pressure_of, reading.memory, reading.cpu) == ("cgroup", Pressure(7, 3), None)


def test_the_machines_own_pid_namespace_is_no_container(world: World) -> None:
    world.cgroup("0::/\n", V2)
    (world.root / f"proc/{PID}/ns").mkdir()
    (world.root / f"proc/{PID}/ns/pid").symlink_to("pid:[4026531836]")
    world.pressure("memory", 7, 3, folder="sys/fs/cgroup")
    assert world.machine().read().pressure_of == "machine"


def test_a_limited_cgroup_without_pressure_falls_back_to_the_machines_and_says_so(world: World) -> None:
    world.cgroup("0::/a\n", V2)
    world.write("sys/fs/cgroup/a/cpu.max", "100000 100000\n")
    machine = world.machine()
    assert machine.read().pressure_of == "machine"
    assert in_use(machine)["pressure"][1] == "/sys/fs/cgroup/a (cgroup v2) tells no pressure of its own"


def test_pressure_on_some_things_only_is_said(world: World) -> None:
    world.remove("proc/pressure/io")
    machine = world.machine()
    assert machine.read().io is None
    assert in_use(machine)["pressure"] == ("the machine's (/proc/pressure)", "no pressure on io is told")


def test_no_pressure_at_all_is_said(world: World) -> None:
    for name in ("cpu", "memory", "io"):
        world.write(f"proc/pressure/{name}", "")
    machine = world.machine()
    reading = machine.read()
    assert (reading.pressure_of, reading.cpu, reading.memory, reading.io) == ("none", None, None, None)
    assert in_use(machine)["pressure"][1].startswith("the kernel tells no pressure")


# --- load: its sources in their order ----------------------------------------------------------


def test_sources_of_load_serve_in_their_order(world: World) -> None:
    machine = world.machine()
    assert in_use(machine)["load"] == ("runnable threads (/proc/loadavg)", "")
    world.remove("proc/loadavg")
    machine.close()
    assert in_use(machine)["load"][0].startswith("run-delay")
    world.remove(f"proc/{PID}/schedstat")
    assert in_use(machine)["load"][0] == "pressure (PSI)"
    for name in ("cpu", "memory", "io"):
        world.remove(f"proc/pressure/{name}")
    machine.close()
    assert in_use(machine)["load"][0] == "none"
    world.runnable(3)
    assert in_use(machine)["load"] == ("runnable threads (/proc/loadavg)", "")
    world.cpus = 8
    world.stat(0, 0)
    machine = world.machine(affinity=2)
    assert in_use(machine)["load"] == ("load average", "only a part of the machine is ours, no schedstat, no PSI")


def test_runnable_threads_do_not_count_the_reader(world: World) -> None:
    machine = world.machine()
    before = machine.read()
    for threads in (1, 5, 9):
        world.runnable(threads)
        machine.glance()
    world.runnable(0)  # the kernel's count is not exact: never below none
    world.clock.now_s += 1
    assert sample(before, machine.read()).load_ratio == (0 + 4 + 8 + 0) / 4 / 4


# --- our own processes --------------------------------------------------------------------------


def test_descendants_are_ours_as_the_kernel_lists_them(world: World) -> None:
    world.process(PID, parent=1, cpu_s=1, reaped_s=2, ran_s=1, waited_s=0.5)
    world.process(101, parent=PID, cpu_s=4)
    world.process(102, parent=101, cpu_s=8, ran_s=3, waited_s=0.25)
    world.process(900, parent=1, cpu_s=1000)
    world.children(PID, 101)
    world.children(101, 102)
    machine = world.machine()
    reading = machine.read()
    assert (reading.own_cpu_s, reading.own_run_s, reading.own_wait_s) == (15.0, 0.0, 0.0)
    world.process(PID, parent=1, cpu_s=1, reaped_s=2, ran_s=1.5, waited_s=0.5)
    world.process(102, parent=101, cpu_s=8, ran_s=4, waited_s=2.25)
    reading = machine.read()
    assert (reading.own_cpu_s, reading.own_run_s, reading.own_wait_s) == (15.0, 1.5, 2.0)


def test_a_process_that_ends_or_begins_does_not_look_like_delay(world: World) -> None:
    world.process(PID, parent=1, ran_s=1, waited_s=0)
    world.process(101, parent=PID, ran_s=500, waited_s=1)
    world.process(102, parent=PID, ran_s=7, waited_s=0)
    machine = world.machine(affinity=2)
    before = machine.read()
    world.process(PID, parent=1, ran_s=1.5, waited_s=0.5)
    world.remove("proc/101/schedstat")
    world.process(102, parent=PID, ran_s=0, waited_s=50)  # another one, with its pid
    world.process(103, parent=PID, ran_s=0, waited_s=900)
    world.clock.now_s += 1
    assert sample(before, machine.read()).run_delay_ratio == 0.5


def test_descendants_are_found_where_the_kernel_lists_no_children(world: World) -> None:
    for pid, parent, spent in ((101, PID, 4), (102, 101, 8), (900, 1, 1000)):
        world.process(pid, parent=parent, cpu_s=spent)
    machine = world.machine()
    assert machine.read().own_cpu_s == 12.0
    assert "CONFIG_PROC_CHILDREN" in in_use(machine)["own"][1]


def test_a_process_that_was_not_seen_for_a_while_begins_anew() -> None:
    delays = process.Delays()
    for seen in ({"1": (1.0, 0.0)}, {}, {"1": (9.0, 9.0)}, {"1": (10.0, 9.5)}):
        delays.add(seen)
    assert (delays.run_s, delays.wait_s) == (1.0, 0.5)


def test_watched_processes_are_ours_with_all_below_them(world: World) -> None:
    for pid, parent, spent in ((900, 1, 16), (901, 900, 32), (902, 1, 1000)):
        world.process(pid, parent=parent, cpu_s=spent)
    machine = world.machine()
    machine.watch([900, 901, 5555])
    assert machine.read().own_cpu_s == 48.0
    machine.watch([])
    assert machine.read().own_cpu_s == 0.0


def test_too_many_processes_to_watch_are_refused(world: World) -> None:
    machine = world.machine()
    machine.watch(range(1000, 1000 + process.PROCESSES_MAX - 1))
    with pytest.raises(ValueError, match="at most 999"):
        machine.watch(range(1000, 1000 + process.PROCESSES_MAX))


@pytest.mark.parametrize("listed", [True, False])
def test_more_processes_of_ours_than_are_counted_is_said(
    world: World, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "PROCESSES_MAX", 3)
    for pid in range(101, 106):
        world.process(pid, parent=PID, cpu_s=1)
    if listed:
        world.children(PID, *range(101, 106))
    machine = world.machine()
    assert machine.read().own_cpu_s == 2.0
    assert "more than 3 processes" in in_use(machine)["own"][1]


def test_processes_that_are_each_others_children_end(world: World) -> None:
    world.process(101, parent=102)
    world.process(102, parent=101)
    world.children(PID, 101)
    world.children(101, 102)
    world.children(102, 101, PID)
    assert world.machine().read().own_cpu_s == 0.0


# --- disks, and what is missing -----------------------------------------------------------------


def test_disks_with_hardware_count_once(world: World) -> None:
    world.disk(4096, 8192, 1500)
    assert world.machine().read().disks == (Disk("vda", 4096, 8192, 1.5),)


def test_psutil_serves_where_proc_is_missing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)  # psutil reads the real one
    reading = machine.read()
    assert reading.busy_s and reading.idle_s and reading.available_bytes and reading.own_cpu_s
    assert reading.load_average is not None
    told = {use.what: use.source for use in machine.readings_in_use()}
    assert (told["cpu"], told["memory"], told["own"], told["load"]) == ("psutil", "psutil", "psutil", "load average")


def test_a_machine_that_tells_nothing_is_read_without_an_error(world: World, tmp_path: Path) -> None:
    empty = world.machine()
    empty._root, empty._proc = str(tmp_path / "none"), str(tmp_path / "none/proc")
    empty._cgroups.close()
    empty._cgroups._where.path = str(tmp_path / "none/cgroup")
    before = empty.read()
    world.clock.now_s += 1
    seen = sample(before, empty.read())
    known = {name for name in seen.__struct_fields__ if getattr(seen, name) not in (None, "none")}
    assert known == {"at", "at_s", "interval_s", "cores", "cpus"}
    assert all(use.instead for use in empty.readings_in_use() if use.what != "cores")


def test_files_that_come_and_go_are_known_again(world: World) -> None:
    machine = world.machine()
    assert machine.read().available_bytes == 8 * GIB
    world.write("proc/meminfo", "")
    assert machine.read().available_bytes is None
    assert in_use(machine)["memory"] == ("none", "/proc/meminfo cannot be read")
    world.memory(3 * GIB)
    assert machine.read().available_bytes == 3 * GIB
    assert in_use(machine)["memory"] == ("MemAvailable", "")


FILES = (
    *("proc/loadavg", "proc/stat", "proc/meminfo", "proc/diskstats", "proc/pressure/cpu", f"proc/{PID}/stat"),
    *(f"proc/{PID}/schedstat", f"proc/{PID}/cgroup", f"proc/{PID}/mountinfo", f"proc/{PID}/task/{PID}/children"),
    *("sys/fs/cgroup/a/cpu.max", "sys/fs/cgroup/a/memory.max", "sys/fs/cgroup/a/memory.current"),
    *("sys/fs/cgroup/a/memory.stat", "sys/fs/cgroup/a/cpu.stat", "sys/fs/cgroup/a/cpu.pressure"),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FILES), st.binary(max_size=80), max_size=4))
def test_garbage_in_any_file_is_no_error_and_no_nonsense(world: World, garbage: dict[str, bytes]) -> None:
    fresh = World(world.root)
    fresh.cgroup("0::/a\n", V2)
    fresh.children(PID)
    fresh.write("sys/fs/cgroup/a/cpu.max", "200000 100000\n")
    fresh.write("sys/fs/cgroup/a/cpu.stat", "usage_usec 5\nthrottled_usec 5\n")
    v2_memory(fresh, "a", str(GIB), 5)
    fresh.pressure("cpu", 5, 5, folder="sys/fs/cgroup/a")
    machine = fresh.machine()
    before = machine.read()
    for path, text in garbage.items():
        fresh.write(path, text)
    fresh.clock.now_s += 1
    seen = sample(before, machine.read())
    machine.close()
    assert 0 < seen.cores <= max(4, seen.cpus)
    for name in seen.__struct_fields__:
        value = getattr(seen, name)
        if name.endswith("_ratio") and name not in ("load_ratio", "throttled_ratio"):
            assert value is None or 0 <= value <= 1, name
        assert not isinstance(value, int | float) or value >= 0 or name == "fill_bytes_per_s", name
