"""How an imported crontab reads as a file of jobs: every line of it as a comment, each with its job below. Pure."""

from typing import Final

from tidegate.settings.crontab import Crontab, Entry, Refused
from tidegate.settings.crontab_jobs import Drafted
from tidegate.settings.toml_text import toml_comment, toml_key, toml_line, toml_string, toml_value

HEAD: Final = """\
# Imported from {origin} by tidegate import-crontab.
# Below each line of it stands what it has become; what could not be carried over is told after "note:".
#
# These jobs do as cron does. What tidegate would do by itself, and mostly better, comes back with a line deleted:
#   overlap = "allow"    a fire during a run starts a second one; without it the fire is skipped
#   catch_up = "none"    fires missed while nothing ran are lost; without it the last one is made up for
#   timeout = "365d"     nothing is ended for taking long; without it TERM comes after 24 hours
#   leftovers = "leave"  what a job leaves running goes on; without it that is ended with the job
#   nice = 0             as cron starts it; without it 10
"""


def file_text(origin: str, crontab: Crontab, drafts: list[Drafted | Refused]) -> str:
    """The text of a jobs file."""
    parts = [HEAD.format(origin=toml_comment(origin).removeprefix("# "))]
    parts += [toml_comment(f"note: {note}") + "\n" for note in crontab.notes]
    for draft in drafts:
        parts.append("\n" + "".join(toml_comment(line) + "\n" for line in _source(draft)))
        parts.append(_refused(draft) if isinstance(draft, Refused) else job_text(draft))
    below = "".join(toml_comment(line) + "\n" for line in crontab.below)
    return "".join([*parts, "\n" + below if below.strip("# \n") else ""])


def _source(draft: Drafted | Refused) -> list[str]:
    item: Entry | Refused = draft.entry if isinstance(draft, Drafted) else draft
    above = list(item.above)
    while above and not above[0].strip():
        above.pop(0)
    return [*(line.strip() if not line.strip() else line for line in above), item.text]


def _refused(item: Refused) -> str:
    return toml_comment(f"NOT IMPORTED (line {item.line}): {item.message}") + "\n"


def job_text(draft: Drafted) -> str:
    """One table."""
    lines = [toml_comment(f"note: {note}") for note in draft.notes]
    lines.append(f"[jobs.{toml_key(draft.name)}]")
    for key, value in draft.keys.items():
        lines.append(f"{key} = {_value(key, value)}")
    return "\n".join(lines) + "\n"


def _value(key: str, value: object) -> str:
    match value:
        case [*words] if key == "command" and any("\n" in str(word) for word in words):
            return "[" + ", ".join(toml_string(str(word)) for word in words) + "]"
        case str():
            return toml_string(value) if key == "shell" else toml_line(value)
        case _:
            return toml_value(value)
