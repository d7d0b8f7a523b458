"""Keeper: what keeps exit statuses across a crash of the daemon costs in memory, idle and while it holds 100 of them.

The crash is real: the daemon is killed with -9 while 100 jobs run, all of them end, and the keeper is measured. Then
the next daemon must have every true exit status.
"""

from pathlib import Path

from tests.bench import jobs
from tests.bench.bench import Bench
from tests.bench.daemon import Tidegate
from tests.bench.fetch import say
from tests.bench.ground import Missed, until
from tests.bench.machine import memory

HELD = 100
SLEEP_S = 6  # of each job: time to see all of them run, and to measure
WITHIN_S = 60.0
CODES = 7  # job N ends with N modulo this: a status that was made up would not fit


def job_text() -> str:
    """No trigger: all are asked for when the idle keeper has been measured."""
    text = ""
    for number in range(HELD):
        code = f"sleep {SLEEP_S}; exit {number % CODES}"
        text += jobs.job(f"held-{number:03d}", ["/bin/sh", "-c", code])
    return text


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def crashed(bench: Bench) -> dict[str, object]:
    assert bench.tools.tidegate
    with Tidegate(bench.ground, bench.tools.tidegate, job_text()) as daemon:
        keeper = daemon.keeper
        if keeper is None:
            raise Missed("no keeper beside the daemon")
        found: dict[str, object] = {"idle": memory([keeper])}
        start_all(daemon)
        found["running"] = memory([keeper])
        daemon.crash()
        until(lambda: not children(keeper), WITHIN_S, f"{HELD} runs end without a daemon")
        found["held"] = memory([keeper])
        daemon.begin()
        daemon.wait_for("run.finished", HELD, WITHIN_S)
        codes = {str(record["job"]): record["exit_code"] for record in daemon.records("run.finished")}
        if daemon.keeper != keeper:
            raise Missed("the keeper did not outlive its daemon")
    expected = {f"held-{number:03d}": number % CODES for number in range(HELD)}
    if codes != expected:
        wrong = {name: code for name, code in codes.items() if expected.get(name) != code}
        raise Missed(f"{len(codes)} of {HELD} exit statuses, wrong: {wrong}")
    return found


def start_all(daemon: Tidegate) -> None:
    """All at once and none twice; they run when this is over."""
    client = daemon.client()
    for number in range(HELD):
        client.ask("POST", f"/api/v1/jobs/held-{number:03d}/runs", "{}")
    client.close()
    daemon.wait_for("run.started", HELD, SLEEP_S - 1)


def measure(bench: Bench) -> dict[str, object]:
    if not bench.tools.tidegate:
        return {}
    rounds = []
    for turn in range(bench.rounds(usual=3)):
        say(f"bench: keeper, round {turn + 1}: {HELD} runs end while no daemon is there")
        rounds.append(crashed(bench))
    return {"held": HELD, "rounds": rounds}
