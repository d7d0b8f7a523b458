"""Starts that were asked for ahead of their time. Part of the keeper's process: standard library only; it starts
nothing itself, and never gives one out before its instant. Until then whatever can be made ready is."""

import heapq
import resource
import time
from collections import deque
from collections.abc import Callable, Iterator

from tidegate.executors.keeper_refusal import SpawnRefused
from tidegate.executors.keeper_spawn import Ready
from tidegate.executors.keeper_wire import Message

AHEAD_S_MAX = 0.2  # the supervisor sends none so far ahead; a new one waits for as long, and no longer
AT_ONCE = 128  # a burst is started whole; then children are reaped and answers go out
READY_AT_ONCE = 8  # made ready before anything else is heard again: about half a millisecond
CLOSE_S = 0.002  # epoll counts in whole milliseconds and wakes up late: what is left of so short a wait is slept


class Later:
    """One request that waits for its instant."""

    ready: Ready | None = None

    def __init__(self, message: Message, note: bytes) -> None:
        self.message, self.note = message, note
        self.over = False  # given out, or taken back


class Ahead:
    """Requests by the instant at which they are to be done, and as they came where that is the same."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Later]] = []
        self._count = 0
        self._unready: deque[Later] = deque()

    def __bool__(self) -> bool:
        return bool(self._heap)

    def takes(self, message: Message, note: bytes) -> bool:
        """Keep a request that says when; whether it does. Raises SpawnRefused."""
        at_mono_s = message.get("start_mono_s")
        if not isinstance(at_mono_s, float):
            return False
        if not at_mono_s - time.monotonic() < AHEAD_S_MAX:
            raise SpawnRefused(f"it was sent more than {AHEAD_S_MAX:g} s ahead of its time; a bug, please report it")
        self._count += 1
        later = Later(message, note)
        heapq.heappush(self._heap, (at_mono_s, self._count, later))
        if "birth" not in message and "python" not in message:
            self._unready.append(later)
        return True

    def make_ready(self, ready: Callable[[Message], Ready]) -> None:
        """A few more of them, while there is time: opening a file for its output is most of what a start costs. What
        cannot be made ready is left as it is, and fails at its instant with a reason."""
        for _ in range(READY_AT_ONCE):
            if not self._unready:
                return
            if not self._heap or self._heap[0][0] - time.monotonic() < CLOSE_S:  # all given out, or about to be
                self._unready.clear()
                return
            later = self._unready.popleft()
            if later.over:
                continue
            try:
                later.ready = ready(later.message)
            except (SpawnRefused, KeyError, IndexError, ValueError, TypeError, AssertionError, OSError):
                continue
            if later.ready.fd >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2:
                later.ready.give_up()  # the other half is for what runs
                later.ready = None
                self._unready.clear()

    def timeout_s(self) -> float | None:
        """How long epoll may wait: a little less than until the first is due. None: there is none."""
        if self._unready:
            return 0.0
        return max(self._heap[0][0] - time.monotonic() - CLOSE_S, 0.0) if self._heap else None

    def due(self) -> Iterator[Later]:
        """The next few whose instant has come; one that is about to come is waited for."""
        if not self._heap:
            return
        left_s = self._heap[0][0] - time.monotonic()
        if left_s > CLOSE_S:
            return
        if left_s > 0:
            time.sleep(left_s)
        for _ in range(AT_ONCE):
            if not self._heap or self._heap[0][0] > time.monotonic():
                return
            _, _, later = heapq.heappop(self._heap)
            later.over = True
            yield later

    def drop(self, meant: Message) -> tuple[str, int] | None:
        """Forget the request for this run_id and attempt; which that was, or None where it is not still to come."""
        run_id, number = meant.get("run_id"), meant.get("attempt")
        if not isinstance(run_id, str) or not isinstance(number, int):
            return None
        for index, (_, _, later) in enumerate(self._heap):
            if later.message.get("run_id") == run_id and later.message.get("attempt") == number:
                del self._heap[index]
                heapq.heapify(self._heap)
                later.over = True
                if later.ready is not None:
                    later.ready.give_up()
                return run_id, number
        return None
