"""What the jobs themselves say: one line at the start of each attempt and one at its end (work.sh). Nobody else writes
it, and it knows nothing of the daemon's account; tests hold the two against each other.
"""

from collections import Counter
from datetime import datetime
from pathlib import Path

from msgspec import Struct

FIELDS = 7


class LedgerError(Exception):
    """A line that no job can have written: the ledger itself cannot be trusted."""


class Entry(Struct, frozen=True):
    """One attempt, as it told of itself."""

    run_id: str
    attempt: int
    scheduled_at: datetime
    job: str
    pid: int
    code: int  # what it ended with, or was going to; negative: a signal


class Ledger(Struct):
    """All attempts that began, and those of them that came to their end."""

    starts: Counter[Entry]
    ends: Counter[Entry]

    def attempts(self) -> dict[tuple[str, int], list[Entry]]:
        """Every start by run and attempt; more than one entry is one too many."""
        found: dict[tuple[str, int], list[Entry]] = {}
        for entry in self.starts.elements():
            found.setdefault((entry.run_id, entry.attempt), []).append(entry)
        return found


def read(path: Path, *, growing: bool = False) -> Ledger:
    """Every line that was written. Raises LedgerError for one that is not whole. `growing`: without a last line that a
    job is just writing; a reader may see the half of it that ends a page."""
    ledger = Ledger(Counter(), Counter())
    if path.exists():
        text = path.read_text()
        if growing:
            text = text[: text.rfind("\n") + 1]
        for number, line in enumerate(text.splitlines(), start=1):
            word, *rest = line.split(" ")
            if len(rest) != FIELDS - 1 or word not in ("start", "end"):
                raise LedgerError(f"{path}:{number}: {line!r}")
            run_id, attempt, scheduled_at, job, pid, code = rest
            entry = Entry(run_id, int(attempt), datetime.fromisoformat(scheduled_at), job, int(pid), int(code))
            (ledger.starts if word == "start" else ledger.ends)[entry] += 1
    return ledger
