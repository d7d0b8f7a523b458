"""What tidegate itself says, as files of a package: man pages, completion, the schema, a starting configuration.

Run by stage.py with the interpreter and the site-packages of the package: `pages.py SITE-PACKAGES DESTDIR SECONDS`.
Nothing here is written by hand twice: a command's page is its --help, tidegate.toml(5) is the JSON Schema.
"""

import gzip
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

SCHEMA: Final = "usr/share/tidegate/tidegate.schema.json"
COMPLETIONS: Final = {
    "bash": "usr/share/bash-completion/completions/tidegate",
    "zsh": "usr/share/zsh/vendor-completions/_tidegate",
    "fish": "usr/share/fish/vendor_completions.d/tidegate.fish",
}
FILES: Final = (
    ("/etc/tidegate/tidegate.toml", "The daemon's settings; see tidegate.toml(5)."),
    ("/etc/tidegate/jobs.d/*.toml", "The jobs."),
    ("/var/lib/tidegate", "State: the history of runs and what they wrote."),
    ("/run/tidegate/tidegate.sock", "The control socket."),
    ("~/.config/tidegate/tidegate.toml", "The same of a daemon that an ordinary user runs."),
    ("/usr/share/doc/tidegate", "The pages: tutorial, how-to, reference; examples."),
)
ENVIRONMENT: Final = (
    ("TIDEGATE_CONFIG", "The configuration, where --config does not name it."),
    ("STATE_DIRECTORY, RUNTIME_DIRECTORY", "Folders for state and sockets, as systemd gives them."),
)
EXIT_CODES: Final = (
    ("0", "Done."),
    ("1", "The thing asked about failed."),
    ("2", "Bad usage."),
    ("3", "No daemon answers."),
    ("130", "Ended by Ctrl-C."),
)


