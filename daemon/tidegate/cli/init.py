"""tidegate init: writes a commented starting configuration. Overwrites nothing, ever."""

import os
import shlex
import stat
from importlib import resources
from pathlib import Path
from typing import Final

import click

from tidegate.cli.options import default_config_path
from tidegate.cli.schema import FILE_NAME, schema_text
from tidegate.model.text import escape

DIRECTORY_MODE: Final = 0o755
FILE_MODE: Final = 0o644  # whatever the umask: a job file that others can write is refused for root (threat 15)


def contents() -> dict[str, str]:
    """Every file of a starting configuration: path below the directory → text."""
    templates = resources.files("tidegate.cli") / "templates"
    return {
        "tidegate.toml": (templates / "tidegate.toml").read_text(encoding="utf-8"),
        "jobs.d/example.toml": (templates / "example.toml").read_text(encoding="utf-8"),
        FILE_NAME: schema_text(),
    }


def write_new(path: Path, text: str) -> None:
    """Write a file that must not exist yet. Raises FileExistsError, OSError."""
    for folder in reversed(path.parents):  # Path.mkdir(parents=True) would make the outer ones with mode 0777
        folder.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    with open(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode) & FILE_MODE)
        file.write(text)


@click.command()
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path, file_okay=False))
def command(directory: Path | None) -> None:
    """Write a commented starting configuration with four small jobs.

    DIR is where the files go; without it, where tidegate looks by itself: /etc/tidegate for root,
    ~/.config/tidegate for everybody else. Nothing that exists is overwritten.

    \b
    Example:
      tidegate init
      tidegate init ./schedule && tidegate run --config ./schedule/tidegate.toml
    """
    usual = default_config_path()
    root = directory or usual.parent
    files = contents()
    existing = [name for name in files if os.path.lexists(root / name)]
    if existing:
        listed = "".join(f"\n  {escape(str(root / name))}" for name in existing)
        raise click.ClickException(
            f"these exist already, and nothing is overwritten:{listed}\nChoose another directory."
        )
    try:
        for name, text in files.items():
            write_new(root / name, text)
    except OSError as error:
        where = escape(str(error.filename or root))
        raise click.ClickException(
            f"cannot write {where}: {error.strerror}; name a directory that you may write: tidegate init DIR"
        ) from error
    option = "" if root / "tidegate.toml" == usual else f" --config {escape(shlex.quote(str(root / 'tidegate.toml')))}"
    for name in files:
        click.echo(f"wrote {escape(str(root / name))}")
    click.echo(f"\nNext:\n  tidegate check{option}\n  tidegate next{option}\n  tidegate run{option}")
