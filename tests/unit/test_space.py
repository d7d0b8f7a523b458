"""The reserve of free disk: below it nothing starts, and it heals by itself."""

import os

import pytest

from tidegate.model.event import StartsHeld
from tidegate.supervisor import space
from tidegate.supervisor.space import GATE, MIB, Space

RESERVE = 100 * MIB


class Disk:
    """Free space as the test says."""

    def __init__(self, monkeypatch, path) -> None:
        self.free: int | None = 1000 * MIB
        self.told: list[StartsHeld] = []
        monkeypatch.setattr(space, "free", lambda folder: self.free)
        self.space = Space(path, self.told.append)

    def look(self, free: int | None) -> bool:
        self.free = free
        return self.space.look(RESERVE)


@pytest.fixture
def disk(monkeypatch, tmp_path):
    return Disk(monkeypatch, tmp_path)


def test_below_the_reserve_nothing_starts_and_the_reason_says_how_much_is_missing_where(disk, tmp_path):
    assert disk.look(RESERVE) is True
    assert disk.told == []
    assert disk.look(RESERVE - 1) is False
    (held,) = disk.told
    assert held.gate == GATE
    assert str(tmp_path) in held.reason
    assert "99 MiB free, less than the reserve of 100 MiB" in held.reason


def test_it_is_told_once_and_lifted_when_there_is_room_and_a_little_more(disk):
    disk.look(0)
    disk.look(0)
    assert disk.look(RESERVE + MIB) is False  # or starts would stutter at the edge
    assert len(disk.told) == 1
    assert disk.look(2 * RESERVE) is True
    assert disk.told[1:] == [StartsHeld(GATE, "")]


def test_where_nobody_can_tell_nothing_is_held(disk):
    assert disk.look(None) is True
    assert disk.told == []


def test_what_is_free_is_what_the_user_of_the_daemon_may_write(tmp_path):
    status = os.statvfs(tmp_path)
    assert space.free(tmp_path) == pytest.approx(status.f_bavail * status.f_frsize, rel=0.2)
    assert space.free(tmp_path / "gone") is None
