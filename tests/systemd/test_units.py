"""The units themselves, without a machine: exposure, and what they say to each other."""

import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.live

UNITS = Path(__file__).resolve().parents[2] / "systemd"


def exposure(unit: Path) -> float:
    """As systemd-analyze has it, 0 to 10."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"exposure level for .*: ([0-9.]+) ", told)
    assert found, told
    return float(found[1])


@pytest.mark.parametrize(
    ("unit", "most"),
    [
        ("tidegate", 1.5),
        ("tidegate-keeper", 4.0),
        ("tidegate-unprivileged", 1.5),
        ("tidegate-unprivileged-keeper", 1.5),
    ],
)
def test_exposure(unit: str, most: float) -> None:
    assert exposure(UNITS / f"{unit}.service") <= most


def test_every_unit_is_looked_at() -> None:
    assert len(list(UNITS.glob("*.service"))) == 4


@pytest.mark.parametrize("unit", ["tidegate", "tidegate-unprivileged"])
def test_each_daemon_wants_and_follows_its_keeper_and_never_takes_it_down(unit: str) -> None:
    text = (UNITS / f"{unit}.service").read_text()
    assert f"Wants={unit}-keeper.service " in text
    assert f"After={unit}-keeper.service " in text
    for word in ("Requires=", "BindsTo=", "PartOf=", "Delegate="):
        assert word not in text
    keeper = (UNITS / f"{unit}-keeper.service").read_text()
    for word in ("Requires=", "BindsTo=", "PartOf=", "StopWhenUnneeded="):
        assert word not in keeper
    for line in ("Delegate=yes", "OOMPolicy=continue", "KillMode=mixed"):
        assert f"\n{line}\n" in keeper


@pytest.mark.parametrize("unit", ["tidegate", "tidegate-unprivileged"])
def test_each_daemon_is_watched_reloaded_and_given_its_folders(unit: str) -> None:
    """How they behave is tested on a machine, some with other values: here are those that users get."""
    text = (UNITS / f"{unit}.service").read_text()
    for line in (
        "Type=notify",
        "ExecReload=/usr/bin/tidegate reload",
        "WatchdogSec=30s",
        "Restart=on-failure",
        "StateDirectory=tidegate",
        "RuntimeDirectory=tidegate",
        "ConfigurationDirectory=tidegate",
        "LoadCredential=tidegate.token",
    ):
        assert f"\n{line}\n" in text
    assert ("User=tidegate" in text) == (unit == "tidegate-unprivileged")


def test_systemd_understands_every_drop_in(tmp_path: Path) -> None:
    drop_ins = {
        "network": "tidegate",
        "notify-reload": "tidegate",
        "jobs-open": "tidegate-keeper",
        "jobs-open-unprivileged": "tidegate-unprivileged-keeper",
    }
    assert {path.stem for path in (UNITS / "drop-ins").iterdir()} == {*drop_ins, "needrestart"}
    for name in drop_ins.values():
        # What they start need not be installed here.
        text = re.sub("/usr/bin/tidegate [^\n]*", "/bin/true", (UNITS / f"{name}.service").read_text())
        (tmp_path / f"{name}.service").write_text(re.sub("Documentation=.*", "", text))
    for drop_in, name in drop_ins.items():
        (tmp_path / f"{name}.service.d").mkdir(exist_ok=True)
        (tmp_path / f"{name}.service.d/{drop_in}.conf").write_text((UNITS / f"drop-ins/{drop_in}.conf").read_text())
    command = ["systemd-analyze", "verify", "--man=no", *(tmp_path / f"{name}.service" for name in drop_ins.values())]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    # Before systemd 253 that word is not known, and the unit goes on as it is.
    assert [line for line in told.splitlines() if not line.endswith("ignoring: notify-reload")] == []
