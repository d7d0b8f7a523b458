"""tidegate doctor: each thing in each of its states, on made-up machines and folders."""

import json
import os
import socket
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner
from monitor_world import PID, World

from tidegate.cli import installation, machine
from tidegate.cli.client import Client
from tidegate.cli.finding import Finding, Level, broken, degraded, ok
from tidegate.cli.main import main
from tidegate.monitor.machine import usable_cpus

V2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1 = "30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
OWN = "0::/system.slice/tidegate.service\n"


def level(finding: Finding) -> str:
    return finding.level.value


def a_machine(folder: Path, mounts: str = V2, own: str = OWN, controllers: str = "cpu io memory pids") -> Path:
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/812").mkdir()
    (folder / "proc/self/mountinfo").write_text(mounts)
    (folder / "proc/812/cgroup").write_text(own)
    cgroup = folder / "sys/fs/cgroup/system.slice/tidegate.service"
    cgroup.mkdir(parents=True)
    (cgroup / "cgroup.controllers").write_text(controllers)
    return folder


# --- the machine --------------------------------------------------------------------------------


def test_pressure_is_told_or_named_as_missing(tmp_path: Path) -> None:
    (tmp_path / "proc/pressure").mkdir(parents=True)
    (tmp_path / "proc/pressure/cpu").write_text("some avg10=0.00")
    finding = machine.pressure(tmp_path)
    assert level(finding) == "degraded"
    assert "memory, io" in finding.found
    for name in ("memory", "io"):
        (tmp_path / "proc/pressure" / name).write_text("some avg10=0.00")
    assert level(machine.pressure(tmp_path)) == "ok"


def test_readings_are_told_with_what_they_fall_back_to(tmp_path: Path) -> None:
    world = World(tmp_path, cpus=usable_cpus(PID))
    world.children(PID)
    assert level(machine.readings(tmp_path, PID)) == "ok"
    world.remove("proc/meminfo")
    finding = machine.readings(tmp_path, PID)
    assert level(finding) == "degraded"
    assert "memory: psutil" in finding.found
    assert "/proc/meminfo cannot be read" in finding.mend


@pytest.mark.parametrize(
    ("world", "delegated", "expected", "words"),
    [
        ({}, True, "ok", "with memory, cpu, pids, io"),
        ({}, False, "degraded", "may not divide its own (/system.slice/tidegate.service)"),
        ({"own": "0::/system.slice/tidegate.service/keeper\n"}, True, "ok", "/system.slice/tidegate.service"),
        ({"controllers": "memory pids"}, True, "degraded", "without the controllers cpu, io"),
        ({"own": "0::/\n"}, True, "degraded", "may not divide its own (/)"),
        ({"mounts": V1}, True, "degraded", "version 1 only"),
        ({"mounts": ""}, True, "degraded", "none are mounted"),
    ],
)
def test_control_groups_are_what_the_daemon_may_do_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: dict[str, str], delegated: bool, expected: str, words: str
) -> None:
    monkeypatch.setattr(machine, "delegated", lambda folder: delegated)
    finding = machine.control_groups(a_machine(tmp_path, **world), 812)
    assert (level(finding), words in finding.found) == (expected, True), finding
    assert bool(finding.mend) is (expected != "ok")


def test_a_machine_without_proc_is_said_to_be_so(tmp_path: Path) -> None:
    assert level(machine.control_groups(tmp_path, 812)) == "degraded"


def test_the_journal_is_there_if_its_socket_is(tmp_path: Path) -> None:
    assert level(machine.journald(tmp_path)) == "degraded"
    folder = tmp_path / "run/systemd/journal"
    folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(folder / "socket"))
        assert level(machine.journald(tmp_path)) == "ok"


def test_an_old_sqlite_is_broken() -> None:
    assert level(machine.sqlite((3, 37, 2))) == "broken"
    assert level(machine.sqlite((3, 38, 0))) == "ok"


@pytest.mark.parametrize(("state", "expected"), [(0, "ok"), (5, "degraded"), (-1, "degraded")])
def test_a_clock_that_nobody_keeps_right_is_degraded(state: int, expected: str) -> None:
    assert level(machine.clock_sync(state)) == expected


def test_the_clock_is_asked_without_setting_it() -> None:
    assert -1 <= machine.clock_state() <= 5


def test_missing_zone_data_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise machine.zoneinfo.ZoneInfoNotFoundError(name)

    assert level(machine.zones()) in ("ok", "degraded")
    monkeypatch.setattr(machine.zoneinfo, "ZoneInfo", missing)
    assert level(machine.zones()) == "broken"


# --- the installation ---------------------------------------------------------------------------


