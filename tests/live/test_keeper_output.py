"""Output goes straight to the run's file: every byte as it came, the middle given back where there is too much."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from keeper_world import World, cmdline_pids

from tidegate.executors.keeper_output import OutputFile, Spares
from tidegate.model.job import Leftovers

pytestmark = pytest.mark.live
MIB = 1 << 20


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.open()
    yield world
    world.close()


def held_bytes(path: Path) -> int:
    return path.stat().st_blocks * 512


def rss_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def test_every_byte_is_kept_as_it_came(world: World, tmp_path: Path) -> None:
    """Row 14: all 256 values, NULs, no newline at the end, a line of 32 MiB."""
    content = bytes(range(256)) * 100 + b"\xff\xfe\0" + b"x" * (32 * MIB)
    (tmp_path / "in").write_bytes(content)
    run_id = world.shell(f"cat {tmp_path}/in; echo err >&2")
    usage = world.exited(run_id).usage
    assert world.output(run_id) == content + b"err\n"
    assert (usage.output_bytes, usage.output_dropped_bytes) == (len(content) + 4, 0)


def test_one_line_of_a_gigabyte_is_kept_whole(world: World) -> None:
    """Row 14: of NULs, without an end."""
    run_id = world.shell("head -c 1073741824 /dev/zero; printf end", output_max_bytes=2048 * MIB)
    usage = world.exited(run_id).usage
    assert (usage.output_bytes, usage.output_dropped_bytes) == (1024 * MIB + 3, 0)
    with world.path(run_id).open("rb") as file:
        assert not any(file.read(1024 * MIB))
        assert file.read() == b"end"
    world.path(run_id).unlink()


def test_endless_output_is_capped_and_costs_no_memory(world: World) -> None:
    """Row 13: 10 GB."""
    pid = world.open_link.keeper_pid
    before = rss_kib(pid), rss_kib(os.getpid())
    run_id = world.shell("echo first; yes | head -c 10000000000; echo last", output_max_bytes=4 * MIB)
    path = world.path(run_id)
    highest = 0
    while not world.ended(run_id):
        world.run(0.005)
        highest = max(highest, held_bytes(path) if path.exists() else 0)
    usage = world.exited(run_id).usage
    assert usage.output_bytes == 10_000_000_000 + 6 + 5
    assert 10_000_000_000 - 5 * MIB < usage.output_dropped_bytes < 10_000_000_000
    world.wait(lambda: held_bytes(path) < 5 * MIB, 2.0)
    assert highest < 400 * MIB  # soft by one look
    with path.open("rb") as file:
        assert file.read(8) == b"first\ny\n"
        file.seek(-7, os.SEEK_END)
        assert file.read() == b"y\nlast\n"
    assert rss_kib(pid) - before[0] < 2048 and rss_kib(os.getpid()) - before[1] < 2048


def test_slow_output_is_capped_close_to_its_limit(world: World) -> None:
    run_id = world.shell(
        "i=0; while [ $i -lt 40 ]; do head -c 1000000 /dev/zero; sleep 0.02; i=$((i+1)); done", output_max_bytes=4 * MIB
    )
    path = world.path(run_id)
    highest = 0
    while not world.ended(run_id):
        world.run(0.005)
        highest = max(highest, held_bytes(path) if path.exists() else 0)
    assert highest < 10 * MIB


@pytest.mark.parametrize("kib", [16, 64, 100, 128, 200, 1024])
def test_of_a_small_limit_both_halves_are_kept_too(world: World, kib: int) -> None:
    run_id = world.shell("echo first; head -c 3000000 /dev/zero | tr '\\0' x; echo last", output_max_bytes=kib * 1024)
    world.exited(run_id)
    path = world.path(run_id)
    step = 65536 if kib >= 256 else 4096
    world.wait(lambda: held_bytes(path) <= kib * 1024 + 2 * step)
    data = path.read_bytes()
    assert data.startswith(b"first\n") and data.endswith(b"last\n") and len(data) == 3_000_011
    begin, end, half = data.index(b"\0"), data.rindex(b"\0") + 1, kib * 512
    assert set(data[begin:end]) == {0}
    assert half - step < begin <= half
    assert half <= len(data) - end <= kib * 1024 - begin + step


def test_leftovers_are_capped_too(world: World) -> None:
    run_id = world.shell("setsid yes & sleep 0.05", leftovers=Leftovers.LEAVE, output_max_bytes=4 * MIB)
    world.exited(run_id)
    path = world.path(run_id)
    world.wait(lambda: path.stat().st_size > 1000 * MIB)
    assert held_bytes(path) < 500 * MIB
    for pid in cmdline_pids("yes"):
        if Path(f"/proc/{pid}/fd/1").exists() and Path(f"/proc/{pid}/fd/1").samefile(path):
            os.kill(pid, signal.SIGKILL)
    world.wait(lambda: held_bytes(path) < 5 * MIB, 3.0)


def test_output_that_met_a_full_disk_is_marked_whatever_the_job_made_of_it(tmp_path: Path) -> None:
    """Row 19: the job sees what any redirect sees; the run is marked, also where the job did not care."""
    script = f"""
        import pathlib, keeper_world
        disk = pathlib.Path({str(tmp_path)!r})
        world = keeper_world.World(disk)
        world.open()
        def told(shell):
            ended = world.exited(world.shell(shell))
            print(ended.exit_code, ended.usage.output_note)
            for file in disk.rglob("*.log"):
                file.unlink()
        told("echo fine")
        told("head -c 3000000 /dev/urandom 2>/dev/null; true")
        fill = disk / "fill"
        told(f"dd if=/dev/zero of={{fill}} bs=4k 2>/dev/null; echo lost; true")
        fill.unlink()
        told("echo fine")
        world.close()
    """
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=1m none "$1" && exec "$2" -c "$3"', "sh",
         tmp_path, sys.executable, textwrap.dedent(script)],
        capture_output=True, text=True, timeout=30, cwd=Path(__file__).parent,
    )  # fmt: skip
    full = "0 the disk was full: what it printed meanwhile may be lost"
    assert done.stdout.splitlines() == ["0 ", full, full, "0 "], done.stderr


def test_output_below_the_limit_is_whole(world: World) -> None:
    run_id = world.shell("head -c 3000000 /dev/urandom | tee /dev/stderr > /dev/null", output_max_bytes=4 * MIB)
    usage = world.exited(run_id).usage
    assert (usage.output_bytes, usage.output_dropped_bytes) == (3_000_000, 0)
    assert b"\0" * 4096 not in world.output(run_id)


def test_a_silent_run_leaves_no_file_and_a_long_one_has_it_soon(world: World) -> None:
    silent, long = world.command("true"), world.shell("sleep 60")
    world.exited(silent)
    world.wait(world.path(long).exists, 2.0)
    assert not world.path(silent).exists()


def test_a_file_that_a_leftover_still_holds_is_not_given_to_the_next_run(world: World) -> None:
    """The daemon that the first run leaves writes later, when others have long begun."""
    first = world.shell("(setsid sh -c 'sleep 0.5; echo from the first' &)", leftovers=Leftovers.LEAVE)
    world.exited(first)
    others = [world.shell("exit 0") for _ in range(20)] + [world.shell("echo mine; sleep 1")]
    world.wait(lambda: world.output(first) == b"from the first\n")
    world.exited(others[-1])
    assert world.output(others[-1]) == b"mine\n"


def test_names_and_holes_where_the_file_system_knows_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vfat, some network file systems: a plain file, and the note says that the cap was not kept."""
    from tidegate.executors import keeper_output

    def refused(*_: object) -> int:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Spares, "take", refused)
    path = tmp_path / "job" / "r.log"
    output = OutputFile(str(path), 1 * MIB, Spares())
    os.write(output.fd, b"x" * (3 * MIB))
    os.close(output.fd)
    monkeypatch.setattr(keeper_output, "_libc", NoHoles())
    monkeypatch.setattr(keeper_output.ctypes, "get_errno", lambda: 95)
    output.end()
    assert path.stat().st_size == output.written_bytes == 3 * MIB
    assert output.dropped_bytes == 0 and "cannot give blocks back" in output.note


