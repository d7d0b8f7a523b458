"""A daemon that has half a gigabyte in all, and ten jobs that nobody knows yet and that want three times as much: they
are kept waiting, held still or killed and tried again, the kernel kills nobody, and all of it is on record."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from daemon_process import TIDEGATE, Daemon, until

pytestmark = pytest.mark.live
MIB = 1 << 20
LIMIT_BYTES = 512 * MIB
HOGS = 10
START_S = 4  # then all are due at once
SETTINGS = """
[pool]
min = 10
canary = "1s"
memory_retry_max = "2s"
freeze_max = "4s"
thaw_every = "1s"
[defaults]
cwd = "/"
"""
RAMP = """import sys, time
keep = []
for _ in range(int(sys.argv[1]) // 4):
    keep.append(b"x" * (4 << 20))
    time.sleep(0.05)
"""


class MemoryCgroup:
    """Of version 1 or 2, whichever has the memory controller here."""

    def __init__(self, name: str) -> None:
        self.old = Path("/sys/fs/cgroup/memory").is_dir()
        root = Path("/sys/fs/cgroup/memory" if self.old else "/sys/fs/cgroup")
        self.folder = root / name
        self.folder.mkdir()
        if self.old:
            (self.folder / "memory.limit_in_bytes").write_text(str(LIMIT_BYTES))
        else:
            (root / "cgroup.subtree_control").write_text("+memory")
            (self.folder / "memory.max").write_text(str(LIMIT_BYTES))
            (self.folder / "memory.swap.max").write_text("0")

    @property
    def kernel_kills(self) -> int:
        text = (self.folder / ("memory.oom_control" if self.old else "memory.events")).read_text()
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith("oom_kill ")))

    @property
    def most_bytes(self) -> int:
        return int((self.folder / ("memory.max_usage_in_bytes" if self.old else "memory.peak")).read_text())

    def enter(self) -> tuple[str, ...]:
        """Words before a command, so that it begins in there."""
        return ("/bin/sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', "sh")

    def remove(self) -> None:
        until(lambda: not (self.folder / "cgroup.procs").read_text())
        self.folder.rmdir()


@pytest.fixture
def cgroup() -> Iterator[MemoryCgroup]:
    made = MemoryCgroup(f"tidegate-test-{os.getpid()}")
    yield made
    made.remove()


@pytest.fixture
def daemon(cgroup: MemoryCgroup, tmp_path: Path) -> Iterator[Daemon]:
    at = (datetime.now(UTC) + timedelta(seconds=START_S)).isoformat()
    hogs = [
        f"[jobs.hog{number}]\nat = {at}\n"
        f'command = [{json.dumps(sys.executable)}, "-S", "-c", {json.dumps(RAMP)}, "{120 + 9 * number}"]\n'
        for number in range(HOGS)
    ]
    made = Daemon(tmp_path / "d", "".join(hogs), SETTINGS)
    made.start(program=cgroup.enter())
    yield made
    made.clean_up()


def tidegate(daemon: Daemon, *words: str) -> str:
    env = os.environ | {"STATE_DIRECTORY": str(daemon.state), "RUNTIME_DIRECTORY": str(daemon.runtime)}
    done = subprocess.run([TIDEGATE, *words], capture_output=True, text=True, env=env, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_jobs_that_want_three_times_the_memory_all_succeed_and_the_kernel_kills_none(
    daemon: Daemon, cgroup: MemoryCgroup
) -> None:
    daemon.wait_for("run.finished", count=HOGS, wait_s=60)
    runs: list[dict[str, Any]] = json.loads(tidegate(daemon, "history", "--json"))
    assert cgroup.kernel_kills == 0
    assert [run["outcome"] for run in runs] == ["succeeded"] * HOGS

    frozen = {record["run_id"] for record in daemon.seen("run.frozen")}
    evicted = {record["run_id"] for record in daemon.seen("run.evicted")}
    assert frozen | evicted, "there was no need for it: the test shows nothing"
    assert daemon.metric('tidegate_evictions_total{reason="memory"}') == len(daemon.seen("run.evicted"))
    assert frozen - evicted == {run["run_id"] for run in runs if run["frozen_s"] > 0} - evicted
    assert any("runs are " in record["reason"] for record in daemon.seen("memory.tier"))
    until(lambda: daemon.metric("tidegate_memory_tier") == 0)
    assert daemon.metric("tidegate_pool_frozen") == 0
