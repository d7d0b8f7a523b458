"""tidegate scale with real processes: what it measures, what it leaves behind, how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tidegate.analysis.measure import STOPS, Command, Crew

pytestmark = pytest.mark.live

TIDEGATE = [sys.executable, "-c", "from tidegate.cli.main import main; main()"]
BARE = [
    sys.executable,
    "-c",
    "import sys; sys.modules['matplotlib'] = None; from tidegate.cli.main import main; main()",
]
BURN = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"  # about 50 ms of sh, and no other program


def scale(*args: str, program: list[str] = TIDEGATE, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*program, "scale", *args], capture_output=True, text=True, timeout=60, check=False, **more)


def job(folder: Path, text: str) -> list[str]:
    """A configuration with the job `job`, as arguments."""
    (folder / "tidegate.toml").write_text(f"[jobs.job]\n{text}\n")
    return ["job", "--config", str(folder / "tidegate.toml"), "--output", str(folder)]


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def wait_for(condition: Any, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def group_lives(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def test_sleepers_scale_and_the_results_are_written(tmp_path: Path) -> None:
    told = scale(
        "--command", "sleep 0.05", "--workers", "1,2", "--repeat", "2", "--items", "12", "--json", "--output",
        str(tmp_path),
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert found == json.loads((tmp_path / "scale.json").read_text())
    assert (found["job"], found["command"]) == (None, ["sleep", "0.05"])
    one, two = found["widths"]
    assert (one["items"], two["items"]) == (24, 24)
    assert 1.5 < two["speedup"] < 2.3
    assert 0.05 <= one["item_p50_s"] < 0.2
    assert one["throughput_per_s"] == pytest.approx(sum(one["repeats_per_s"]) / 2)
    assert found["advice"]["width"] == 2
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"scale.json", "scale.png"}
    order = [line.split(": ")[1] for line in told.stderr.splitlines() if line.startswith("repeat")]
    assert order == ["1 at once", "2 at once", "2 at once", "1 at once"], "every second repeat goes down"


def test_computing_gains_nothing_beyond_the_cores(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    told = scale(
        "--command", f"sh -c '{BURN}'", "--workers", "1,2", "--items", "8", "--output", str(tmp_path),
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    found = json.loads((tmp_path / "scale.json").read_text())
    assert found["cores"] == 1
    assert found["widths"][1]["speedup"] < 1.6
    assert "2 at once are more than the 1 usable core" in told.stderr.replace("\n  ", " ")
    assert "  at once  items/s" in told.stdout
    assert "Recommended: " in told.stdout


def test_a_job_runs_with_its_own_surroundings(tmp_path: Path) -> None:
    said = f"echo $PWD $(umask) $MARK $TIDEGATE_JOB ${{LEAKED-clean}} >> {tmp_path}/said; echo 1 > $TIDEGATE_OUTPUT"
    text = f'shell = "{said}"\ncwd = "/usr"\numask = "027"\nenv = {{ MARK = "x", TOKEN = "hush" }}'
    args = job(tmp_path, text)
    told = scale(*args, "--workers", "1,2", "--items", "2", "--repeat", "1", env=os.environ | {"LEAKED": "1"})
    assert told.returncode == 0, told.stderr
    assert set(lines(tmp_path / "said")) == {"/usr 0027 x job clean"}
    assert len(lines(tmp_path / "said")) == 5, "one to begin with, and two at each width"
    assert json.loads((tmp_path / "scale.json").read_text())["job"] == "job"
    assert "hush" not in (tmp_path / "scale.json").read_text()


def test_an_item_that_fails_ends_it_with_its_exit_code(tmp_path: Path) -> None:
    script = f"echo x >> {tmp_path}/n; if [ $(wc -l < {tmp_path}/n) -gt 3 ]; then echo broken >&2; exit 7; fi"
    told = scale(
        "--command", f"sh -c '{script}'", "--workers", "1,2", "--items", "2", "--output", str(tmp_path / "out")
    )
    assert told.returncode == 1
    assert "Error: an item exited with 7 (2 at once, repeat 1)" in told.stderr
    assert "  broken\n" in told.stderr
    assert "measured so far" in told.stderr
    assert told.stdout == ""
    assert list((tmp_path / "out").iterdir()) == []


def test_exit_codes_that_the_job_calls_success_are_no_failure(tmp_path: Path) -> None:
    args = job(tmp_path, 'shell = "exit 3"\nsuccess_exit_codes = [0, 3]')
    assert scale(*args, "--workers", "1", "--items", "1", "--repeat", "1").returncode == 0


def test_a_command_that_is_not_there_is_said(tmp_path: Path) -> None:
    told = scale("--command", "/no/such/program", "--output", str(tmp_path))
    assert told.returncode == 1
    assert "nothing was measured\nError: /no/such/program cannot be started: No such file" in told.stderr


def test_an_item_beyond_the_timeout_is_killed_though_it_ignores_term(tmp_path: Path) -> None:
    args = job(
        tmp_path,
        f'''shell = "trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.1; done"
timeout = "300ms"
kill_grace = "200ms"''',
    )
    begun = time.monotonic()
    told = scale(*args, "--workers", "1")
    assert told.returncode == 1
    assert "an item did not end within its timeout of 0.3 s (one alone)" in told.stderr
    assert time.monotonic() - begun < 15
    wait_for(lambda: not group_lives(int((tmp_path / "pid").read_text())))  # who reaps its orphans takes a moment


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_items_and_what_was_measured_is_told(number: signal.Signals, tmp_path: Path) -> None:
    script = f"echo $$ >> {tmp_path}/pids; [ $(wc -l < {tmp_path}/pids) -le 3 ] || {{ sleep 60 & wait; }}"
    process = subprocess.Popen(
        [*TIDEGATE, "scale", "--command", f"sh -c '{script}'", "--workers", "1,2", "--items", "2"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: len(lines(tmp_path / "pids")) == 5)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert stdout == ""
    assert "measured so far:\n" in stderr
    assert f"Error: ended by {number.name}" in stderr
    assert "Traceback" not in stderr
    wait_for(lambda: not any(group_lives(int(pid)) for pid in lines(tmp_path / "pids")))
    assert {path.name for path in tmp_path.iterdir()} == {"pids"}


def test_a_second_ctrl_c_does_not_wait_for_the_grace(tmp_path: Path) -> None:
    script = f'trap "" TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.1; done'
    process = subprocess.Popen(
        [*TIDEGATE, "scale", "--command", f"sh -c '{script}'"], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: lines(tmp_path / "pid"))
    begun = time.monotonic()
    while process.poll() is None:  # the first ends the measuring, the next the waiting
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        assert time.monotonic() - begun < 8, "the grace is 10 s"
    wait_for(lambda: not group_lives(int((tmp_path / "pid").read_text())))  # who reaps its orphans takes a moment


def test_what_an_item_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    told = scale(
        "--command", f"sh -c 'sleep 60 & echo $$ >> {tmp_path}/pids'", "--workers", "1", "--items", "2",
        "--repeat", "1", "--output", str(tmp_path),
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert len(lines(tmp_path / "pids")) == 3
    wait_for(lambda: not any(group_lives(int(pid)) for pid in lines(tmp_path / "pids")))


def test_much_on_stderr_blocks_no_item(tmp_path: Path) -> None:
    told = scale(
        "--command", "sh -c 'head -c 300000 /dev/zero >&2'", "--workers", "2", "--items", "4", "--repeat", "1",
        "--output", str(tmp_path),
    )  # fmt: skip
    assert told.returncode == 0, told.stderr


def test_an_item_that_closes_stderr_is_waited_for_at_no_cost() -> None:
    quiet = Command(argv=("sh", "-c", "exec 2>&-; exec sleep 0.5"), env=dict(os.environ), timeout_s=10, kill_grace_s=1)
    before_s = time.process_time()
    with Crew(quiet) as crew:
        assert crew.rehearse() >= 0.5
    assert time.process_time() - before_s < 0.2


def test_signals_are_as_they_were_once_it_is_left() -> None:
    before = [signal.getsignal(number) for number in STOPS]
    with Crew(Command(argv=("true",), env=dict(os.environ), timeout_s=10, kill_grace_s=1)) as crew:
        crew.rehearse()
        assert [signal.getsignal(number) for number in STOPS] != before
    assert [signal.getsignal(number) for number in STOPS] == before


def test_without_matplotlib_it_says_what_to_install_and_goes_on(tmp_path: Path) -> None:
    args = ("--command", "true", "--workers", "1,2", "--items", "2", "--repeat", "1", "--output", str(tmp_path))
    told = scale(*args, program=BARE)
    assert told.returncode == 0, told.stderr
    assert 'pip install "tidegate[plots]"' in told.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"scale.json"}


def test_a_job_of_another_user_is_refused(tmp_path: Path) -> None:
    assert os.geteuid() == 0, "root may have such a job"
    told = scale(*job(tmp_path, f'shell = "touch {tmp_path}/ran"\nuser = "nobody"'))
    assert told.returncode == 1
    assert "job is to run as nobody, and scale runs it as whoever calls" in told.stderr
    assert not (tmp_path / "ran").exists()


def test_what_of_a_job_does_not_hold_here_is_warned_of(tmp_path: Path) -> None:
    text = 'command = ["true"]\nuses = { db = 1 }\npids_max = 50\n[resources]\ndb = 2'
    told = scale(*job(tmp_path, text), "--workers", "1", "--items", "1", "--repeat", "1")
    assert told.returncode == 0, told.stderr
    assert "the units that the job uses are not held: db=1" in told.stderr
    assert "hard limits are not applied" in told.stderr
