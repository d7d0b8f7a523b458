"""Kernel files to numbers: as the kernel writes them, and as nobody does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.model.sample import Disk, Pressure
from tidegate.monitor import cgroup, formats

PSI = b"some avg10=44.98 avg60=41.24 avg300=52.69 total=2379160129\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=17\n"


def test_pressure_is_its_totals() -> None:
    assert formats.pressure(PSI) == Pressure(2379160129, 17)


def test_pressure_of_old_kernels_has_no_full_for_cpu() -> None:
    assert formats.pressure(PSI.splitlines()[0] + b"\n") == Pressure(2379160129, 0)


def test_loadavg_is_load_and_runnable_threads() -> None:
    assert formats.loadavg(b"3.52 3.81 3.31 3/145 1556\n") == (3.52, 3)


def test_busy_counts_stolen_time_and_counts_guests_once() -> None:
    #               user nice sys idle iowait irq softirq steal guest guest_nice
    text = b"cpu  100 200 300 5000 50 1 2 7 90 80\ncpu0 0 0 0 0\ncpu1 0 0 0 0\nintr 1\ncpufreq 9\n"
    assert formats.cpu_times(text, 100) == (6.1, 50.5, 2)


def test_the_name_of_a_process_cannot_shift_its_numbers() -> None:
    text = b"7 (evil) S 1 9 9) R 42 1 1 0 -1 0 0 0 0 0 150 50 30 20 20 0 1 0 5 0\n"
    assert formats.process_cpu(text, 100) == 2.5
    assert formats.parent(text) == "42"


def test_schedstat_is_seconds_run_and_waited() -> None:
    assert formats.schedstat(b"2000000000 500000000 9\n") == (2.0, 0.5)


def test_kilobytes_become_bytes_and_plain_numbers_stay() -> None:
    text = b"MemTotal:  10 kB\nHugePages_Total: 3\nMemFree: many kB\npswpin 4\n"
    names = (b"MemTotal", b"HugePages_Total", b"MemFree", b"pswpin")
    assert formats.fields(text, names) == {b"MemTotal": 10240, b"HugePages_Total": 3, b"pswpin": 4}


@pytest.mark.parametrize(
    ("text", "cores"), [(b"150000 100000\n", 1.5), (b"max 100000\n", None), (b"5 0\n", None), (b"", None), (None, None)]
)
def test_a_quota_is_cores(text: bytes | None, cores: float | None) -> None:
    assert formats.quota_v2(text) == cores


def test_only_whole_disks_count() -> None:
    line = b"254 %d %s 1 2 16 4 5 6 8 7 0 1500 9 0 0 0 0 0 0\n"
    text = b"".join(line % pair for pair in enumerate((b"sda", b"sda1", b"loop0", b"dm-0", b"nvme0n1", b"nvme0n1p2")))
    disk = {"read_bytes": 8192, "written_bytes": 4096, "busy_s": 1.5}
    assert formats.diskstats(text, frozenset({"dm-0"})) == (Disk(name="dm-0", **disk),)
    assert formats.diskstats(text, frozenset()) == (Disk(name="sda", **disk), Disk(name="nvme0n1", **disk))


@given(st.one_of(st.none(), st.binary(max_size=300), st.binary(max_size=200).map(lambda noise: PSI[:60] + noise)))
def test_garbage_is_nothing_and_no_error(text: bytes | None) -> None:
    formats.pressure(text)
    formats.loadavg(text)
    formats.cpu_times(text and b"cpu " + text, 100)
    formats.fields(text, (b"MemTotal", b""))
    formats.process_cpu(text, 100)
    formats.parent(text)
    formats.schedstat(text)
    formats.quota_v2(text)
    formats.number(text)
    formats.diskstats(text, frozenset())
    shown = (text or b"").decode(errors="surrogateescape")
    cgroup.mounts(shown + " - cgroup2 " + shown)
    cgroup.paths(shown)


@pytest.mark.parametrize(
    "text", [b"", b"\0\0", b"some total=x\n", b"1.0", b"cpu a b c d\n", b"\xff" * 50, b"9" * 5000, None]
)
def test_what_is_not_as_the_kernel_writes_it_is_unknown(text: bytes | None) -> None:
    assert formats.pressure(text) is None
    assert formats.loadavg(text) is None
    assert formats.cpu_times(text, 100) is None
    assert formats.process_cpu(text, 100) is None
    assert formats.schedstat(text) is None
    assert formats.number(text) is None


def test_numbers_longer_than_any_of_the_kernel_are_none() -> None:
    long = b"9" * 5000
    assert formats.pressure(b"some total=" + long) is None
    assert formats.loadavg(long + b".0 0 0 " + long + b"/1 ") is None
    assert formats.cpu_times(b"cpu 1 2 3 " + long, 100) is None
    assert formats.fields(b"MemTotal: " + long, (b"MemTotal",)) == {}
    assert formats.schedstat(b"1 2 " + long) is None
    assert formats.quota_v2(long + b" 100") is None
    assert formats.diskstats(b"1 1 sda" + b" %s" % long * 12, frozenset()) == ()


def test_mount_points_with_blanks_are_read() -> None:
    (mount,) = cgroup.mounts("1 1 0:1 /a\\040b /mnt/c\\040d rw shared:1 - cgroup2 none rw\n")
    assert (mount.root, mount.point) == ("/a b", "/mnt/c d")


@pytest.mark.parametrize(
    ("root", "path", "expected"),
    [
        ("/", "/a/b", ["/cg/a/b", "/cg/a", "/cg"]),
        ("/", "/", ["/cg"]),
        ("/docker/x", "/docker/x", ["/cg"]),  # a container without a cgroup namespace
        ("/docker/x", "/docker/x/y", ["/cg/y", "/cg"]),
        ("/docker/x", "/docker/xy", ["/cg"]),
        ("/", "/../../other", ["/cg"]),  # outside of our namespace
    ],
)
def test_the_chain_goes_from_the_own_cgroup_to_the_mount(root: str, path: str, expected: list[str]) -> None:
    assert cgroup.chain(cgroup.Mount(root, "/cg", frozenset(), True), path) == expected


def test_a_bottomless_chain_ends() -> None:
    assert len(cgroup.chain(cgroup.Mount("/", "/cg", frozenset(), True), "/a" * 5000)) == cgroup.LEVELS_MAX + 1