class NoHoles:
    def fallocate(self, *_: object) -> int:
        return -1


def test_attempts_share_one_cap(tmp_path: Path) -> None:
    path = tmp_path / "job" / "r.log"
    for attempt in range(3):
        output = OutputFile(str(path), 1 * MIB, Spares() if attempt == 0 else None)
        os.write(output.fd, bytes([65 + attempt]) * (3 * MIB))
        os.close(output.fd)
        assert output.end()
        output.look()
        assert output.written_bytes == 3 * MIB
        assert held_bytes(path) <= 1 * MIB + 131072
    data = path.read_bytes()
    assert data[:1000] == b"A" * 1000 and data[-1000:] == b"C" * 1000 and len(data) == 9 * MIB


def test_a_gigabyte_is_as_fast_as_a_redirect(world: World, tmp_path: Path) -> None:
    """Loose here, as other tests may run; the benchmark holds it to 0.95."""
    text = "head -c 1073741824 /dev/zero"
    begun = time.monotonic()
    assert os.system(f"{text} > {tmp_path}/plain") == 0
    plain_s = time.monotonic() - begun
    (tmp_path / "plain").unlink()
    begun = time.monotonic()
    world.exited(world.shell(text))
    assert time.monotonic() - begun < 2.5 * plain_s + 0.5
