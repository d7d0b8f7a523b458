"""Run ids: made by us, sortable by time, safe as file names, and the same in every replay. Pure."""

from datetime import datetime

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
COUNTS = 32**4  # what four digits tell apart


def encode(number: int, digits: int) -> str:
    """The number in base 32, zero-padded; higher digits fall off."""
    text = ""
    for _ in range(digits):
        text = ALPHABET[number & 31] + text
        number >>= 5
    return text


class RunIds:
    """Sixteen characters: nine of milliseconds, four of a counter, three that tell this daemon's life from others.

    The counter runs on, and milliseconds never step back within one life, so no two ids of one life are equal;
    the salt keeps those of a life before a clock step apart.
    """

    def __init__(self, salt: int) -> None:
        self._salt = encode(salt, 3)
        self._count = 0
        self._ms = 0
        self._prefix = ""
        self._first = ""  # prefix of the first id; empty before there is one

    def make(self, wall: datetime) -> str:
        """A new id for a run queued at this instant."""
        ms = int(wall.timestamp() * 1000)
        self._count += 1
        if self._count == COUNTS:  # a clock that was set back stands still here: never the same pair twice
            self._count = 0
            ms = max(ms, self._ms + 1)
        if ms > self._ms:
            self._ms = ms
            self._prefix = encode(ms, 9)
            self._first = self._first or self._prefix
        return f"{self._prefix}{encode(self._count, 4)}{self._salt}"

    def made(self, run_id: str) -> bool:
        """Whether this life made the id."""
        return bool(self._first) and run_id.endswith(self._salt) and run_id[:9] >= self._first
