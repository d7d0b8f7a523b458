"""tidegate doctor on the network that the daemon's unit leaves it."""

from pathlib import Path

import pytest

from tidegate.cli.finding import Level
from tidegate.cli.network import elsewhere, here, network
from tidegate.model.job import Job, Ping
from tidegate.model.plan import Hook, HttpSettings, Mail, Plan

SHUT = "IPAddressDeny=0.0.0.0/0 ::/0\nIPAddressAllow=127.0.0.0/8 ::1/128\n"
OPEN = "IPAddressDeny=0.0.0.0/0 ::/0\nIPAddressAllow=127.0.0.0/8 0.0.0.0/0 ::/0\n"
AWAY = Plan(hooks={"ops": Hook(name="ops", webhook="https://chat.example.org/x")}, jobs={"a": Job(name="a")})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc/812").mkdir(parents=True)
    (tmp_path / "proc/812/cgroup").write_text("1:name=systemd:/\n0::/system.slice/tidegate.service\n")
    return tmp_path


def test_what_the_unit_forbids_is_told_with_what_wants_it(root: Path) -> None:
    asked = []

    def ask(unit: str) -> str:
        asked.append(unit)
        return SHUT

    (found,) = network(AWAY, 812, root, ask)
    assert (found.level, asked) == (Level.DEGRADED, ["tidegate.service"])
    assert found.found == 'tidegate.service reaches 127.0.0.0/8, ::1/128 only; elsewhere are hook "ops"'
    assert "IPAddressAllow=" in found.mend


@pytest.mark.parametrize("told", [OPEN, "IPAddressDeny=\nIPAddressAllow=\n"])
def test_a_unit_that_is_open_is_well(root: Path, told: str) -> None:
    assert [each.level for each in network(AWAY, 812, root, lambda unit: told)] == [Level.OK]


def test_nothing_is_said_where_nothing_can_be_known_or_nobody_goes_out(root: Path) -> None:
    assert network(Plan(jobs={}), 812, root, lambda unit: SHUT) == []
    assert network(AWAY, 812, root, lambda unit: "") == []
    assert network(AWAY, 4, root, lambda unit: SHUT) == [], "no such process"
    (root / "proc/812/cgroup").write_text("0::/user.slice/session-1.scope\n")
    assert network(AWAY, 812, root, lambda unit: SHUT) == []


def test_everything_that_speaks_with_others_is_found() -> None:
    def mail(server: str) -> Hook:
        return Hook(name=server, mail=Mail(to=("a@example.org",), smtp=server))

    hooks = [mail("localhost:25"), mail("[::1]:25"), mail("mail.example.org:465"), mail("192.0.2.1"), AWAY.hooks["ops"]]
    hooks += [Hook(name="near", webhook="http://127.0.0.1:8065/x"), Hook(name="run", command=("true",))]
    job = Job(name="a", ping=Ping(success="https://ping.example.org/1"))
    plan = Plan(hooks={hook.name: hook for hook in hooks}, jobs={"a": job}, http=HttpSettings(host="0.0.0.0"))
    wanted = ['hook "mail.example.org:465"', 'hook "192.0.2.1"', 'hook "ops"', "pings", "who asks [http]"]
    assert elsewhere(plan) == wanted
    assert elsewhere(Plan(jobs={}, http=HttpSettings(host=None))) == []


@pytest.mark.parametrize(
    ("host", "expected"), [("LOCALHOST.", True), ("127.8.8.8", True), ("::1", True), ("0.0.0.0", False), ("db1", False)]
)
def test_this_machine_is_known_by_its_loopback_names(host: str, expected: bool) -> None:
    assert here(host) is expected
