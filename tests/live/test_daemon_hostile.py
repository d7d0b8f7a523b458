"""The daemon where the world is unkind: signals while it starts, closed descriptors, a full disk, a keeper that hangs,
a bug of its own, and ten thousand jobs due in one second."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest
from daemon_process import Daemon, all_pids, cmdline, processes_with, runs_under, until

pytestmark = pytest.mark.live

TICK = '[jobs.tick]\ncommand = ["true"]\nevery = "1s"\n'
LONG = '[jobs.long]\nshell = "sleep 300"\ncron = "@reboot"\n'


@pytest.fixture
def daemon(tmp_path):
    made = []

    def make(jobs: str, settings: str = "") -> Daemon:
        made.append(Daemon(tmp_path / f"d{len(made)}", jobs, settings))
        return made[-1]

    yield make
    for each in made:
        each.clean_up()


def starting(d: Daemon) -> Daemon:
    """A daemon just begun: signals are held back or heard, but it is not yet ready."""
    d.start(ready=False)

    def mask(word: str) -> int:
        return int(Path(f"/proc/{d.pid}/status").read_text().split(f"{word}:\t")[1].split()[0], 16)

    bit = 1 << (signal.SIGHUP - 1)
    until(lambda: (mask("SigBlk") | mask("SigCgt")) & bit)
    return d


# --- starting --------------------------------------------------------------------------------------------------------


def test_signals_while_it_starts_end_nothing_and_are_answered_when_it_is_ready(daemon):
    d = starting(daemon(TICK))
    d.send(signal.SIGUSR1)
    d.send(signal.SIGHUP)
    d.wait_for("daemon.ready")
    d.wait_for("daemon.state")
    d.wait_for("config.reloaded")
    assert d.end() == 0


def test_sigterm_while_it_starts_ends_it_before_anything_fires_and_leaves_no_keeper(daemon):
    d = starting(daemon(LONG))
    assert d.end() == 0
    assert not d.seen("run.started")
    until(lambda: not [pid for pid in all_pids() if str(d.runtime) in cmdline(pid)], 10, "the keeper is gone")


def test_closed_standard_descriptors_never_become_files_of_ours(daemon):
    d = daemon('[jobs.echo]\nshell = "echo out"\nevery = "1s"\n')
    d.start(ready=False, program=("/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"))
    until(lambda: any(path.read_text() == "out\n" for path in d.state.glob("output/echo/*.log")))
    assert {str(Path(f"/proc/{d.pid}/fd/{fd}").readlink()) for fd in (0, 1, 2)} == {os.devnull}
    assert (d.state / "lock").read_text() == f"tidegate, pid {d.pid}\n"
    assert d.end() == 0


def test_with_a_full_disk_nothing_starts_that_cannot_be_written_down_and_it_heals_by_itself(daemon):
    d = daemon('[jobs.boot]\ncommand = ["true"]\ncron = "@reboot"\n[jobs.tick]\ncommand = ["true"]\nevery = "1s"\n')
    d.start(ready=False, program=("prlimit", "--fsize=0:unlimited"))  # no file of ours can grow
    assert "nothing starts until" in d.wait_for("history.unavailable")["message"]
    assert d.seen("run.started") == []
    subprocess.run(["prlimit", "--pid", str(d.pid), "--fsize=unlimited"], check=True)
    d.wait_for("daemon.ready")
    d.wait_for("run.finished", job="boot", outcome="succeeded")
    d.wait_for("run.finished", job="tick", outcome="succeeded")
    assert d.end() == 0
    assert not any("Traceback" in line for line in d.noise)


def test_without_descriptors_jobs_go_on_it_is_told_once_and_mended_by_itself(daemon):
    d = daemon(TICK)
    d.start()
    soft, hard = resource.prlimit(d.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(d.pid, resource.RLIMIT_NOFILE, (5, hard))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(d.runtime / "tidegate.sock"))
        assert "LimitNOFILE" in d.wait_for("daemon.scarce")["message"]
        before = len(d.seen("run.finished", outcome="succeeded"))
        d.wait_for("run.finished", count=before + 4, outcome="succeeded")  # four times it was tried to accept
        assert len(d.seen("daemon.scarce")) == 1
        resource.prlimit(d.pid, resource.RLIMIT_NOFILE, (soft, hard))
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in client.recv(4096)
    assert d.seen("daemon.bug") == [] and not any("Traceback" in line for line in d.noise)


def test_with_few_descriptors_silent_clients_keep_nobody_out(daemon):
    d = daemon(TICK)
    d.start(program=("prlimit", "--nofile=64:64"))
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            silent = stack.enter_context(socket.socket(socket.AF_UNIX))
            silent.connect(str(d.runtime / "tidegate.sock"))
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(d.runtime / "tidegate.sock"))
            client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in client.recv(4096)
    assert d.seen("daemon.scarce") == []


def test_one_that_waits_for_its_history_ends_when_it_is_told_to(daemon):
    d = daemon(TICK)
    d.start(ready=False, program=("prlimit", "--fsize=0"))
    d.wait_for("history.unavailable")
    assert d.end() == 0


# --- leave ---------------------------------------------------------------------------------------------------------


def test_sigterm_with_leave_ends_at_once_and_the_next_start_takes_up_what_ran_and_what_waited(daemon):
    d = daemon("", '[daemon]\non_stop = "leave"\n')
    gate = d.folder / "gate"
    d.jobs_file.write_text(
        f'[jobs.runs]\nshell = "until [ -e {gate} ]; do sleep 0.05; done; exit 5"\ncron = "@reboot"\n'
        '[jobs.tries]\ncommand = ["false"]\ncron = "@reboot"\nretries = { max = 1, delay = "3s" }\n'
    )
    d.start()
    began = d.wait_for("run.started", job="runs")
    tried = d.wait_for("run.retrying", job="tries")
    before_s = time.monotonic()
    assert d.end() == 0
    assert time.monotonic() - before_s < 3
    d.start()
    assert d.wait_for("run.recovered", job="runs")["run_id"] == began["run_id"]
    assert d.wait_for("run.restored", job="tries")["run_id"] == tried["run_id"]
    gate.touch()
    ended = d.wait_for("run.finished", job="runs")
    assert (ended["run_id"], ended["exit_code"]) == (began["run_id"], 5)
    ended = d.wait_for("run.finished", job="tries")
    assert (ended["run_id"], ended["attempt"]) == (tried["run_id"], 2)
    assert len(d.seen("daemon.left")) == 1


# --- at work ---------------------------------------------------------------------------------------------------------


def test_a_reload_imports_nothing_from_the_folder_the_daemon_was_started_in(daemon):
    d = daemon(TICK)
    (d.folder / "tomli.py").write_text(f'open({str(d.folder / "imported")!r}, "w")\n')
    d.start(program=("/bin/sh", "-c", 'cd "$0" && exec "$@"', str(d.folder)))
    d.send(signal.SIGHUP)
    d.wait_for("config.reloaded")
    assert not (d.folder / "imported").exists()


def test_a_bug_ends_the_daemon_with_an_error_and_the_next_one_finds_what_runs(daemon):
    d = daemon(LONG + '[jobs.bad]\ncommand = ["true"]\nevery = "1s"\n')
    (d.folder / "sitecustomize.py").write_text(
        "from tidegate.engine.dispatcher import Dispatcher\n"
        "fired = Dispatcher._fired\n"
        "def broken(self, event, now):\n"
        "    if event.job == 'bad' and any(run.pid for run in self.runs()):\n"
        "        raise RuntimeError('on purpose')\n"
        "    fired(self, event, now)\n"
        "Dispatcher._fired = broken\n"
    )
    d.start(PYTHONPATH=str(d.folder))
    assert d.wait_end() == 1
    assert "on purpose" in d.seen("daemon.bug")[0]["message"]
    long_run = d.wait_for("run.started", job="long")
    assert runs_under(str(d.state))
    d.start()
    assert d.wait_for("run.recovered", job="long", pid=d.pid)["run_id"] == long_run["run_id"]


def test_a_second_sigint_ends_it_though_the_keeper_hangs(daemon):
    d = daemon(LONG).start()
    d.wait_for("run.started", job="long")
    keeper = d.keeper_pid()
    os.kill(keeper, signal.SIGSTOP)
    try:
        d.send(signal.SIGINT)
        d.wait_for("daemon.draining")
        assert d.end(signal.SIGINT) == 1
        assert "within 10 s of KILL" in d.seen("daemon.failed")[0]["message"]
    finally:
        os.kill(keeper, signal.SIGCONT)


def test_a_keeper_killed_while_draining_ends_the_drain_and_nothing_is_counted_as_succeeded(daemon):
    d = daemon(LONG).start()
    d.wait_for("run.started", job="long")
    d.send(signal.SIGTERM)
    d.wait_for("daemon.draining")
    os.kill(d.keeper_pid(), signal.SIGKILL)
    assert d.wait_end() == 0
    assert [record["outcome"] for record in d.seen("run.finished")] == ["unknown"]


def test_a_second_daemon_on_the_same_sockets_with_its_own_state_is_refused(daemon):
    d = daemon(LONG).start()
    second = daemon(TICK)
    second.start(ready=False, RUNTIME_DIRECTORY=str(d.runtime))
    assert second.wait_end() == 1
    said = second.wait_for("daemon.failed")["message"]
    assert f"process {d.pid} is this keeper's supervisor" in said
    assert "RUNTIME_DIRECTORY" in said and "STATE_DIRECTORY" in said
    assert d.process.poll() is None


# --- load ------------------------------------------------------------------------------------------------------------

CROWD = 10_000
LAST_RUN = "tidegate_last_run_timestamp_seconds"


def test_ten_thousand_jobs_due_in_one_second_all_run_in_fair_order_and_their_lateness_shows(daemon):
    at = int(time.time()) + 10
    due = datetime.fromtimestamp(at).astimezone().isoformat()
    jobs = "".join(f'[jobs.j{i:05}]\ncommand = ["/bin/true"]\nat = {due}\noutput = "discard"\n' for i in range(CROWD))
    d = daemon(jobs, '[daemon]\nlog_level = "warning"\n[pool]\nmax = 8\n').start(ready=False)
    begun_s = time.monotonic()
    until(lambda: processes_with(str(d.runtime)), 20)

    def total(series: str) -> float:
        lines = [line for line in d.get("/metrics")[1].splitlines() if line.startswith(series)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def ready() -> bool:
        try:
            return d.get("/ready")[0] == 200
        except OSError:
            return False

    until(ready, 20, "it is ready")
    assert time.time() < at, "the daemon was not ready before the jobs were due"
    until(lambda: d.metric("tidegate_pool_queued") > 0, 20, "they are queued")
    until(lambda: d.metric("tidegate_pool_queued") + d.metric("tidegate_pool_running") == 0, 60, "all have run")
    print(f"{CROWD} jobs ended {time.monotonic() - begun_s - 10:.1f} s after they were due")
    page = d.get("/metrics")[1]
    succeeded = [line for line in page.splitlines() if 'outcome="succeeded"} 1' in line and "runs_total" in line]
    assert len(succeeded) == CROWD
    assert total("tidegate_runs_skipped_total") == 0
    assert d.metric("tidegate_fire_lateness_seconds_count") == CROWD
    assert d.metric("tidegate_fire_lateness_seconds_sum") / CROWD < 2.0
    ends = sorted(  # by name, which is the order of equal runs in the queue
        line.split('job_name="')[1].split('"} ') for line in page.splitlines() if line.startswith(LAST_RUN + "{")
    )
    latest_s = 0.0
    for _, end in ends:
        latest_s = max(latest_s, float(end))
        assert float(end) > latest_s - 2.0, "one was passed over"
    assert len(ends) == CROWD
    assert d.noise == []
