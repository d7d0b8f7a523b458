"""docs/reference/cli.md: every example in it is run, and its output is what the page shows."""

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from tidegate import clock
from tidegate.cli.main import COMMANDS, main

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
FILES = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.M | re.S)
EXAMPLES = re.findall(r"^```console\n\$ tidegate (.*?)\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=[command for command, _ in EXAMPLES])
def test_example_prints_what_the_page_shows(
    command: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "wall", lambda: datetime(2026, 3, 27, 11, 10, tzinfo=UTC))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tidegate.toml").write_text(FILES[0])
    (tmp_path / "bad.toml").write_text(FILES[1])
    nobody = {"STATE_DIRECTORY": str(tmp_path / "state"), "RUNTIME_DIRECTORY": str(tmp_path / "run")}
    result = CliRunner().invoke(main, shlex.split(command), env={"TIDEGATE_CONFIG": "tidegate.toml", **nobody})
    assert result.output == shown


def test_every_command_has_its_section() -> None:
    for name in COMMANDS:
        assert f"\n## tidegate {name}\n" in PAGE
