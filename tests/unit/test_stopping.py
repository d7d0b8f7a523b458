"""Whether the machine shuts down, by systemd's word for it."""

import asyncio
import time

import pytest

from tidegate.supervisor import stopping


@pytest.fixture
def systemctl(tmp_path, monkeypatch):
    """One that answers as told."""

    def answer(script):
        path = tmp_path / "systemctl"
        path.write_text(f'#!/bin/sh\ncd {tmp_path}\n[ "$1" = is-system-running ] || exit 9\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return answer


@pytest.mark.parametrize(("said", "stops"), [("stopping", True), ("running", False), ("degraded", False), ("", False)])
def test_systemd_says_whether_the_machine_stops(systemctl, said, stops):
    systemctl(f"echo {said}; exit 1")
    assert asyncio.run(stopping.machine_stops()) is stops


def test_an_asker_that_gets_the_sigterm_of_the_whole_service_is_no_answer_and_asks_again(systemctl):
    systemctl("[ -e asked ] || { : >asked; kill -TERM $$; }; echo stopping; exit 1")
    assert asyncio.run(stopping.machine_stops()) is True


def test_without_an_answer_in_time_the_machine_does_not_stop(systemctl, monkeypatch):
    systemctl("exec sleep 60")
    monkeypatch.setattr(stopping, "ASK_S_MAX", 0.1)
    before_s = time.monotonic()
    assert asyncio.run(stopping.machine_stops()) is False
    assert time.monotonic() - before_s < 30, "the asker was killed, not waited for"


def test_without_systemd_the_machine_does_not_stop(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert asyncio.run(stopping.machine_stops()) is False