def test_a_broken_configuration_names_its_first_problem(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.toml"
    plan, finding = installation.configuration(path)
    assert (plan, level(finding)) == (None, "broken")
    path.write_text("[jobs.a]\ncommand = 1\ncron = 2\n")
    finding = installation.configuration(path)[1]
    assert level(finding) == "broken"
    assert f"{path}:2" in finding.found
    assert "(and 1 more)" in finding.found
    path.write_text("[jobs.a]\ncommand = ['true']\n")
    path.chmod(0o644)
    assert level(installation.configuration(path)[1]) == "ok"


@pytest.mark.parametrize(
    ("mode", "expected"), [(0o700, "ok"), (0o755, "degraded"), (0o770, "broken"), (0o707, "broken")]
)
def test_the_state_folder_is_for_its_owner(tmp_path: Path, mode: int, expected: str) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)
    finding = installation.folder("state folder", folder)
    assert level(finding) == expected
    assert bool(finding.mend) is (expected != "ok")


def test_the_runtime_folder_may_be_passed_through(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    assert level(installation.folder("runtime folder", tmp_path, private=False)) == "ok"


def test_a_control_socket_is_a_socket_and_not_for_everybody(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.sock"
    assert level(installation.control_socket(path)) == "degraded"
    path.touch()
    assert "is not a socket" in installation.control_socket(path).found
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        assert level(installation.control_socket(path)) == "broken"
        path.chmod(0o660)
        assert level(installation.control_socket(path)) == "ok"


def test_no_daemon_is_broken_and_needs_no_keeper(tmp_path: Path) -> None:
    nobody = Client(tmp_path / "x.sock")
    assert level(installation.daemon(nobody, nobody.silence())) == "broken"
    assert level(installation.keeper(nobody, False)) == "ok"
    assert level(installation.keeper(nobody, True)) == "broken"


def test_a_keeper_is_known_by_who_listens(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "keeper.sock"))
        listener.listen()
        finding = installation.keeper(Client(tmp_path / "keeper.sock"), True)
    assert finding.found == f"it answers (pid {os.getpid()})"


def a_database(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE runs (a TEXT)")
        db.executemany("INSERT INTO runs VALUES (?)", [("x" * 1000,)] * 500)
        db.execute("CREATE INDEX runs_a ON runs (a)")
    db.close()


def test_a_whole_history_is_looked_through_and_a_damaged_one_found(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    assert level(installation.account(path)) == "degraded"
    a_database(path)
    assert "whole" in installation.account(path).found
    data = bytearray(path.read_bytes())
    data[4096 * 20 : 4096 * 60] = os.urandom(4096 * 40)
    path.write_bytes(data)
    assert level(installation.account(path)) == "broken"
    path.write_bytes(b"nothing of the kind" * 1000)
    assert level(installation.account(path)) == "broken"


def test_a_history_of_a_later_version_is_told_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    a_database(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    finding = installation.account(path)
    assert level(finding) == "broken"
    assert "later tidegate (schema 99" in finding.found
    assert "install that version again" in finding.mend


def test_a_history_too_large_to_look_through_is_left_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "history.sqlite"
    a_database(path)
    monkeypatch.setattr(installation, "CHECK_S_MAX", -1.0)
    monkeypatch.setattr(installation, "STEPS_BETWEEN", 1)
    assert "too large to be looked through" in installation.account(path).found


def test_looking_makes_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    a_database(path)
    before = path.read_bytes()
    installation.account(path)
    installation.disk(tmp_path / "not-there", 1)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["history.sqlite"]


def test_room_is_measured_against_the_reserve(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    free = status.f_bavail * status.f_frsize
    assert level(installation.disk(tmp_path, free * 2)) == "broken"
    assert level(installation.disk(tmp_path, free // 2)) == "degraded"
    assert level(installation.disk(tmp_path, free // 100)) == "ok"


# --- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ([ok("a", "fine")], 0),
        ([degraded("a", "less", "do this")], 0),
        ([ok("a", "x"), broken("b", "bad \x1b", "mend")], 1),
    ],
)
def test_doctor_ends_with_1_only_where_something_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, findings: list[Finding], code: int
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(installation, "installation", lambda *_: findings)
    monkeypatch.setattr(machine, "machine", lambda *_: [])
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == code
    assert "\x1b" not in result.output
    for each in findings:
        assert each.found.replace("\x1b", "\\x1b") in result.stdout
        assert each.mend in result.stdout
    shown = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)
    assert shown["ok"] is (code == 0)
    assert [each["level"] for each in shown["findings"]] == [each.level.value for each in findings]


def test_every_level_has_its_mark() -> None:
    from tidegate.cli.doctor import COLOURS, MARKS

    assert MARKS.keys() == COLOURS.keys() == set(Level)
