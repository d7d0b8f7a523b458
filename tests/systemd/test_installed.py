"""tidegate as its users meet it: the package, installed on a machine with systemd as PID 1. One boot for all."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import CONFIG, JOBS, POWEROFF, Machine, until
from package import package

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

UNTIL = "until [ -e /run/go-on ]; do sleep 0.1; done"  # a run ends when it is told to, however busy this machine is
LONG = f'[jobs.long]\nshell = "{UNTIL}; exit 7"\nevery = "1h"\n'
STOPPING = """
[jobs.long]
every = "1h"
shell = 'until [ "$(systemctl is-system-running)" = stopping ]; do sleep 0.1; done; sleep 1; exit 7'
"""
WATCHED = "/etc/systemd/system/tidegate.service.d/watched.conf"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    guest = Machine(tmp_path_factory.mktemp("guest") / "machine")
    try:
        for revision in (1, 2):
            target = guest.folder / f"upper/tidegate-{revision}.deb"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(package(revision), target)
        guest.boot()
        guest.run("DEBIAN_FRONTEND=noninteractive dpkg -i /tidegate-1.deb")
        yield guest
    finally:
        guest.remove()


def begun(machine: Machine, settings: str = "") -> dict[str, object]:
    """A run under way."""
    machine.run("rm -f /run/go-on")
    machine.fresh(LONG, settings)
    machine.run("tidegate trigger long")
    return machine.running("long")


def same_end(machine: Machine, run: dict[str, object]) -> None:
    """That very run went on and its true exit status is on record."""
    assert machine.running("long")["run_id"] == run["run_id"]
    machine.run("touch /run/go-on")
    ended = machine.ended("long")
    assert (ended["run_id"], ended["attempt"], ended["pid"]) == (run["run_id"], 1, run["pid"])
    assert (ended["outcome"], ended["exit_code"]) == ("failed", 7)


# --- installed and started --------------------------------------------------------------------------------------


def test_installing_enables_and_starts_nothing(machine: Machine) -> None:
    for unit in ("tidegate", "tidegate-keeper", "tidegate-unprivileged", "tidegate-unprivileged-keeper"):
        assert machine.shown(unit, "LoadState") == "loaded"
        assert machine.shown(unit, "ActiveState") == "inactive"
    assert machine.said("systemctl is-enabled tidegate", check=False) == "disabled"
    assert machine.said("id -un tidegate") == "tidegate"


def test_verify_finds_nothing_to_say(machine: Machine) -> None:
    done = machine.run("systemd-analyze verify /usr/lib/systemd/system/tidegate*.service")
    assert (done.stdout, done.stderr) == ("", "")


def test_started_is_ready_and_its_keeper_is_a_service_of_its_own(machine: Machine) -> None:
    machine.fresh('[jobs.a]\ncommand = ["true"]\nevery = "1s"\n')
    assert machine.shown("tidegate", "ActiveState") == "active"
    until(lambda: "1 job" in machine.shown("tidegate", "StatusText"), "the status is told")
    machine.ended("a")
    assert machine.shown("tidegate-keeper", "StatusText") == "listening"
    assert "keeper.py" in machine.said(f"tr '\\0' ' ' </proc/{machine.pid('tidegate-keeper')}/cmdline")
    assert machine.said(f"grep CapEff /proc/{machine.pid()}/status").split()[1] == "0" * 16
    doctor = json.loads(machine.said("tidegate doctor --json", check=False))
    found = {each["name"]: each for each in doctor["findings"]}
    assert found["keeper"]["found"] == f"it answers (pid {machine.pid('tidegate-keeper')})"
    assert "/system.slice/tidegate-keeper.service" in found["cgroups"]["found"]


def test_job_as_another_user_with_its_values_and_its_output_that_the_daemon_can_read(machine: Machine) -> None:
    machine.fresh(
        '[jobs.who]\nuser = "nobody"\ncwd = "/"\nevery = "1h"\n'
        'shell = "id -un; echo x=1 >>$TIDEGATE_OUTPUT && cat $TIDEGATE_OUTPUT; cat /var/lib/tidegate/lock"\n'
    )
    machine.run("tidegate trigger --wait who", check=False)
    ended = machine.ended("who")
    assert (ended["outcome"], ended["exit_code"]) == ("failed", 1), ended
    assert machine.said("tidegate logs who").splitlines()[:2] == ["nobody", "x=1"]
    assert "Permission denied" in machine.said("tidegate logs who")


def test_members_of_the_operators_group_operate_and_others_are_kept_out(machine: Machine) -> None:
    machine.fresh('[jobs.a]\ncommand = ["true"]\nevery = "1h"\n', '[control]\noperators = "audio"\n')
    asks = "setpriv --reuid=nobody --regid=nogroup --groups={} env HOME=/ tidegate trigger a"
    assert machine.run(asks.format("audio"), check=False).returncode == 0
    assert machine.run(asks.format("nogroup"), check=False).returncode == 3


def test_token_as_a_credential(machine: Machine) -> None:
    path = "/run/credentials/tidegate.service/tidegate.token"
    machine.write("/etc/credstore/tidegate.token", "0123456789abcdef0123456789abcdef\n", 0o600)
    machine.fresh('[jobs.a]\ncommand = ["true"]\nevery = "1h"\n', f'[http]\ntoken_file = "{path}"\n')
    ask = "curl -s -o /dev/null -w %{http_code} -X POST -H 'Authorization: Bearer %s' 127.0.0.1:9810/api/v1/jobs/a/runs"
    assert machine.said(ask.replace("%s", "0123456789abcdef0123456789abcdef")) == "202"
    assert machine.said(ask.replace("%s", "fedcba9876543210fedcba9876543210")) == "401"
    machine.run("systemctl stop tidegate")
    assert machine.run("tidegate check").returncode == 0  # it cannot be there now
    machine.run("rm /etc/credstore/tidegate.token")
    assert machine.run("systemctl start tidegate", check=False).returncode != 0
    assert "LoadCredential= in the unit, and the file it names, bring it" in machine.words("tidegate")


# --- reload ------------------------------------------------------------------------------------------------------


def test_reload_waits_for_the_new_plan_and_a_broken_file_fails_it_and_leaves_the_old_one(machine: Machine) -> None:
    machine.fresh('[jobs.a]\ncommand = ["true"]\nevery = "1h"\n')
    second = '[jobs.b]\ncommand = ["true"]\nevery = "1s"\noverlap = "allow"\n'
    machine.write(JOBS, f'[jobs.a]\ncommand = ["true"]\nevery = "1h"\n{second}')
    machine.run("systemctl reload tidegate")
    assert machine.run("tidegate trigger b").returncode == 0
    machine.write(JOBS, '[jobs.a]\ncommand = ["true"]\nevery = "soon"\n')
    since = machine.now()
    assert machine.run("systemctl reload tidegate", check=False).returncode != 0
    assert "/etc/tidegate/jobs.d/jobs.toml:3: jobs.a.every:" in machine.words("tidegate", since)
    assert machine.shown("tidegate", "ActiveState") == "active"
    count = len(machine.history("b"))
    machine.ended("b", count + 1)  # the old plan goes on


# --- what runs outlives --------------------------------------------------------------------------------------------


def test_a_killed_daemon_is_started_again_and_finds_its_run(machine: Machine) -> None:
    run, pid = begun(machine), machine.pid()
    machine.run(f"kill -9 {pid}")
    until(lambda: machine.pid() not in (0, pid), "another daemon")
    same_end(machine, run)
    assert machine.shown("tidegate", "NRestarts") == "1"


def test_a_restart_touches_no_run(machine: Machine) -> None:
    run, keeper = begun(machine), machine.pid("tidegate-keeper")
    machine.run("systemctl restart tidegate")
    same_end(machine, run)
    assert machine.pid("tidegate-keeper") == keeper


def test_a_restart_gives_a_hook_under_way_its_time(machine: Machine) -> None:
    machine.run("rm -f /run/go-on")
    folder = "/var/lib/tidegate"
    machine.fresh(
        '[jobs.a]\ncommand = ["false"]\nevery = "1h"\non_failure = ["tell"]\n',
        f'[http]\nlisten = ""\n[hooks.tell]\ncommand = ["sh", "-c", ": >{folder}/begun; {UNTIL}; : >{folder}/told"]\n',
    )
    machine.run("tidegate trigger a")
    until(lambda: machine.run(f"test -e {folder}/begun", check=False).returncode == 0, "the hook is under way")
    machine.run("systemctl restart --no-block tidegate")
    until(lambda: machine.shown("tidegate", "ActiveState") == "deactivating", "it is being stopped")
    machine.run("touch /run/go-on")
    until(lambda: machine.run(f"test -e {folder}/told", check=False).returncode == 0, "the hook could end")
    until(lambda: machine.shown("tidegate", "ActiveState") == "active", "it is started again")


def test_an_upgrade_touches_no_run(machine: Machine) -> None:
    run, keeper, pid = begun(machine), machine.pid("tidegate-keeper"), machine.pid()
    machine.run("DEBIAN_FRONTEND=noninteractive dpkg -i /tidegate-2.deb")
    assert machine.pid() not in (0, pid), "the daemon is the new one"
    same_end(machine, run)
    assert machine.pid("tidegate-keeper") == keeper


def test_a_stalled_loop_is_ended_by_the_watchdog_and_its_run_found(machine: Machine) -> None:
    """Row 41."""
    run = begun(machine)
    machine.write(
        WATCHED,
        "[Service]\nWatchdogSec=2s\nTimeoutAbortSec=2s\n"
        "Environment=TIDEGATE_TEST_BUILD=1 TIDEGATE_FAILPOINT=exit.before_outcome=stall:600\n",
    )
    try:
        machine.write(JOBS, LONG + '[jobs.short]\ncommand = ["true"]\nevery = "1h"\n')
        machine.run("systemctl daemon-reload && systemctl restart tidegate")
        since = machine.now()
        pid = machine.pid()
        machine.run("tidegate trigger short")
        until(lambda: "Watchdog timeout" in machine.words("tidegate", since), "the watchdog")
    finally:
        machine.run(f"rm -r {Path(WATCHED).parent}; systemctl daemon-reload")
    until(lambda: machine.pid() not in (0, pid), "another daemon")
    machine.run("systemctl restart tidegate")  # without the failpoint
    same_end(machine, run)


def test_a_killed_keeper_is_started_again_and_leaves_nothing_of_its_runs(machine: Machine) -> None:
    run = begun(machine)
    keeper = machine.pid("tidegate-keeper")
    machine.run(f"kill -9 {keeper}")
    until(lambda: machine.pid("tidegate-keeper") not in (0, keeper), "another keeper")
    assert machine.ended("long")["outcome"] in ("unknown", "interrupted")
    assert machine.run(f"test -d /proc/{run['pid']}", check=False).returncode == 1
    until(lambda: machine.run("tidegate trigger long", check=False).returncode == 0, "it works again")
    machine.running("long")


def test_stop_leaves_what_runs_or_lets_it_end_as_on_stop_says(machine: Machine) -> None:
    run = begun(machine)
    machine.run("systemctl stop tidegate")
    assert machine.run(f"test -d /proc/{run['pid']}", check=False).returncode == 0
    machine.run("systemctl start tidegate")
    same_end(machine, run)

    run = begun(machine, '[daemon]\non_stop = "drain"\n')
    machine.run("systemctl stop --no-block tidegate")
    until(lambda: "draining" in machine.shown("tidegate", "StatusText"), "it drains")
    assert machine.run(f"test -d /proc/{run['pid']}", check=False).returncode == 0
    machine.run("touch /run/go-on")
    until(lambda: machine.shown("tidegate", "ActiveState") == "inactive", "it has ended")
    assert machine.history("long")[0]["exit_code"] == 7  # from the file: no daemon answers
    assert machine.shown("tidegate-keeper", "ActiveState") == "active"


def test_draining_takes_as_long_as_drain_timeout_says_though_the_unit_allows_less(machine: Machine) -> None:
    run = begun(machine, '[daemon]\non_stop = "drain"\n')
    machine.write(WATCHED, "[Service]\nTimeoutStopSec=1s\n")
    try:
        machine.run("systemctl daemon-reload; systemctl stop --no-block tidegate")
        until(lambda: "draining" in machine.shown("tidegate", "StatusText"), "it drains")
        machine.run("sleep 2")  # what systemd must let pass
        assert machine.shown("tidegate", "ActiveState") == "deactivating"
        machine.run("touch /run/go-on")
        until(lambda: machine.shown("tidegate", "ActiveState") == "inactive", "it has ended")
        assert machine.shown("tidegate", "Result") == "success"
        assert (machine.history("long")[0]["run_id"], machine.history("long")[0]["exit_code"]) == (run["run_id"], 7)
    finally:
        machine.run(f"rm -r {Path(WATCHED).parent}; systemctl daemon-reload")


# --- the journal ---------------------------------------------------------------------------------------------------


def test_records_have_fields_of_their_own_and_output_can_go_there(machine: Machine) -> None:
    machine.fresh('[jobs.said]\nshell = "echo hello; echo there >&2"\noutput = "journal"\nevery = "1h"\n')
    machine.run("tidegate trigger --wait said")
    records = machine.journal("TIDEGATE_JOB=said", "--since=-1min")
    events = {record["TIDEGATE_EVENT"] for record in records}
    assert {"run.started", "run.finished"} <= events
    finished = next(record for record in records if record["TIDEGATE_EVENT"] == "run.finished")
    assert finished["_SYSTEMD_UNIT"] == "tidegate.service"
    assert finished["TIDEGATE_RUN_ID"] == machine.history("said")[0]["run_id"]
    lines = machine.journal("SYSLOG_IDENTIFIER=tidegate-said", "--since=-1min")
    assert [line["MESSAGE"] for line in lines] == ["hello", "there"]
    assert machine.said("tidegate logs said").splitlines() == ["hello", "there"]


# --- the other variant ---------------------------------------------------------------------------------------------


def test_unprivileged_throughout(machine: Machine) -> None:
    machine.run("systemctl stop tidegate tidegate-keeper")
    jobs = '[jobs.who]\ncwd = "/tmp"\nevery = "1h"\n'
    jobs += f'shell = "id -un; grep CapBnd /proc/self/status; {UNTIL}"\n'
    machine.run("rm -f /run/go-on")
    machine.fresh(jobs, unit="tidegate-unprivileged")
    try:
        machine.run("tidegate trigger who")
        run = machine.running("who")
        assert machine.said("ps -o user= -C tidegate,tidegate-keeper").split() == ["tidegate", "tidegate"]
        machine.run("systemctl restart tidegate-unprivileged; touch /run/go-on")
        ended = machine.ended("who")
        assert (ended["run_id"], ended["outcome"]) == (run["run_id"], "succeeded")
        assert machine.said("tidegate logs who").split() == ["tidegate", "CapBnd:", "0" * 16]
        machine.write(JOBS, '[jobs.who]\ncommand = ["id"]\nuser = "nobody"\nevery = "1h"\n')
        assert machine.run("systemctl reload tidegate-unprivileged", check=False).returncode != 0
        assert "only root can run a job as somebody else" in machine.words("tidegate-unprivileged")
    finally:
        machine.run("systemctl stop tidegate-unprivileged tidegate-unprivileged-keeper; rm -rf /var/lib/tidegate")


# --- the sandbox ---------------------------------------------------------------------------------------------------

SHARED = "/usr/share/doc/tidegate/systemd/drop-ins"


def test_what_the_sandbox_forbids_a_job_the_documented_drop_in_opens(machine: Machine) -> None:
    jobs = """
