"""Runs in the guest that uml.py boots: looks at tidegate where the kernel has control group controllers, and writes
what it found to /mnt/results.json. It judges nothing: test_controllers.py does.
"""

import asyncio
import json
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from tidegate.cli.client import Client, NoDaemonError
from tidegate.executors.link import KeeperLink
from tidegate.model.event import Event, Exited, Started
from tidegate.model.job import Job
from tidegate.model.run import Run, State

GROUPS = Path("/sys/fs/cgroup/system.slice/tidegate-keeper.service")
OWN = "/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)"
HOLD = "x = b'x' * (50 << 20); import time; time.sleep({seconds})"
JOBS = f"""
[jobs.limits]
every = "1d"
memory_max = "96MiB"
pids_max = 40
cpu_max = 0.5
io_weight = 200
shell = '''
cd {OWN}
for f in memory.max memory.swap.max memory.oom.group pids.max cpu.max io.weight; do echo $f=$(cat $f); done
'''
[jobs.greedy]
every = "1d"
memory_max = "64MiB"
command = ["/usr/bin/python3", "-c", "x = b'x' * (200 << 20)"]
[jobs.within]
every = "1d"
memory_max = "200MiB"
command = ["/usr/bin/python3", "-c", "{HOLD.format(seconds=0.5)}"]
[jobs.unlimited]
every = "1d"
command = ["/usr/bin/python3", "-c", "{HOLD.format(seconds=2.5)}"]
[jobs.reader]
every = "1d"
memory_max = "200MiB"
shell = "cat /var/tmp/large | tail -c 1; sleep 1"
[jobs.forks]
every = "1d"
pids_max = 8
shell = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 3 & done; wait"
[jobs.spinner]
every = "1d"
cpu_max = 0.25
timeout = "60s"
command = ["/usr/bin/python3", "-c", "import time; end = time.monotonic() + 3\\nwhile time.monotonic() < end: pass"]
[jobs.tree]
every = "1d"
shell = "(setsid sleep 4321 &); sleep 4321"
[jobs.long]
every = "1d"
shell = "sleep 4; exit 7"
"""


def run(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, check=False)


def said(command: str) -> str:
    return run(command).stdout.strip()


def until(true: Callable[[], Any], what: str, wait_s: float = 40) -> Any:
    end_s = time.monotonic() + wait_s
    pause = threading.Event()
    while not (value := true()):
        if time.monotonic() > end_s:
            raise AssertionError(f"not within {wait_s} s: {what}")
        pause.wait(0.1)
    return value


def shown(unit: str, name: str) -> str:
    return said(f"systemctl show --property={name} --value {unit}")


def client() -> Client:
    return Client(Path("/run/tidegate/tidegate.sock"))  # asking the command costs seconds here


def runs(job: str) -> list[dict[str, Any]]:
    """Newest first; none while no daemon answers."""
    try:
        return [dict(msgspec.to_builtins(one)) for one in client().runs(20, job=job)]
    except NoDaemonError:
        return []


def at_end(job: str) -> dict[str, Any]:
    """Triggered, and the run as it ended, with what it wrote."""
    mine = client().trigger(job, {}, uuid.uuid4().hex).run_id
    ended = until(lambda: next((one for one in runs(job) if one["run_id"] == mine and one["ended_at"]), None), job)
    return ended | {"output": client().output(mine, 0).decode()}


def running(job: str) -> dict[str, Any]:
    client().trigger(job, {}, uuid.uuid4().hex)
    return until(lambda: next((one for one in runs(job) if one["state"] == "running"), None), f"{job} runs")


# --- looks ---------------------------------------------------------------------------------------------------------


def controllers() -> Any:
    return {
        "offered": (GROUPS / "cgroup.controllers").read_text().split(),
        "enabled": (GROUPS / "cgroup.subtree_control").read_text().split(),
    }


def limits() -> Any:
    return at_end("limits")


def greedy() -> Any:
    """A kernel OOM kill; and who goes on after it."""
    before = [shown(unit, "MainPID") for unit in ("tidegate", "tidegate-keeper")]
    found = at_end("greedy")
    after = [shown(unit, "MainPID") for unit in ("tidegate", "tidegate-keeper")]
    return found | {
        "same": before == after,
        "results": [shown(unit, "Result") for unit in ("tidegate", "tidegate-keeper")],
    }


def peaks() -> Any:
    run("head -c 150M /dev/zero >/var/tmp/large")
    return {job: at_end(job) for job in ("within", "unlimited", "reader")}


def forks() -> Any:
    return at_end("forks")


def spinner() -> Any:
    return at_end("spinner")


def tree() -> Any:
    """A process that left session and parent ends with its run."""
    found = running("tree")
    until(lambda: len(said("pgrep -f 'sleep 4321'").split()) >= 2, "both sleep")
    client().cancel(found["run_id"])
    until(lambda: runs("tree")[0]["state"] == "finished", "cancelled")
    left = until(lambda: said("pgrep -x sleep -a | grep 4321") == "", "nothing is left")
    return {"none_left": left, "outcome": runs("tree")[0]["outcome"]}


