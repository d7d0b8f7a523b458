"""The units themselves, without a machine: exposure, and what they say to each other."""

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.live

UNITS = Path(__file__).resolve().parents[2] / "systemd"


def exposure(unit: Path) -> float:
    """As systemd-analyze has it, 0 to 10."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(told.rsplit(":", 1)[1].split()[0])


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
