"""The whole daemon as a process: what it does on time, on signals, on a reload, when it or its keeper is killed."""

import contextlib
import itertools
import os
import re
import signal
import socket
import sqlite3
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest
from daemon_process import TIDEGATE, WAIT_S, Daemon, all_pids, cmdline, runs_under, until

pytestmark = pytest.mark.live

TICK = '[jobs.tick]\ncommand = ["true"]\nevery = "1s"\n'


@pytest.fixture
def daemon(tmp_path):
    made = []

    def make(jobs: str, settings: str = "") -> Daemon:
        made.append(Daemon(tmp_path / f"d{len(made)}", jobs, settings))
        return made[-1]

    yield make
    for each in made:
        each.clean_up()


def test_jobs_fire_on_time_and_are_counted(daemon):
    d = daemon('[jobs.second]\nshell = "echo out; echo err >&2"\ncron = "* * * * * *"\n').start()
    d.wait_for("run.finished", count=3, job="second", outcome="succeeded")
    for record in d.seen("run.started", job="second"):
        late_s = datetime.fromisoformat(record["time"]) - datetime.fromisoformat(record["scheduled_at"])
        assert 0 <= late_s.total_seconds() < 0.5
    assert d.metric('tidegate_runs_total{job_name="second",task="",outcome="succeeded"}') >= 3
    outputs = list((d.state / "output" / "second").glob("*.log"))
    assert outputs[0].read_text() == "out\nerr\n"
    assert d.end() == 0
    assert d.noise == []


def test_a_job_that_cannot_start_says_why_and_is_no_exception(daemon):
    d = daemon('[jobs.a]\ncommand = ["/no/such/program"]\ncron = "@reboot"\n').start()
    record = d.wait_for("run.finished", job="a", outcome="failed_to_start")
    assert "/no/such/program" in record["reason"]
    assert "Traceback" not in str(d.records)
    assert d.end() == 0


def test_retries_and_their_end_are_on_record(daemon):
    d = daemon(
        '[jobs.a]\nshell = "exit 7"\ncron = "@reboot"\nretries = { max = 2, delay = "100ms", jitter = 0 }\n'
    ).start()
    record = d.wait_for("run.finished", job="a")
    assert (record["attempt"], record["exit_code"], record["outcome"]) == (3, 7, "failed")
    assert len(d.seen("run.retrying", job="a")) == 2


def test_a_time_out_ends_the_whole_tree(daemon):
    shell = "trap '' TERM; (trap '' TERM; setsid sh -c 'trap \\\"\\\" TERM; sleep 300' &) ; sleep 300"
    d = daemon(f'[jobs.a]\nshell = "{shell}"\ncron = "@reboot"\ntimeout = "500ms"\nkill_grace = "500ms"\n').start()
    record = d.wait_for("run.finished", job="a")
    assert record["outcome"] == "timed_out"
    until(lambda: not runs_under(str(d.state)), 3, "the tree is gone")


@pytest.mark.parametrize("shell", ["sleep 300", "trap '' TERM; sleep 300; sleep 300"])
def test_a_stopped_job_is_ended_by_its_time_out(daemon, shell):
    d = daemon(f'[jobs.a]\nshell = "{shell}"\ncron = "@reboot"\ntimeout = "1s"\nkill_grace = "500ms"\n').start()
    d.wait_for("run.started", job="a")
    for pid in runs_under(str(d.state)):
        os.kill(pid, signal.SIGSTOP)
    assert d.wait_for("run.finished", job="a")["outcome"] == "timed_out"
    until(lambda: not runs_under(str(d.state)), 3, "the tree is gone")


def test_a_second_daemon_on_the_same_state_refuses_within_a_second_and_names_the_holder(daemon):
    d = daemon(TICK).start()
    begun_s = time.monotonic()
    second = subprocess.run(
        [TIDEGATE, "run", "--config", d.config],
        env={**os.environ, "STATE_DIRECTORY": str(d.state), "RUNTIME_DIRECTORY": str(d.runtime)},
        capture_output=True,
        text=True,
        timeout=10,
    )
    assert second.returncode == 1
    assert f"pid {d.pid}" in second.stderr
    assert "STATE_DIRECTORY" in second.stderr and "RUNTIME_DIRECTORY" in second.stderr
    assert "Traceback" not in second.stderr
    assert time.monotonic() - begun_s < 2.0  # a second, and its own start
    assert d.process.poll() is None


