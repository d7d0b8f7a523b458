"""Output: 1 GiB from one job against the same command redirected to a file by a shell, by turns, on the same disk.

Both run the same /bin/sh text with a stamp before and a stamp after: the clock that is read is the job's own.
"""

import contextlib
import mmap
import os
import shlex
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from tests.bench import jobs
from tests.bench.bench import Bench, next_instant, rotated
from tests.bench.daemon import Tidegate, all_succeeded
from tests.bench.fetch import say
from tests.bench.ground import Ground, sleep_until
from tests.bench.machine import MIB, rss_bytes
from tests.bench.stats import read_stamps

GIB = 1024 * MIB
LEAD_S = 2.0
WARM_S = 2  # before the instant: time to touch as much memory as is then written
REST_S = 0.2
WITHIN_S = 120.0
# tidegate's files are opened for append, as what `>>` opens. It matters to cat: where it may, it has the kernel copy.
REDIRECTS = (">", ">>")
SAMPLE_S = 0.02
LINE = "2026-11-20T12:00:00Z shop[4711]: order 0123456789 accepted, 3 items, 59.90 EUR, carrier parcel, 12 ms\n"


class RssWatch:
    """Samples the RSS of processes in a thread, and knows how far each rose above where it began."""

    def __init__(self, pids: list[int]) -> None:
        self._begin = {pid: rss_bytes(pid) for pid in pids}
        self._peak = dict(self._begin)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_S):
            with contextlib.suppress(OSError):  # a pid that ended keeps its last peak
                for pid in self._peak:
                    self._peak[pid] = max(self._peak[pid], rss_bytes(pid))

    def __enter__(self) -> "RssWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def growth_mib(self) -> list[float]:
        """In the order of the pids: supervisor, keeper."""
        return [round((self._peak[pid] - self._begin[pid]) / MIB, 3) for pid in self._begin]


def text_file(ground: Ground, size_bytes: int) -> Path:
    """A log of that size, read once so that it lies in the page cache."""
    path = ground.folder("text") / "big.log"
    block = (LINE * (MIB // len(LINE) + 1))[:MIB].encode()
    with path.open("wb") as file:
        for _ in range(size_bytes // MIB):
            file.write(block)
    with path.open("rb") as file:
        while file.read(MIB):
            pass
    return path


def warm_memory(size_bytes: int, until_s: float) -> None:
    """Have the page cache written into memory that was used a moment ago, whoever writes.

    A virtual machine gives memory that was free for seconds back to its host, and faults it in again page by page:
    that makes a redirect four times slower, and by chance one contender more often than the other.
    """
    memory = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
    sleep_until(until_s)
    memory.close()


def script(bench: Bench, command: str, stamps: Path) -> str:
    stamp = f"{shlex.quote(bench.tools.stamp)} {shlex.quote(str(stamps))}"
    return f"{stamp} begin; {command}; {stamp} end"


def elapsed_s(stamps: Path) -> float:
    begin, end = read_stamps(stamps)
    return (end[0] - begin[0]) / 1e9


def redirect(bench: Bench, command: str, size_bytes: int, sign: str) -> float:
    folder = bench.ground.folder("redirect")
    instant = next_instant(WARM_S)
    warm_memory(size_bytes * 5 // 4, instant - REST_S)
    sleep_until(instant)
    text = f"exec {sign} {shlex.quote(str(folder / 'out'))}; {script(bench, command, folder / 'stamps')}"
    child = bench.ground.start(["/bin/sh", "-c", text])
    bench.ground.finish(child, WITHIN_S)
    taken_s = elapsed_s(folder / "stamps")
    shutil.rmtree(folder)
    return taken_s


def job(bench: Bench, command: str, size_bytes: int, limit: str | None) -> dict[str, object]:
    """One run of it under tidegate, after a tiny run that has warmed every path."""
    assert bench.tools.tidegate
    stamps = bench.ground.folder("stamps") / "stamps"
    instant = next_instant(LEAD_S)
    tiny = jobs.job("tiny", ["/bin/echo", "hello"], at=jobs.toml_instant(instant))
    keys = {"output_max": f'"{limit}"'} if limit else {}
    # TOML literal string: the script holds no single quote that shlex did not have to put there
    text = (
        f"[jobs.big]\nshell = '''{script(bench, command, stamps)}'''\nat = {jobs.toml_instant(instant + WARM_S + 1)}\n"
    )
    text += "".join(f"{key} = {value}\n" for key, value in keys.items())
    with Tidegate(bench.ground, bench.tools.tidegate, tiny + text) as daemon:
        daemon.wait_for("run.finished", 1, WITHIN_S)
        warm_memory(size_bytes * 5 // 4, instant + WARM_S + 1 - REST_S)
        with RssWatch(daemon.pids) as watch:
            daemon.wait_for("run.finished", 2, WITHIN_S)
        all_succeeded(daemon, 2)
        found = {"elapsed_s": round(elapsed_s(stamps), 4), "rss_growth_mib": watch.growth_mib()}
    shutil.rmtree(daemon.folder)
    return found


def measure(bench: Bench) -> dict[str, object]:
    size = bench.amount(GIB, 128 * MIB)
    text = text_file(bench.ground, size)
    commands = {"zeros": f"head -c {size} /dev/zero", "text": f"cat {shlex.quote(str(text))}"}
    runs: dict[str, Callable[[str], object]] = {
        sign: lambda command, sign=sign: round(redirect(bench, command, size, sign), 4) for sign in REDIRECTS
    }
    if bench.tools.tidegate:
        runs["tidegate"] = lambda command: job(bench, command, size, "8GiB")
        runs["tidegate, output_max 64 MiB (its default)"] = lambda command: job(bench, command, size, None)
    found: dict[str, dict[str, list[object]]] = {kind: {name: [] for name in runs} for kind in commands}
    for command in commands.values():  # unmeasured: whoever comes first pays for memory that was never used before
        redirect(bench, command, size, ">")
    for turn in range(bench.rounds(usual=5)):
        for kind, command in commands.items():
            for name in rotated(list(runs), turn):
                say(f"bench: output, {size // MIB} MiB of {kind}, round {turn + 1}: {name}")
                os.sync()
                found[kind][name].append(runs[name](command))
    text.unlink()
    return {"bytes": size, "kinds": found}
