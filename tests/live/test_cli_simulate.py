"""tidegate simulate as a person calls it: with a history on disk, a picture, two processes, and bad input."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.unit.history_world import Opened, a_run, finished, known, queued

from tidegate.cli.simulate import NO_MATPLOTLIB
from tidegate.model.run import Outcome, Usage

pytestmark = pytest.mark.live

TIDEGATE = [sys.executable, "-c", "from tidegate.cli.main import main; main()"]
BARE = [
    sys.executable,
    "-c",
    "import sys; sys.modules['matplotlib'] = None; from tidegate.cli.main import main; main()",
]
DOCS = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
FROM = ("--from", "2026-03-02", "--cores", "2", "--memory", "4GiB")
JOBS = """\
[daemon]
timezone = "Europe/Berlin"
[jobs.backup]
command = ["true"]
cron = "0 2 * * *"
[jobs.report]
command = ["true"]
cron = "0 2 * * *"
expected = "10m"
[jobs.vacuum]
command = ["true"]
after = ["backup"]
"""
CROWD = "".join(f'[jobs.job-{number}]\ncommand = ["true"]\ncron = "*/5 * * * *"\n' for number in range(300))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    (tmp_path / "tidegate.toml").write_text(JOBS)
    return tmp_path


def surroundings(place: Path) -> dict[str, str]:
    places = {"STATE_DIRECTORY": str(place / "state"), "RUNTIME_DIRECTORY": str(place / "run")}
    return os.environ | places | {"TIDEGATE_CONFIG": str(place / "tidegate.toml")}


def simulate(place: Path, *args: str, program: list[str] = TIDEGATE, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*program, "simulate", *FROM, *args],
        capture_output=True, text=True, timeout=60, check=False, cwd=place, env=surroundings(place), **more,
    )  # fmt: skip


def asked(place: Path, *args: str) -> Any:
    told = simulate(place, "--json", *args)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def remember(place: Path, durations_s: list[float], cpu_s: float, peak_bytes: int) -> None:
    """Runs of backup that succeeded, and one that did not."""
    usage = Usage(cpu_s=cpu_s, memory_peak_bytes=peak_bytes, frozen_s=5.0)
    entries: list[Any] = [known("backup")]
    for number, seconds in enumerate(durations_s):
        run = a_run(f"r{number}", number * 3600.0)
        entries += [queued(run), finished(run, seconds=seconds, usage=usage)]
    run = a_run("failed", 1e6)
    entries += [queued(run), finished(run, Outcome.FAILED, 9000.0)]

    async def write() -> None:
        opened = Opened(place / "state" / "history.sqlite")
        await opened.wrote(*entries)
        await opened.close()

    asyncio.run(write())


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(condition: Any, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Ended, whether or not anybody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


# --- what is learned and told -------------------------------------------------------------------------------


def test_runs_take_what_they_took_and_neither_failures_nor_frozen_time_count(place: Path) -> None:
    remember(place, [605.0, 1205.0, 1805.0] * 7, cpu_s=300.0, peak_bytes=512 * 1024**2)
    found = asked(place, "--days", "30")
    assert found["durations"] == {"history": 1, "expected": 1, "guess": 1}
    assert found["guessed"] == ["vacuum"]
    backup = next(row for row in found["jobs"] if row["job"] == "backup")
    assert (backup["runs"], backup["basis"]) == (30, "history")
    assert 900 < backup["run_mean_s"] < 1500
    assert found["totals"]["runs"] == 90, "vacuum follows each backup"
    two = found["hours"][2]
    assert two["memory_ratio"] == pytest.approx((512 + 64) * 1024**2 / found["machine"]["runs_bytes"], rel=0.01)


def test_a_given_duration_goes_before_what_was_learned(place: Path) -> None:
    remember(place, [605.0] * 3, cpu_s=1.0, peak_bytes=1024)
    found = asked(place, "--days", "2", "--duration", "backup=45m", "--duration", "vacuum=30s")
    means = {row["job"]: row["run_mean_s"] for row in found["jobs"]}
    assert means == {"backup": pytest.approx(2700), "report": pytest.approx(600), "vacuum": pytest.approx(30)}


def test_without_a_history_it_says_so_and_takes_what_the_jobs_say(place: Path) -> None:
    told = simulate(place, "--days", "2")
    assert told.returncode == 0
    assert "durations: 1 job as their `expected` says, 2 jobs guessed at 60 s" in told.stdout
    assert "nothing is known of backup, vacuum" in told.stdout
    assert "note: there is no history yet" in told.stderr
    assert not any((place / "state").iterdir()), "to ask creates nothing"


def test_the_lines_to_change_name_their_place(place: Path) -> None:
    told = simulate(place, "--days", "2")
    line = r'  tidegate\.toml:3: jobs\.backup: cron = "0 2 \* \* \*" becomes "H 2 \* \* \*" \(:\d\d\)'
    assert re.search(line, told.stdout), told.stdout
    assert re.search(r"jobs due in one minute, at most +2 +1\n", told.stdout)


def test_all_keys_are_in_the_reference(place: Path) -> None:
    section = DOCS.read_text().split("## tidegate simulate\n")[1].split("\n## ")[0]
    listed = set(re.findall(r"`([a-z0-9_]+)`", section.split("`--json` prints")[1]))

    def keys(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(keys, value)) if value else set()
        if isinstance(value, dict):
            return set(value) | set().union(*map(keys, value.values()))
        return set()

    found = keys(asked(place, "--days", "2"))
    assert found - listed == set()
    assert listed - found <= {"false", "null", "history", "given", "queue"}, "nothing is listed that is not there"


def test_the_same_seed_gives_the_same_answer_in_both_processes(place: Path) -> None:
    remember(place, [10.0, 600.0, 3000.0], cpu_s=5.0, peak_bytes=1024**3)
    assert asked(place, "--seed", "7") == asked(place, "--seed", "7")
    assert asked(place, "--seed", "7") != asked(place, "--seed", "8")


def test_a_change_of_the_clocks_is_in_it(place: Path) -> None:
    found = asked(place, "--from", "2026-03-29", "--days", "1")
    assert (found["from"], found["until"]) == ("2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00")
    assert [row["hour"] for row in found["hours"]] == [0, 1, *range(3, 24)]
    assert found["days"][0]["load_ratio"][2] is None


def test_limit_is_how_many_rows_each_list_has(place: Path) -> None:
    assert "  and 1 more; --limit lists more, --json all" in simulate(place, "--days", "2", "--limit", "1").stdout
    assert len(asked(place, "--days", "2", "--limit", "1")["jobs"]) == 3


def test_a_history_that_cannot_be_read_is_said(place: Path) -> None:
    (place / "state" / "history.sqlite").write_bytes(b"no database" * 1000)
    told = simulate(place)
    assert told.returncode == 1
    assert "history.sqlite cannot be read" in told.stderr
    assert "Traceback" not in told.stderr


# --- the picture --------------------------------------------------------------------------------------------------


def test_the_heat_map_is_drawn(place: Path) -> None:
    told = simulate(place, "--days", "40", "--plot", "month.png")
    assert told.returncode == 0, told.stderr
    assert (place / "month.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in place.iterdir()} == {"state", "tidegate.toml", "month.png"}


def test_without_matplotlib_it_says_what_to_install_before_it_begins(place: Path) -> None:
    told = simulate(place, "--plot", "month.png", program=BARE)
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == f"Error: {NO_MATPLOTLIB}\n"


def test_a_picture_that_cannot_be_written_is_said_before_it_begins(place: Path) -> None:
    told = simulate(place, "--plot", "no/such/folder/month.png")
    assert (told.returncode, told.stdout) == (1, "")
    assert "Error: cannot write no/such/folder/month.png: No such file or directory" in told.stderr


# --- two processes --------------------------------------------------------------------------------------------


def begun(place: Path, **more: Any) -> tuple[subprocess.Popen[str], int]:
    """One that takes long, and the process beside it."""
    (place / "tidegate.toml").write_text(CROWD)
    process = subprocess.Popen(
        [*TIDEGATE, "simulate", *FROM, "--days", "366"],
        cwd=place, env=surroundings(place), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
    )  # fmt: skip
    wait_for(lambda: len(children(process.pid)) == 1)
    return process, children(process.pid)[0]


def test_ctrl_c_ends_both(place: Path) -> None:
    process, other = begun(place, start_new_session=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    stdout, stderr = process.communicate(timeout=20)
    assert (process.returncode, stdout) == (130, "")
    assert "Traceback" not in stderr
    wait_for(lambda: gone(other))


def test_who_is_killed_leaves_nobody_behind(place: Path) -> None:
    process, other = begun(place)
    process.kill()
    process.communicate(timeout=20)
    wait_for(lambda: gone(other), timeout_s=60)


def test_an_answer_without_the_other_process_is_an_answer(place: Path) -> None:
    (place / "tidegate.toml").write_text(CROWD.replace("*/5 *", "0 *"))
    process = subprocess.Popen(
        [*TIDEGATE, "simulate", *FROM, "--days", "1", "--json"],
        cwd=place, env=surroundings(place), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: len(children(process.pid)) == 1)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert json.loads(stdout)["staggering"] is None
    assert "the replay with H ended without an answer" in stderr


def test_on_a_terminal_it_tells_how_far_it_is(place: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*TIDEGATE, "simulate", *FROM], cwd=place, env=surroundings(place), stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        shown += piece
    os.close(ours)
    assert process.wait(20) == 0
    assert b"\rsimulating: 50%" in shown
    assert b"\x1b[K" in shown, "the line is cleared before the answer"
