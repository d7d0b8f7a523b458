"""Where the findings about one file land while its values are made out of what is written. Judges nothing itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from tidegate.settings.amounts import duration_s
from tidegate.settings.problem import Keys

Value = TypeVar("Value")
Out = TypeVar("Out")

LEAST_S: Final = 0.001  # what "more than 0" means for a duration
SHOWN: Final = {LEAST_S: "1ms", 0.01: "10ms", 1.0: "1s", 60.0: "1m"}


class Desk:
    """Where the findings about one file land, and where its relative paths begin."""

    def __init__(self, folder: Path, report: Callable[[Keys, str], None], warn: Callable[[Keys, str], None]) -> None:
        self.folder = folder
        self.report = report
        self.warn = warn
        self.bad: set[Keys] = set()  # (jobs, name, key) with something refused already: say nothing more about them

    def take(self, keys: Keys, rule: Callable[[Value], Out], value: Value, default: Out) -> Out:
        """rule(value), or `default` where the rule refuses it."""
        try:
            return rule(value)
        except ValueError as error:
            self.report(keys, str(error))
            return default


def duration(keys: Keys, text: str, least_s: float, default: Any, desk: Desk) -> Any:
    """Seconds, at least least_s; `default` where it is refused."""
    try:
        seconds = duration_s(text)
    except ValueError as error:
        desk.report(keys, str(error))
        return default
    if seconds < least_s:
        desk.report(keys, f'must be at least "{SHOWN[least_s]}", got "{text}"')
        return default
    return seconds
