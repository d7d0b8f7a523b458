"""The monitor on the real machine: its kernel files, its processes, threads, and what they cost."""

import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tidegate.monitor import Crossing, Machine, ResourceMonitor, Threshold
from tidegate.monitor.kept import Kept, read_once

pytestmark = pytest.mark.live

PAGE = Path(__file__).parents[2] / "docs/reference/monitor.md"
BURN = "while :; do :; done"
ALWAYS = {"cpu_busy": Threshold(0.0, -1.0)}  # crossed by the first sample that has a rate
FACT_S = 20.0


def until(fact: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + FACT_S
    while not fact():
        assert time.monotonic() < deadline_s, "it did not happen"
        threading.Event().wait(0.005)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# --- readings -----------------------------------------------------------------------------------


def test_the_real_machine_is_read_whole() -> None:
    with ResourceMonitor(check_interval_s=0.1) as monitor:
        until(lambda: len(monitor.history()) >= 3)
        seen = monitor.current()
        told = monitor.readings_in_use()
    assert 0 < seen.cores <= seen.cpus == (os.cpu_count() or 1)
    assert seen.interval_s is not None and seen.interval_s >= 0.05
    assert seen.load_ratio is not None and seen.load_source != "none"
    assert seen.busy_ratio is not None and seen.foreign_cores is not None and seen.own_cores is not None
    assert seen.available_bytes is not None and seen.memory_limit_bytes is not None
    assert 0 < seen.available_bytes <= seen.memory_limit_bytes <= psutil.virtual_memory().total
    assert 1 <= monitor.optimal_workers() <= monitor.optimal_workers("io") <= 32 * seen.cores
    assert {use.what for use in told} == {"cores", "load", "cpu", "own", "pressure", "memory", "swap", "disk"}


def test_available_memory_is_what_the_kernel_says() -> None:
    memory = Machine().available()
    assert memory is not None
    assert memory.available_bytes <= psutil.virtual_memory().available * 1.2


def test_a_kept_descriptor_is_read_faster_than_a_file_and_in_microseconds() -> None:
    kept, machine = Kept("/proc/loadavg"), Machine()

    def best_us(call: Callable[[], object]) -> float:
        """Of many short batches: the others on this machine do not disturb all of them."""
        batches = []
        for _ in range(40):
            began_s = time.perf_counter()
            for _ in range(25):
                call()
            batches.append((time.perf_counter() - began_s) / 25 * 1e6)
        return min(batches)

    pread_us, open_us = best_us(kept.read), best_us(lambda: read_once("/proc/loadavg"))
    assert pread_us < open_us
    assert pread_us < 25  # about 1.5
    assert best_us(machine.glance) < 50  # about 2
    assert best_us(machine.available) < 500  # about 30
    assert best_us(machine.read) < 5000  # about 140


def test_a_process_that_ends_takes_its_files_with_it_and_leaves_no_descriptor() -> None:
    before = descriptors()
    child = subprocess.Popen(["sleep", "60"])
    kept, machine = Kept(f"/proc/{child.pid}/schedstat"), Machine(pid=child.pid)
    assert kept.read() is not None
    assert machine.read().own_cpu_s is not None
    child.kill()
    child.wait()
    assert kept.read() is None
    assert machine.read().own_cpu_s is None
    machine.close()
    assert descriptors() == before


@contextmanager
def ended(pid: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.kill(pid, 9)


def test_work_of_our_children_is_ours() -> None:
    machine = Machine()
    with subprocess.Popen(["sh", "-c", BURN]) as child, ended(child.pid):
        began_s = machine.read().own_cpu_s or 0.0
        spent_here_s = time.process_time()
        until(lambda: (machine.read().own_cpu_s or 0.0) - began_s > 0.2 + time.process_time() - spent_here_s)
    machine.close()


def test_work_of_a_stranger_is_ours_only_when_it_is_watched() -> None:
    machine = Machine()
    shell = subprocess.run(
        ["sh", "-c", f"({BURN}) >/dev/null 2>&1 & echo $!"], capture_output=True, text=True, check=True
    )
    stranger = int(shell.stdout)  # its parent has ended, so it is nobody's of ours
    with ended(stranger):
        process = psutil.Process(stranger)
        before_s = machine.read().own_cpu_s or 0.0
        until(lambda: process.cpu_times().user > 0.3)
        without_s = machine.read().own_cpu_s or 0.0
        machine.watch([stranger])
        with_s = machine.read().own_cpu_s or 0.0
    machine.close()
    assert with_s - without_s > 0.25
    assert without_s >= before_s


def test_fault_37_without_psi_it_falls_back_and_says_so_once(tmp_path: Path) -> None:
    script = """if True:
        import logging
        logging.basicConfig(format="%(name)s %(message)s")
        from tidegate.monitor import ResourceMonitor
        monitor = ResourceMonitor()
        for _ in range(3):
            seen = monitor.check()
        print(seen.pressure_of, seen.cpu_some_ratio, seen.available_bytes > 0)
    """
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", 'mount --bind "$1" /proc/pressure && exec "$2" -c "$3"', "sh",
         tmp_path, sys.executable, script],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.stdout == "none None True\n", done.stderr
    said = [line for line in done.stderr.splitlines() if "pressure" in line.split(":")[0]]
    assert len(said) == 1
    assert "the kernel tells no pressure (PSI; boot with psi=1)" in said[0]


# --- the thread ---------------------------------------------------------------------------------


def named() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tidegate-monitor"]


def test_one_thread_begins_ends_and_begins_again() -> None:
    before = descriptors()
    monitor = ResourceMonitor(check_interval_s=0.05)
    for _ in range(2):
        monitor.start()
        monitor.start()
        assert len(named()) == 1
        seen = len(monitor.history())
        until(lambda seen=seen: len(monitor.history()) > seen)
        monitor.stop()
        assert named() == []
    monitor.stop()
    assert descriptors() == before


def test_a_callback_that_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "tidegate.monitor")

    def fails(told: Crossing) -> None:
        raise RuntimeError(told.resource)

    with ResourceMonitor(check_interval_s=0.05, thresholds=ALWAYS, on_crossing=fails) as monitor:
        until(monitor.crossed)
        seen = len(monitor.history())
        until(lambda: len(monitor.history()) > seen + 2)
    assert "RuntimeError: cpu_busy" in caplog.text


def test_a_callback_may_stop_the_monitor() -> None:
    stopped = threading.Event()

    def stop(told: Crossing) -> None:
        assert threading.current_thread().name == "tidegate-monitor"
        monitor.stop()
        stopped.set()

    monitor = ResourceMonitor(check_interval_s=0.05, thresholds=ALWAYS, on_crossing=stop)
    monitor.start()
    assert stopped.wait(FACT_S)
    until(lambda: not named())


def test_a_long_interval_does_not_hold_up_the_end() -> None:
    with ResourceMonitor(check_interval_s=3600) as monitor:
        until(monitor.history)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 2


# --- its page -----------------------------------------------------------------------------------


def test_the_example_of_the_page_runs() -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert "16 letters\n" in done.stdout
    assert re.search(r"^[\d.]+ cores, \d{6,} bytes available$", done.stdout, re.M)


def test_psutil_is_loaded_only_where_the_kernel_files_give_nothing() -> None:
    code = (
        "import sys, tidegate.cli.run, tidegate.supervisor.daemon\n"
        "from tidegate.monitor.machine import Machine\n"
        "machine = Machine()\nmachine.read()\nmachine.glance()\nmachine.available()\n"
        "print('psutil' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"