[jobs.opens]
every = "1h"
shell = "touch /etc/by-a-job; echo etc=$?; mount -t tmpfs tmpfs /mnt; echo mount=$?; umount /mnt"
"""
    machine.fresh(jobs)
    folder = "/etc/systemd/system/tidegate-keeper.service.d"
    try:
        machine.run("tidegate trigger --wait opens", check=False)
        closed = machine.said("tidegate logs opens")
        assert "Read-only file system" in closed and "etc=0" not in closed and "mount=0" not in closed
        machine.run(f"mkdir {folder}; cp {SHARED}/jobs-open.conf {folder}; systemctl daemon-reload")
        machine.run("systemctl restart tidegate-keeper")
        until(lambda: machine.run("tidegate trigger --wait opens", check=False).returncode != 3, "it runs again")
        assert {"etc=0", "mount=0"} <= set(machine.said("tidegate logs opens").splitlines())
    finally:
        machine.run(f"rm -rf {folder} /etc/by-a-job; systemctl daemon-reload; systemctl restart tidegate-keeper")


def test_a_hook_that_reaches_nobody_names_the_setting_and_its_drop_in_opens_the_network(machine: Machine) -> None:
    machine.fresh(
        '[jobs.a]\ncommand = ["false"]\nevery = "1h"\non_failure = ["away"]\n',
        '[http]\nlisten = ""\n[hooks.away]\nwebhook = "http://192.0.2.1/"\nretries = 0\ntimeout = "1s"\n',
    )
    machine.run("tidegate trigger --wait a", check=False)
    failed = until(lambda: machine.journal("TIDEGATE_EVENT=hook.failed", "--since=-1min"), "the hook has failed")
    assert "its IPAddressAllow= names" in failed[-1]["MESSAGE"]
    assert 'elsewhere are hook "away"' in machine.said("tidegate doctor", check=False)
    folder = Path(WATCHED).parent
    machine.run(f"mkdir {folder}; cp {SHARED}/network.conf {folder}; systemctl daemon-reload")
    try:
        assert "tidegate.service may reach every address" in machine.said("tidegate doctor", check=False)
    finally:
        machine.run(f"rm -r {folder}; systemctl daemon-reload")


# --- what is missing or wrong --------------------------------------------------------------------------------------


def refused(machine: Machine, expected: str, unit: str = "tidegate") -> None:
    """It does not start, and its journal says this."""
    since = machine.now()
    assert machine.run(f"systemctl start {unit}", check=False).returncode != 0
    assert re.search(expected, machine.words(unit, since)), machine.words(unit, since)
    machine.run(f"systemctl stop {unit}; systemctl reset-failed {unit}", check=False)


@pytest.fixture
def stopped(machine: Machine) -> Iterator[Machine]:
    machine.run("systemctl stop tidegate tidegate-keeper; systemctl reset-failed")
    machine.configure('[jobs.a]\ncommand = ["true"]\nevery = "1h"\n')
    yield machine
    machine.run(
        "rm -rf /etc/systemd/system/tidegate*.service.d; systemctl unmask "
        "tidegate-keeper systemd-journald.socket; systemctl daemon-reload; systemctl reset-failed"
    )


def test_no_keeper_is_told_with_what_starts_it(stopped: Machine) -> None:
    stopped.run("systemctl mask --runtime tidegate-keeper")
    try:
        refused(stopped, r"start its service \(systemctl start tidegate-keeper\)")
    finally:
        stopped.run("systemctl unmask --runtime tidegate-keeper")


def test_a_keeper_without_its_folder_names_the_missing_setting(stopped: Machine) -> None:
    drop_in = WATCHED.replace("tidegate.service", "tidegate-keeper.service")
    stopped.write(drop_in, "[Service]\nRuntimeDirectory=\n")
    stopped.run("rm -rf /run/tidegate-keeper /run/tidegate; systemctl daemon-reload")
    refused(stopped, "RuntimeDirectory=tidegate-keeper is missing in the unit", "tidegate-keeper")


def test_state_that_may_not_be_written_names_the_missing_setting(stopped: Machine) -> None:
    stopped.write(WATCHED, "[Service]\nStateDirectory=\n")
    stopped.run("systemctl daemon-reload")
    refused(stopped, "StateDirectory=tidegate")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("RestrictAddressFamilies=AF_INET", "RestrictAddressFamilies= must name AF_UNIX"),
        ("User=games", r"the same user \(User= of both units\)"),
        ("ReadOnlyPaths=/var/lib/tidegate", "StateDirectory=tidegate"),
    ],
)
def test_a_wrong_setting_of_the_unit_is_named(stopped: Machine, setting: str, expected: str) -> None:
    reset = "RestrictAddressFamilies=\n" if "Families" in setting else ""
    stopped.write(WATCHED, f"[Service]\n{reset}{setting}\n")
    stopped.run("systemctl daemon-reload")
    refused(stopped, expected)


def test_a_job_file_that_somebody_else_owns_is_refused(stopped: Machine) -> None:
    stopped.run(f"chown nobody {JOBS}")
    refused(stopped, f"{JOBS}: belongs to nobody, who could have anything run: chown root")


def test_a_port_in_use_is_named(stopped: Machine) -> None:
    stopped.configure('[jobs.a]\ncommand = ["true"]\nevery = "1h"\n', '[http]\nlisten = "127.0.0.1:9810"\n')
    holder = "import socket,time; s=socket.create_server(('127.0.0.1', 9810)); print(flush=True); time.sleep(60)"
    stopped.run(f'systemd-run --unit=holder /usr/bin/python3 -c "{holder}"')
    until(lambda: "9810" in stopped.said("ss -ltn"), "the port is taken")
    try:
        refused(stopped, r"127\.0\.0\.1:9810.*(in use|already)")
    finally:
        stopped.run("systemctl stop holder")


def test_no_journal_stops_nothing_and_a_job_that_needs_it_says_so(stopped: Machine) -> None:
    stopped.configure(
        '[jobs.a]\ncommand = ["true"]\nevery = "1h"\n[jobs.j]\ncommand = ["true"]\nevery = "1h"\noutput = "journal"\n'
    )
    sockets = "systemd-journald.socket systemd-journald-dev-log.socket systemd-journald-audit.socket"
    stopped.run(
        f"systemctl stop {sockets} systemd-journald; rm -f /run/systemd/journal/socket /run/systemd/journal/stdout"
    )
    try:
        stopped.run("systemctl start tidegate")
        stopped.run("tidegate trigger --wait a")
        assert stopped.ended("a")["outcome"] == "succeeded"
        stopped.run("tidegate trigger --wait j", check=False)
        ended = stopped.ended("j")
        assert ended["outcome"] == "failed_to_start" and 'set output = "file"' in ended["reason"]
        doctor = json.loads(stopped.said("tidegate doctor --json", check=False))
        assert next(each for each in doctor["findings"] if each["name"] == "journald")["level"] != "ok"
    finally:
        stopped.run(f"systemctl start {sockets} systemd-journald; systemctl restart tidegate")


# --- the machine's own life ----------------------------------------------------------------------------------------


def test_boot_fires_reboot_jobs_once_and_catches_up_and_a_shutdown_drains(machine: Machine) -> None:
    # The kernel is this machine's, and does not boot.
    machine.write(WATCHED, "[Service]\nBindReadOnlyPaths=/etc/boot-id:/proc/sys/kernel/random/boot_id\n")
    machine.run("systemctl daemon-reload")
    machine.fresh(
        STOPPING + '[jobs.boot]\ncron = "@reboot"\ncommand = ["true"]\n'
        '[jobs.tick]\nevery = "2s"\ncatch_up = "last"\ncommand = ["true"]\n'
    )
    machine.run("systemctl enable tidegate")
    machine.ended("boot")
    machine.ended("tick")
    machine.run("systemctl restart tidegate")
    assert len(machine.history("boot")) == 1, "once per boot"
    machine.run("tidegate trigger long")
    run = machine.running("long")
    machine.halt(POWEROFF)
    machine.boot()
    until(lambda: machine.shown("tidegate", "ActiveState") == "active", "enabled, so it is started")
    ended = machine.ended("long")
    assert (ended["run_id"], ended["exit_code"]) == (run["run_id"], 7), f"the shutdown did not wait for it: {ended}"
    machine.ended("boot", 2)
    until(lambda: any(run["catch_up"] for run in machine.history("tick")), "what was missed is caught up")
    machine.run("systemctl restart tidegate")
    assert len(machine.history("boot")) == 2
    machine.run(f"rm -r {Path(WATCHED).parent}; systemctl daemon-reload")


def test_purge_leaves_nothing(machine: Machine) -> None:
    """Last: there is no tidegate after it."""
    run = begun(machine)
    machine.run("systemctl enable tidegate")
    ours, not_ours = "*tidegate*", ("/tidegate-*.deb", "/var/log/*", "/var/cache/man/*")
    assert machine.written(ours, not_ours)
    machine.run("DEBIAN_FRONTEND=noninteractive dpkg --purge tidegate")
    assert machine.run(f"test -d /proc/{run['pid']}", check=False).returncode == 1
    assert machine.written(ours, not_ours) == []
    assert machine.run("id tidegate", check=False).returncode != 0
    assert machine.run(f"test -e {CONFIG}", check=False).returncode != 0
    assert "tidegate" not in machine.said("systemctl list-units --all --plain --no-legend 'tidegate*'")