def test_a_port_in_use_ends_the_start_with_a_message_and_leaves_no_keeper(daemon):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        d = daemon(TICK, f'[http]\nlisten = "127.0.0.1:{port}"\n').start(ready=False)
        assert d.wait_end() == 1
        d.wait_for("daemon.failed")
        assert f"127.0.0.1:{port} is in use" in d.seen("daemon.failed")[0]["message"]
    until(lambda: not [pid for pid in all_pids() if str(d.runtime) in cmdline(pid)], 10, "the keeper is gone")


def test_a_broken_configuration_at_start_lists_every_problem(daemon):
    d = daemon('[jobs.a]\ncommand = ["true"]\ncron = "61 * * * *"\n[jobs.b]\ncomand = ["x"]\n').start(ready=False)
    assert d.wait_end() == 1
    until(lambda: len(d.noise) >= 3)
    text = "".join(d.noise)
    assert re.search(r'jobs.toml:3: jobs\.a\.cron: minute must be 0-59, got "61"', text)
    assert "did you mean" in text


# --- reload ------------------------------------------------------------------------------------------------------


def test_a_good_reload_says_what_changed_and_touches_nothing_that_runs(daemon):
    d = daemon('[jobs.long]\nshell = "sleep 300"\ncron = "@reboot"\n[jobs.gone]\ncommand = ["true"]\nevery = "1h"\n')
    d.start()
    started = d.wait_for("run.started", job="long")
    d.jobs_file.write_text('[jobs.long]\nshell = "sleep 301"\ncron = "@reboot"\n' + TICK)
    d.send(signal.SIGHUP)
    record = d.wait_for("config.reloaded")
    for name in ("tick", "long", "gone"):
        assert name in record["message"]
    d.wait_for("run.finished", job="tick")
    assert not d.seen("run.finished", job="long")
    assert Path(f"/proc/{_pid_of(started)}").exists()
    assert d.metric("tidegate_config_last_reload_success") == 1


def test_a_reload_names_the_tables_that_changed_and_those_that_need_a_restart(daemon):
    d = daemon(TICK, "[pool]\nmax = 100\n").start()
    d.config.write_text(d.config.read_text() + "[metrics]\nper_job_histograms = false\n[history]\nkeep_runs = 5\n")
    d.send(signal.SIGHUP)
    told = d.wait_for("config.reloaded")["message"]
    assert told.endswith("1 job unchanged; changed [metrics], [history]; only a restart applies [metrics]")
    assert d.wait_for("config.restart_needed")["message"] == "[metrics] has changed: this needs a restart"