def restart_daemon() -> Any:
    found, keeper = running("long"), shown("tidegate-keeper", "MainPID")
    done = run("systemctl restart tidegate")
    ended = until(lambda: next((one for one in runs("long") if one["state"] == "finished"), None), "ended")
    return {
        "exit": done.returncode,
        "same_run": ended["run_id"] == found["run_id"],
        "exit_code": ended["exit_code"],
        "same_keeper": shown("tidegate-keeper", "MainPID") == keeper,
    }


def keeper_again(how: str) -> Any:
    """Another keeper after this, with runs in control groups of their own beforehand."""
    found, keeper = running("tree"), shown("tidegate-keeper", "MainPID")
    until(lambda: list(GROUPS.glob("run-*/cgroup.procs")), "it has a group of its own")
    until(lambda: any(path.read_text() for path in GROUPS.glob("run-*/cgroup.procs")), "and is in it")
    run(how.format(pid=keeper))
    until(lambda: shown("tidegate-keeper", "MainPID") not in ("0", keeper), "another keeper")
    until(lambda: shown("tidegate-keeper", "ActiveState") == "active", "it is up")
    left = said("pgrep -x sleep -a | grep 4321")
    outcome = until(
        lambda: next((one["outcome"] for one in runs("tree") if one["run_id"] == found["run_id"]), None), "end"
    )
    works = until(lambda: at_end("limits")["outcome"] == "succeeded", "jobs run again")
    told = said("journalctl -q -u tidegate-keeper -u tidegate")
    return {"left": left, "outcome": outcome, "works": works, "died_219": "219" in told or "CGROUP" in told}


def restart_keeper() -> Any:
    return keeper_again("systemctl restart tidegate-keeper")


def kill_keeper() -> Any:
    return keeper_again("kill -9 {pid}")


def freeze() -> Any:
    """A keeper of its own, asked directly: a frozen tree stands still, is counted, goes on, and KILL reaches it."""
    run("systemd-run --unit=other -p Delegate=yes -p RuntimeDirectory=other -p Type=notify tidegate keeper")
    return asyncio.run(_freeze(Path("/sys/fs/cgroup/system.slice/other.service")))


async def _freeze(groups: Path) -> Any:
    heard: list[Event] = []
    state = Path("/var/tmp/other")
    state.mkdir()
    link = await KeeperLink.open(Path("/run/other"), state, heard.append)
    now = datetime.now(UTC)
    held = Run(run_id="a", job="a", scheduled_at=now, queued_at=now, state=State.STARTING)
    link.start(held, Job(name="a", shell="sleep 300 & sleep 300; true"))
    link.flush()

    async def fact(true: Callable[[], Any], what: str) -> Any:
        async with asyncio.timeout(30):
            while not (value := true()):
                await asyncio.sleep(0.05)
        return value

    def events() -> dict[str, str]:
        for path in groups.glob("run-*/cgroup.procs"):
            if len(path.read_text().split()) == 3:
                lines = path.with_name("cgroup.events").read_text().splitlines()
                return dict(line.split() for line in lines)
        return {}

    await fact(lambda: any(isinstance(each, Started) for each in heard), "started")
    await fact(events, "all three are in a group")
    link.freeze("a", 1)
    link.flush()
    frozen = await fact(lambda: events().get("frozen") == "1", "frozen")
    link.thaw("a", 1)
    link.flush()
    thawed = await fact(lambda: events().get("frozen") == "0", "thawed")
    link.freeze("a", 1)
    link.flush()
    await fact(lambda: events().get("frozen") == "1", "frozen again")
    link.signal("a", 1, 9)
    link.flush()
    exited = await fact(lambda: next((each for each in heard if isinstance(each, Exited)), None), "ended")
    left = await fact(lambda: not any(path.read_text() for path in groups.glob("run-*/cgroup.procs")), "none left")
    await link.close(shutdown=False)
    return {
        "containment": link.containment,
        "frozen": frozen,
        "thawed": thawed,
        "signal": exited.signal,
        "none_left": left,
    }


LOOKS = (limits, controllers, greedy, peaks, forks, spinner, tree, freeze, restart_daemon, restart_keeper, kill_keeper)


def main() -> None:
    found: dict[str, Any] = {}
    begun_s = time.monotonic()
    try:
        run("rm -rf /etc/tidegate; mkdir -p /etc/tidegate/jobs.d")
        Path("/etc/tidegate/tidegate.toml").write_text('[http]\nlisten = ""\n')
        Path("/etc/tidegate/jobs.d/jobs.toml").write_text(JOBS)
        print(run("systemctl start tidegate; systemctl status tidegate tidegate-keeper"), flush=True)
        for look in LOOKS:
            try:
                found[look.__name__] = look()
            except Exception:  # noqa: BLE001 - whatever it is, the test of this look tells it
                found[look.__name__] = {"failed": traceback.format_exc()}
            print(f"{time.monotonic() - begun_s:.1f} s: {look.__name__}", flush=True)
        print(said("journalctl -q -o cat -u tidegate -u tidegate-keeper | tail -n 60"), flush=True)
    finally:
        Path("/mnt/results.new").write_text(json.dumps(found))
        Path("/mnt/results.new").rename("/mnt/results.json")


if __name__ == "__main__":
    sys.exit(main())
