"""What `tidegate run` says of itself before it works."""

import importlib.util
import os
from pathlib import Path

import click
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


def refusal(folder: Path) -> str:
    with pytest.raises(click.ClickException) as caught:
        run.make_private(folder, run.PRIVATE, "STATE_DIRECTORY")
    return caught.value.message


@pytest.mark.parametrize("below", ["", "deep", "deep/er"])
def test_a_file_for_a_state_folder_is_named_with_the_variable_that_names_it(monkeypatch, tmp_path, below):
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("STATE_DIRECTORY", str(file / below))
    assert refusal(file / below) == f"{file} is not a folder; STATE_DIRECTORY names it: correct that"
    monkeypatch.delenv("STATE_DIRECTORY")
    assert refusal(file / below) == f"{file} is not a folder; set STATE_DIRECTORY to another"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_a_folder_of_somebody_else_is_refused_with_both_names_and_the_remedy(monkeypatch, tmp_path):
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", 65534, 65534)
    assert refusal(tmp_path / "state") == (
        f"{tmp_path}/state belongs to user nobody, not to the user that runs tidegate, root: start it as nobody; or "
        f"'chown -R root {tmp_path}/state', if all in it is tidegate's; or set STATE_DIRECTORY to another"
    )
