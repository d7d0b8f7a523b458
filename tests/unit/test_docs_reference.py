"""The reference beside the code once more: options, exit codes, variables, and the tables of the pages on moving."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tidegate.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CLI = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
SOURCE = sorted((ROOT / "daemon" / "tidegate").rglob("*.py"))
SHARED = ("--config", "--json", "--help")  # told once for all commands


def section(text: str, title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert found, title
    return found[1]


def options() -> Iterator[tuple[str, str]]:
    for name, (module, _) in COMMANDS.items():
        command = importlib.import_module(module).command
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                yield from ((name, option) for option in parameter.opts if option.startswith("--"))


@pytest.mark.parametrize(("command", "option"), [each for each in options() if each[1] not in SHARED])
def test_every_option_is_in_the_section_of_its_command(command: str, option: str) -> None:
    assert re.search(rf"{option}\b", section(CLI, f"tidegate {command}")), option


def test_the_section_of_a_command_names_no_option_that_is_not_there() -> None:
    known: dict[str, set[str]] = {}
    for command, option in options():
        known.setdefault(command, set()).add(option)
    for command in COMMANDS:
        named = set(re.findall(r"`(--[a-z-]+)[ `=]", section(CLI, f"tidegate {command}")))
        others = set().union(*known.values())
        assert named <= others, (command, named - others)


def test_commands_without_json_are_those_that_the_page_names() -> None:
    listed = re.search(r"\*\*JSON\.\*\* All commands but (.*?) take", CLI, re.S)
    assert listed
    with_json = {command for command, option in options() if option == "--json"}
    assert set(re.findall(r"`([a-z-]+)`", listed[1])) == set(COMMANDS) - with_json


def test_every_exit_code_is_in_the_reference() -> None:
    found = {0, 2}  # click's own
    for path in SOURCE:
        if path.parent.name != "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.AnnAssign | ast.Assign) and isinstance(node.value, ast.Constant):
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                if isinstance(target, ast.Name) and re.fullmatch(r"EXIT_\w+|exit_code", target.id):
                    found.add(int(str(node.value.value)))
            match node:
                case ast.Call(args=[ast.Constant(value=int(code))]) if ast.unparse(node.func).endswith("exit"):
                    found.add(code)
    assert len(found) > 4, "the search finds nothing any more"
    table = CLI.partition("**Exit codes.**")[2].partition("**Which daemon.**")[0]
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.M)}
    elsewhere = {int(code) for code in re.findall(r"\b(126|127|143)\b", CLI)}
    assert found <= listed | elsewhere
    assert listed <= found


def test_every_variable_that_is_read_is_in_the_docs() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md"))
    named = set()
    for path in SOURCE:
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r'environ(?:\.get\(|\[)"([A-Z][A-Z0-9_]+)"', text))
    assert len(named) > 5, "the pattern finds nothing any more"
    assert {name for name in named if not re.search(rf"\b{name}\b", pages)} - {"HOME"} == set()


# --- pages on moving and on trouble ----------------------------------------------------------------------------


def test_what_the_page_on_trouble_quotes_is_what_tidegate_says() -> None:
    page = (DOCS / "how-to" / "troubleshoot.md").read_text(encoding="utf-8")
    quoted = []
    for table in re.findall(r"^\| It says \|.*\n\|---.*\n((?:\|.*\n)+)", page, re.M):
        for row in table.splitlines():
            quoted += re.findall(r"`([^`]+)`", row.split(" | ")[0])
    assert len(quoted) > 20
    # Texts are written over several lines and in pieces; what joins them in the source is left out here.
    said = re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text(encoding="utf-8") for path in SOURCE))
    assert [text for text in quoted if text not in said] == []


def test_the_page_on_cron_shows_what_the_import_makes(tmp_path: Path) -> None:
    page = (DOCS / "how-to" / "move-from-cron.md").read_text(encoding="utf-8")
    crontab = re.findall(r"^```text\n(.*?)^```$", page, re.M | re.S)[0]
    shown = re.findall(r"^```toml\n(.*?)^```$", page, re.M | re.S)[0]
    (tmp_path / "tab").write_text(crontab.replace("postgres", "nobody  "), encoding="utf-8")
    args = ["import-crontab", str(tmp_path / "tab"), "--layout", "system", "--timezone", "Europe/Berlin", "--dry-run"]
    result = CliRunner().invoke(main, [*args, "--dialect", "debian"])
    assert result.exit_code == 0, result.output
    assert shown in result.stdout


def test_the_tutorial_shows_what_show_shows(tmp_path: Path) -> None:
    page = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    jobs = re.findall(r"```toml\n(.*?)```", page, re.S)[0]
    (tmp_path / "tidegate.toml").write_text(jobs, encoding="utf-8")
    nobodys = {"STATE_DIRECTORY": str(tmp_path), "RUNTIME_DIRECTORY": str(tmp_path)}
    result = CliRunner(env=nobodys).invoke(main, ["show", "hello", "--config", str(tmp_path / "tidegate.toml")])
    assert result.exit_code == 0, result.output
    shown = re.search(r"^\$ tidegate show hello\n(.*?)^```", page, re.M | re.S)
    assert shown
    row = r"^  ([a-z_]+) {2,}"
    assert re.findall(row, shown[1], re.M) == re.findall(row, result.stdout, re.M) != []
