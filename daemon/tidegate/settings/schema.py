"""JSON Schema of the files, made from the raw Structs, so that editors complete and check what is written.
A file names its schema on its first line: `#:schema ./tidegate.schema.json` (taplo, Even Better TOML). No I/O."""

from itertools import combinations
from typing import Any

import msgspec

from tidegate.settings.meta import NAME_PATTERN
from tidegate.settings.raw import RawJob, RawMainFile, RawWindow
from tidegate.settings.raw_daemon import RawCalendar, RawHook, RawMail

DRAFT = "https://json-schema.org/draft/2020-12/schema"
TRIGGERS = ("cron", "every", "at")


def schema() -> dict[str, Any]:
    """A JSON Schema (draft 2020-12). One serves both: tidegate.toml may hold jobs too."""
    _, definitions = msgspec.json.schema_components((RawMainFile,), ref_template="#/$defs/{name}")
    top = definitions.pop(RawMainFile.__name__)
    top["title"] = "tidegate"
    top["description"] = "tidegate.toml or a file of jobs."
    for properties in top["properties"].values():
        properties.pop("default", None)  # an empty table says nothing
    for table in ("jobs", "resources", "calendars", "hooks"):
        top["properties"][table]["propertyNames"] = {"pattern": NAME_PATTERN}
    job = definitions[RawJob.__name__]
    job["oneOf"] = [{"required": ["command"]}, {"required": ["shell"]}]
    job["not"] = {"anyOf": [{"required": list(pair)} for pair in combinations(TRIGGERS, 2)]}
    definitions[RawHook.__name__]["oneOf"] = [{"required": [way]} for way in ("command", "webhook", "mail")]
    definitions[RawCalendar.__name__]["anyOf"] = [{"required": [part]} for part in ("cron", "dates", "file")]
    definitions[RawMail.__name__]["required"] = ["to"]
    definitions[RawWindow.__name__]["required"] = ["calendar"]
    for definition in definitions.values():
        del definition["title"]  # the name of our Struct means nothing to a reader
    return {"$schema": DRAFT, **top, "$defs": definitions}
