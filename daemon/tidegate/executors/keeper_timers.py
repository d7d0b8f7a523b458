"""What the keeper does later. Part of the keeper's process: standard library only; it waits for nothing itself."""

import heapq
import time
from collections.abc import Callable

from tidegate.executors.keeper_attempt import Attempt

RUN_S_MAX = 0.005  # looks at a hundred trees take that and more, and starts must not wait for them

Action = Callable[[Attempt | None], None]


class Timers:
    """Actions by the time they are due. None is ever taken back: an action looks whether it is still wanted."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Action, Attempt | None]] = []
        self._count = 0

    def after(self, seconds: float, action: Action, attempt: Attempt | None = None) -> None:
        self._count += 1
        heapq.heappush(self._heap, (time.monotonic() + seconds, self._count, action, attempt))

    def timeout_s(self) -> float | None:
        """Until the first is due; None: there is none."""
        return max(self._heap[0][0] - time.monotonic(), 0.0) if self._heap else None

    def run(self) -> None:
        """Do what is due, but not what becomes due meanwhile; and after RUN_S_MAX the rest waits for whoever asks."""
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now:
            _, _, action, attempt = heapq.heappop(self._heap)
            action(attempt)
            if time.monotonic() - now > RUN_S_MAX:
                break
