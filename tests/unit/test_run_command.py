"""What `tidegate run` says of itself before it works."""

import importlib.util
import os

import pytest
from loguru import logger

from tidegate.cli import run


@pytest.fixture
def told():
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["extra"]["event"]), level="WARNING")
    yield lines
    logger.remove(sink)


@pytest.mark.parametrize(
    ("environ", "installed", "events"),
    [
        ({"SYSTEMD_EXEC_PID": "self"}, False, ["systemd.missing"]),
        ({"SYSTEMD_EXEC_PID": "self"}, True, []),
        ({"SYSTEMD_EXEC_PID": "1", "INVOCATION_ID": "x"}, False, []),  # a shell below a service
        ({}, False, []),
    ],
)
def test_without_systemd_python_only_a_service_says_once_what_is_missing(monkeypatch, told, environ, installed, events):
    found = importlib.util.find_spec("json") if installed else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found if name == "systemd" else pytest.fail(name))
    run.tell_what_is_missing({key: str(os.getpid()) if value == "self" else value for key, value in environ.items()})
    assert told == events