def plain(text: str) -> str:
    """Text as roff takes it: no backslash, hyphen, dot or quote of it means anything."""
    text = (
        text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga").replace("^", r"\(ha")
    )
    return "\n".join(rf"\&{line}" if line.startswith(".") else line for line in text.splitlines())


def entry(term: str, text: str) -> str:
    return f".TP\n\\fB{plain(term)}\\fR\n{plain(text)}\n"


def section(title: str, body: str) -> str:
    return f".SH {title}\n{body}" if body.strip() else ""


def paragraphs(text: str) -> str:
    """A help text: paragraphs flow, but for those that click leaves alone (\\b)."""
    parts = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b"):
            kept = paragraph.removeprefix("\b").strip("\n")
            parts.append(f".PP\n.nf\n{plain(kept)}\n.fi\n")
        else:
            parts.append(f".PP\n{plain(' '.join(paragraph.split()))}\n")
    return "".join(parts).removeprefix(".PP\n")


class Page:
    """One man page; `write` compresses it as Debian wants it: nothing of today in it."""

    def __init__(self, name: str, number: int, summary: str, day: str, version: str) -> None:
        self.name = name
        self.number = number
        self._parts = [
            f'.TH {plain(name.upper())} {number} {day} "tidegate {version}"\n',
            section("NAME", f"{plain(name)} \\- {plain(summary)}\n"),
        ]

    def add(self, title: str, body: str) -> None:
        self._parts.append(section(title, body))

    def write(self, destination: Path) -> None:
        folder = destination / f"usr/share/man/man{self.number}"
        folder.mkdir(parents=True, exist_ok=True)
        text = "".join(self._parts).encode()
        (folder / f"{self.name}.{self.number}.gz").write_bytes(gzip.compress(text, 9, mtime=0))


def see(names: Sequence[str]) -> str:
    return ", ".join(f"\\fB{plain(name)}\\fR({number})" for name, number in (one.split("/") for one in names)) + "\n"


def command_page(name: str, summary: str, day: str, version: str) -> Page:
    """The page of one command, out of its --help."""
    import click

    from tidegate.cli.main import main

    group = click.Context(main, info_name="tidegate", help_option_names=["-h", "--help"])
    command = main.get_command(group, name)
    assert command is not None, name
    context = click.Context(command, info_name=name, parent=group)
    page = Page(f"tidegate-{name}", 1, summary[0].lower() + summary[1:].rstrip("."), day, version)
    pieces = " ".join(command.collect_usage_pieces(context))
    page.add("SYNOPSIS", f"\\fBtidegate {plain(name)}\\fR {plain(pieces)}\n")
    page.add("DESCRIPTION", paragraphs(command.help or ""))
    records = [record for one in command.get_params(context) if (record := one.get_help_record(context))]
    page.add("OPTIONS", "".join(entry(*record) for record in records if record[1]))
    page.add("SEE ALSO", see(["tidegate/1", "tidegate.toml/5"]))
    return page


def main_page(commands: Mapping[str, str], day: str, version: str) -> Page:
    from tidegate.cli.main import main

    page = Page("tidegate", 1, "job scheduler daemon", day, version)
    page.add("SYNOPSIS", "\\fBtidegate\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR] [\\fIARGS\\fR]\n")
    page.add("DESCRIPTION", paragraphs(main.help or ""))
    page.add("COMMANDS", "".join(entry(f"tidegate-{name}(1)", text) for name, text in commands.items()))
    page.add("FILES", "".join(entry(*one) for one in FILES))
    page.add("ENVIRONMENT", "".join(entry(*one) for one in ENVIRONMENT))
    page.add("EXIT STATUS", "".join(entry(*one) for one in EXIT_CODES))
    page.add("SEE ALSO", see(["tidegate.toml/5", "systemctl/1", "journalctl/1", "crontab/5"]))
    return page


def kind(key: Mapping[str, Any], shapes: Mapping[str, Any]) -> str:
    """The type of a key in a few words."""
    if "$ref" in key:
        shape = shapes[key["$ref"].rpartition("/")[2]]
        return kind(shape, shapes) if "enum" in shape else "table"
    if "anyOf" in key:
        return " or ".join(kind(one, shapes) for one in key["anyOf"])
    if "enum" in key:
        return " | ".join(json.dumps(one, ensure_ascii=False) for one in key["enum"])
    if "const" in key:
        return json.dumps(key["const"], ensure_ascii=False)
    match key.get("type"):
        case "array":
            return f"list of {kind(key.get('items', {}), shapes)}"
        case "object":
            return "table"
        case str(name):
            return {"string": "text", "boolean": "true or false"}.get(name, name)
        case _:
            return "any value"


def keys(shape: Mapping[str, Any], shapes: Mapping[str, Any]) -> str:
    def lines() -> Iterator[str]:
        for name, key in shape.get("properties", {}).items():
            words = [key.get("description") or described(key, shapes)]
            if "default" in key:
                words.append(f"Default: {json.dumps(key['default'], ensure_ascii=False)}.")
            elif key.get("examples"):
                words.append(f"For example: {json.dumps(key['examples'][0], ensure_ascii=False)}.")
            yield f".TP\n\\fB{plain(name)}\\fR ({plain(kind(key, shapes))})\n{plain(' '.join(filter(None, words)))}\n"

    return "".join(lines())


def described(key: Mapping[str, Any], shapes: Mapping[str, Any]) -> str:
    reference = key.get("$ref", "").rpartition("/")[2]
    return str(shapes[reference].get("description", "")) if reference else ""


def inner_tables(shape: Mapping[str, Any], shapes: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Tables that are the value of a key."""
    for name, key in shape.get("properties", {}).items():
        for one in key.get("anyOf", [key]):
            inner = shapes.get(one.get("$ref", one.get("items", {}).get("$ref", "")).rpartition("/")[2], {})
            if "properties" in inner:
                yield name, inner


def configuration_page(schema: Mapping[str, Any], day: str, version: str) -> Page:
    shapes = schema["$defs"]
    page = Page("tidegate.toml", 5, "configuration of the tidegate job scheduler", day, version)
    page.add(
        "DESCRIPTION",
        paragraphs(
            "tidegate.toml holds the daemon's settings and may hold jobs; the files named in [daemon] jobs hold "
            "jobs and nothing else. All are TOML. An unknown key, a wrong type and a value out of bounds are errors, "
            "and tidegate check lists every one of them.\n\n"
            'A duration is written "90s", "1h30m" or "500ms", a size "64MiB" or "2GB".'
        ),
    )
    for name, table in schema["properties"].items():
        several = "additionalProperties" in table
        of = table["additionalProperties"] if several else table
        body = keys(shapes[of["$ref"].rpartition("/")[2]], shapes) if "$ref" in of else ""
        told = table.get("description") or described(of, shapes)
        if name == "defaults":
            body = ""  # the keys of a job, once more
        title = f"[{name}.NAME]" if several and "$ref" in of else f"[{name}]"
        page.add(plain(title), f"{plain(told)}\n{body}")
        if body:
            shape = shapes[of["$ref"].rpartition("/")[2]]
            for key, inner in inner_tables(shape, shapes):
                page.add(
                    f'"{plain(name)}: {plain(key)}"',
                    f"{plain(str(inner.get('description', '')))}\n{keys(inner, shapes)}",
                )
    page.add("FILES", "".join(entry(*one) for one in (*FILES[:2], (f"/{SCHEMA}", "The JSON Schema, for editors."))))
    page.add("SEE ALSO", see(["tidegate/1", "tidegate-check/1", "tidegate-schema/1"]))
    return page


def completions(destination: Path) -> None:
    """click's own scripts: they ask the installed program, and never fall behind it."""
    from click.shell_completion import get_completion_class

    from tidegate.cli.main import main

    for shell, place in COMPLETIONS.items():
        kind_of = get_completion_class(shell)
        assert kind_of is not None, shell
        script = kind_of(main, {}, "tidegate", "_TIDEGATE_COMPLETE")
        path = destination / place
        path.parent.mkdir(parents=True)
        path.write_text(script.source_template % script.source_vars(), encoding="utf-8")


def configuration(destination: Path) -> None:
    """What `tidegate init` writes; the schema, which is no setting and changes with the version, lies elsewhere."""
    from tidegate.cli.init import contents

    for name, text in contents().items():
        path = destination / (SCHEMA if name.endswith(".json") else f"etc/tidegate/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(re.sub(r"^#:schema \S+$", f"#:schema /{SCHEMA}", text, flags=re.MULTILINE), encoding="utf-8")
        path.chmod(0o644)


def main() -> None:
    packages, destination, seconds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    sys.path.insert(0, str(packages))
    from tidegate import __version__
    from tidegate.cli.main import COMMANDS
    from tidegate.cli.schema import schema_text

    day = f"{datetime.fromtimestamp(seconds, UTC):%F}"
    summaries = {name: summary for name, (_, summary) in COMMANDS.items()}
    main_page(summaries, day, __version__).write(destination)
    for name, summary in summaries.items():
        command_page(name, summary, day, __version__).write(destination)
    configuration_page(json.loads(schema_text()), day, __version__).write(destination)
    completions(destination)
    configuration(destination)


if __name__ == "__main__":
    main()
