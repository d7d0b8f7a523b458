"""tidegate schema: prints the JSON Schema of the configuration, for editors. Reads no configuration."""

import json
from typing import Final

import click

FILE_NAME: Final = "tidegate.schema.json"  # what `init` calls it and the first lines of its files refer to


def schema_text() -> str:
    """The schema as a file."""
    from tidegate.settings.schema import schema

    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


@click.command()
def command() -> None:
    """Print the JSON Schema of tidegate.toml and the job files.

    Editors that know TOML schemas (taplo, Even Better TOML, tombi) complete and check the files with it, where the
    first line of a file names it: #:schema ./tidegate.schema.json

    \b
    Example:
      tidegate schema > /etc/tidegate/tidegate.schema.json
    """
    click.echo(schema_text(), nl=False)
