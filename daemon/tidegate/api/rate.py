"""How often one peer may change something: a token bucket for each. Pure; the time is an argument."""

from collections import OrderedDict
from typing import Final

RATE_PER_S: Final = 50.0  # a deploy that triggers a hundred jobs at once is fine; a loop without a pause is not
BURST: Final = 100.0
PEERS_MAX: Final = 1000  # the one unseen for longest is forgotten: its bucket is full again by then


class Buckets:
    """Token buckets by peer."""

    def __init__(self) -> None:
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens left, and when that was

    def wait_s(self, key: str, now_s: float) -> float:
        """How long until there is a token; 0.0: there is one."""
        return max(0.0, (1.0 - self._level(key, now_s)) / RATE_PER_S)

    def _level(self, key: str, now_s: float) -> float:
        level, at_s = self._levels.get(key, (BURST, now_s))
        return min(BURST, level + (now_s - at_s) * RATE_PER_S)

    def take(self, key: str, now_s: float) -> float:
        """Take a token. 0.0: it was there; else the seconds until there is one."""
        level = self._level(key, now_s)
        taken = level >= 1.0
        self._levels[key] = (level - taken, now_s)
        self._levels.move_to_end(key)
        if len(self._levels) > PEERS_MAX:
            self._levels.popitem(last=False)
        return 0.0 if taken else (1.0 - level) / RATE_PER_S