def test_a_broken_reload_leaves_the_old_plan_live_and_names_the_line(daemon):
    d = daemon(TICK).start()
    d.jobs_file.write_text(TICK + '[jobs.b]\ncommand = ["true"]\ncron = "a"\n')
    d.send(signal.SIGHUP)
    d.wait_for("config.reload_failed", count=2)
    assert any("jobs.toml:6: jobs.b.cron" in record["message"] for record in d.seen("config.reload_failed"))
    assert d.metric("tidegate_config_last_reload_success") == 0
    before = len(d.seen("run.finished", job="tick"))
    d.wait_for("run.finished", count=before + 2, job="tick")
    d.jobs_file.write_text(TICK[: len(TICK) // 2])
    d.send(signal.SIGHUP)
    d.wait_for("config.reload_failed", count=4)
    d.jobs_file.write_text(TICK)
    d.send(signal.SIGHUP)
    d.wait_for("config.reloaded")
    assert d.metric("tidegate_config_last_reload_success") == 1


def test_ten_thousand_hups_pile_up_no_reloads_and_lose_no_fire(daemon):
    d = daemon(TICK).start()
    first = d.wait_for("run.finished", job="tick")
    for _ in range(10_000):
        d.send(signal.SIGHUP)
    reloads = 0

    def settled() -> bool:
        nonlocal reloads
        before, reloads = reloads, len(d.seen("config.reloaded"))
        return reloads == before and reloads > 0

    d.wait_for("run.finished", count=len(d.seen("run.finished", job="tick")) + 2, job="tick")
    until(settled)
    assert 1 <= reloads < 200
    due = [datetime.fromisoformat(record["scheduled_at"]) for record in d.seen("run.finished", job="tick")]
    assert due[0] == datetime.fromisoformat(first["scheduled_at"])
    gaps = {(after - before).total_seconds() for before, after in itertools.pairwise(due)}
    assert gaps == {1.0}


# --- the end -----------------------------------------------------------------------------------------------------


def test_sigterm_drains_what_runs_and_starts_nothing_more(daemon):
    d = daemon('[jobs.a]\nshell = "sleep 1; echo done"\ncron = "@reboot"\n' + TICK).start()
    d.wait_for("run.started", job="a")
    d.send(signal.SIGTERM)
    d.wait_for("daemon.draining")
    assert d.wait_end() == 0
    assert d.seen("run.finished", job="a")[0]["outcome"] == "succeeded"
    drained_at = d.seen("daemon.draining")[0]["time"]
    assert [r for r in d.seen("run.started", job="tick") if r["time"] > drained_at] == []
    until(lambda: not [pid for pid in all_pids() if str(d.runtime) in cmdline(pid)], 10, "the keeper is gone")


def test_a_reload_while_it_drains_is_refused(daemon, tmp_path):
    d = daemon(
        f'[jobs.long]\nshell = "until [ -e {tmp_path}/go ]; do sleep 0.05; done"\ncron = "@reboot"\n' + TICK
    ).start()
    d.wait_for("run.started", job="long")
    d.send(signal.SIGTERM)
    d.wait_for("daemon.draining")
    d.jobs_file.write_text(TICK.replace("1s", "7s"))
    d.send(signal.SIGHUP)
    assert "the next start reads" in d.wait_for("config.reload_failed")["message"]
    (tmp_path / "go").touch()
    assert d.wait_end() == 0
    assert not d.seen("config.reloaded")


def test_a_run_asked_for_while_it_drains_is_refused_at_once_and_a_running_one_can_still_be_cancelled(daemon):
    d = daemon('[jobs.long]\nshell = "exec sleep 300"\ncron = "@reboot"\n').start()
    run_id = d.wait_for("run.started", job="long")["run_id"]
    d.send(signal.SIGINT)
    d.wait_for("daemon.draining")
    where = {"STATE_DIRECTORY": str(d.state), "RUNTIME_DIRECTORY": str(d.runtime), "PATH": os.environ["PATH"]}

    def asked(*words: str) -> tuple[int, str]:
        done = subprocess.run([TIDEGATE, *words], env=where, capture_output=True, text=True, timeout=WAIT_S)
        return done.returncode, done.stderr

    code, said = asked("trigger", "long", "--wait")
    assert code == 1 and said.startswith("Error: the daemon is stopping: it starts nothing more"), said
    assert asked("pause", "long") == (0, "")
    code, said = asked("reload")
    assert code == 1 and "tidegate is stopping" in said, said
    assert asked("cancel", run_id) == (0, "")
    assert d.wait_end() == 0
    assert not any("Traceback" in line for line in d.noise)


def test_drain_timeout_ends_what_does_not_end_by_itself(daemon):
    d = daemon('[jobs.a]\nshell = "sleep 300"\ncron = "@reboot"\n', '[daemon]\ndrain_timeout = "300ms"\n').start()
    d.wait_for("run.started", job="a")
    assert d.end() == 0
    assert d.seen("run.finished", job="a")[0]["outcome"] == "cancelled"
    assert runs_under(str(d.state)) == []


def test_a_second_sigint_stops_at_once(daemon):
    d = daemon('[jobs.a]\nshell = "trap \'\' TERM; sleep 300; sleep 300"\ncron = "@reboot"\n').start()
    d.wait_for("run.started", job="a")
    d.send(signal.SIGINT)
    d.wait_for("daemon.draining")
    begun_s = time.monotonic()
    assert d.end(signal.SIGINT) == 0
    assert time.monotonic() - begun_s < 5
    assert d.seen("run.finished", job="a")[0]["outcome"] == "cancelled"
    assert runs_under(str(d.state)) == []


def test_sigterm_during_starts_leaves_no_orphan(daemon):
    jobs = "".join(f'[jobs.j{i}]\nshell = "sleep 300"\ncron = "@reboot"\nmemory = "1MiB"\n' for i in range(60))
    d = daemon(jobs, '[daemon]\ndrain_timeout = "100ms"\n[pool]\nmin = 60\nmax = 60\n').start()
    d.wait_for("run.started")
    assert d.end() == 0
    assert len({record["run_id"] for record in d.seen("run.finished")}) == 60
    assert runs_under(str(d.state)) == []


# --- killed ------------------------------------------------------------------------------------------------------


def test_a_killed_keeper_is_replaced_and_its_runs_are_unknown(daemon):
    d = daemon('[jobs.a]\nshell = "sleep 300"\ncron = "@reboot"\n' + TICK).start()
    d.wait_for("run.started", job="a")
    os.kill(d.keeper_pid(), signal.SIGKILL)
    d.wait_for("keeper.lost")
    assert d.wait_for("run.finished", job="a")["outcome"] == "unknown"
    d.wait_for("keeper.started")
    before = len(d.seen("run.finished", job="tick", outcome="succeeded"))
    d.wait_for("run.finished", count=before + 1, job="tick", outcome="succeeded")
    assert d.seen("run.finished", job="a", outcome="succeeded") == []


def test_a_killed_daemon_finds_its_runs_again_and_their_true_exit_status(daemon):
    gate = '[jobs.a]\nshell = "while [ ! -e GATE ]; do sleep 0.05; done; exit 5"\ncron = "@reboot"\n'
    d = daemon("")
    d.jobs_file.write_text(gate.replace("GATE", str(d.folder / "gate")))
    d.start()
    first = d.wait_for("run.started", job="a")
    d.process.kill()
    d.process.wait()
    d.start()
    assert d.wait_for("run.recovered", job="a")["run_id"] == first["run_id"]
    (d.folder / "gate").touch()
    ended = d.wait_for("run.finished", job="a")
    assert (ended["run_id"], ended["exit_code"], ended["outcome"]) == (first["run_id"], 5, "failed")


# --- @reboot -----------------------------------------------------------------------------------------------------


def test_reboot_jobs_fire_once_per_boot_id(daemon):
    d = daemon('[jobs.a]\ncommand = ["true"]\ncron = "@reboot"\n' + TICK).start()
    d.wait_for("run.finished", job="a")
    assert d.end() == 0
    d.start()
    d.wait_for("run.finished", job="tick", pid=d.pid)
    assert d.seen("run.started", job="a", pid=d.pid) == []
    assert d.end() == 0
    with contextlib.closing(sqlite3.connect(d.state / "history.sqlite")) as history, history:
        history.execute("UPDATE meta SET value = 'another boot' WHERE key = 'boot_id'")
        history.execute("UPDATE jobs SET boot_id = 'another boot'")
    d.start()
    d.wait_for("run.finished", job="a", pid=d.pid)


# --- systemd -----------------------------------------------------------------------------------------------------


def test_systemd_is_told_ready_reloading_watchdog_and_stopping(daemon, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        d = daemon(TICK)
        d.start(ready=False, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="400000")

        def hear(word: str) -> str:
            while word not in (said := manager.recv(4096).decode()):
                pass
            return said

        assert "STATUS=1 job, 0 running, 0 queued, limit " in hear("READY=1")
        for _ in range(3):
            hear("WATCHDOG=1")
        d.send(signal.SIGHUP)
        assert re.search(r"MONOTONIC_USEC=\d+", hear("RELOADING=1"))
        hear("READY=1")
        d.send(signal.SIGTERM)
        # drain_timeout, kill_grace and 10 s for the end: longer than a unit may give.
        assert "EXTEND_TIMEOUT_USEC=320000000\n" in hear("STOPPING=1")
        assert d.wait_end() == 0


def test_sigusr1_logs_a_full_state_line(daemon):
    d = daemon('[jobs.a]\nshell = "sleep 300"\ncron = "@reboot"\n').start()
    started = d.wait_for("run.started", job="a")
    d.send(signal.SIGUSR1)
    message = d.wait_for("daemon.state")["message"]
    for word in ("1 running", started["run_id"], "limit", "paused: none", "keeper: pid"):
        assert word in message


def test_ready_turns_bad_while_draining_and_health_stays_good(daemon):
    d = daemon('[jobs.a]\nshell = "sleep 300"\ncron = "@reboot"\n').start()
    d.wait_for("run.started", job="a")
    assert (d.get("/ready")[0], d.get("/health")[0]) == (200, 200)
    d.send(signal.SIGTERM)
    d.wait_for("daemon.draining")
    status, body = d.get("/ready")
    assert status == 503
    assert "draining" in body
    assert d.get("/health")[0] == 200


def _pid_of(record: dict) -> int:
    return int(re.search(r"pid (\d+)", record["message"])[1])


TELLS_OF_ITS_GC = """
import gc, os, pathlib, threading, time

def tell():
    with open({folder!r} + f"/{{os.getpid()}}", "a", buffering=1) as file:
        while True:
            print(gc.isenabled(), file=file)
            time.sleep(0.01)

threading.Thread(target=tell, daemon=True).start()
"""


def test_cycles_are_collected_again_once_all_is_up(daemon, tmp_path):
    site, said = tmp_path / "site", tmp_path / "said"
    site.mkdir()
    said.mkdir()
    (site / "sitecustomize.py").write_text(TELLS_OF_ITS_GC.format(folder=str(said)))
    d = daemon(TICK).start(PYTHONPATH=str(site))
    told = said / str(d.pid)
    before = len(told.read_text().split())
    until(lambda: told.read_text().count("\n") >= before + 3)
    assert told.read_text().split()[before + 1] == "True"
