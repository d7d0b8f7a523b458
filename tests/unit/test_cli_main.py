"""The front door: commands found by name, imported when called, helped in 80 columns."""

import importlib
import re

import click
import pytest
from click.testing import CliRunner

from tidegate import __version__
from tidegate.cli.main import COMMANDS, main

READING = sorted(COMMANDS.keys() - {"run"})


def test_version_is_printed_on_stdout() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"tidegate {__version__}\n")


def test_help_lists_every_command_without_importing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} was imported")

    monkeypatch.setattr(importlib, "import_module", refuse)
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0, result.output
    for name, (_, summary) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", result.stdout, re.M)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_fits_80_columns(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert [line for line in result.stdout.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("name", READING)
def test_help_of_each_command_has_an_example(name: str) -> None:
    stdout = CliRunner().invoke(main, [name, "--help"]).stdout
    assert re.search(rf"Example:\n +tidegate {name}\b", stdout), stdout


def test_unknown_command_is_bad_usage_with_a_near_miss() -> None:
    result = CliRunner().invoke(main, ["chek"])
    assert result.exit_code == 2
    assert "no such command 'chek'; did you mean 'check'?" in result.stderr
    assert result.stdout == ""


def test_unknown_option_is_bad_usage() -> None:
    assert CliRunner().invoke(main, ["list", "--jsno"]).exit_code == 2


def test_interrupt_ends_with_130_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def command() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("tidegate.cli.check"), "command", command)
    result = CliRunner().invoke(main, ["check"])
    assert result.exit_code == 130
    assert "Traceback" not in result.output
