"""What jobs may name: resources, calendars, hooks. Pure.

Verdicts are kept: thousands of jobs name the same few."""

from collections.abc import Mapping
from typing import Any, Final

from tidegate.settings.problem import hint, quoted

HINTS_MAX: Final = 20  # a look for a near name costs; whoever has more wrong looks at these first
TABLES: Final = {"resource": "resources", "calendar": "calendars", "hook": "hooks"}


class Known:
    """The names of one configuration. `data` is the main file as parsed: what is refused there is not missing too."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._names: dict[str, set[str]] = {}
        for kind, table in TABLES.items():
            written = data.get(table, {})
            self._names[kind] = set(written) if isinstance(written, dict) else set()
        self.units: dict[str, int] = {}  # of the good resources
        self._verdicts: dict[tuple[str, str], str] = {}
        self._hints_left = HINTS_MAX

    def wrong(self, kind: str, name: str) -> str:
        """The sentence about a name that is not there, "" for one that is."""
        if name in self._names[kind]:
            return ""
        verdict = self._verdicts.get((kind, name))
        if verdict is None:
            near = hint(name, self._names[kind]) if self._hints_left else ""
            self._hints_left -= bool(self._hints_left)
            near = near or f"; write it into [{TABLES[kind]}] of tidegate.toml"
            verdict = self._verdicts[kind, name] = f"no {kind} named {quoted(name)}{near}"
        return verdict

    def wrong_units(self, name: str, units: int) -> str:
        """A resource that is not there, or of which there is less."""
        exist = self.units.get(name, units)
        if units > exist:
            return f"{units} units of {quoted(name)}, but only {exist} exist"
        return self.wrong("resource", name)
