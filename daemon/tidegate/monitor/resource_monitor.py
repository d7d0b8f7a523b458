"""A thread that looks at the machine in intervals, keeps what it saw and calls back when a reading crosses its
threshold. For programs; the daemon has its own rhythm. Decides nothing."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Final, Self, get_args

from msgspec import Struct

from tidegate.model.sample import InUse, Reading, Sample, sample
from tidegate.monitor.machine import Machine
from tidegate.monitor.workers import Kind, optimal_workers

LOOK_S: Final = 0.1  # runnable threads come and go: a mean over ten looks a second is what one can act on
INTERVAL_S_MIN: Final = 0.05  # PSI's totals and MemAvailable move no faster
HISTORY_MAX: Final = 1_000_000  # samples, about 0.6 KB each
STOP_S: Final = 5.0  # a callback that hangs may keep the thread; it is a daemon thread and ends with the process

log: Final = logging.getLogger("tidegate.monitor")


class Threshold(Struct, frozen=True):
    """Crossed at `high` or above; over again at `low` or below. Between the two nothing changes: that is what keeps a
    reading that trembles from calling back all the time."""

    high: float
    low: float


class Crossing(Struct, frozen=True):
    """What callbacks get, on crossing and on relief."""

    resource: str
    value: float
    threshold: Threshold
    sample: Sample


Callback = Callable[[Crossing], object]


def _foreign_ratio(seen: Sample) -> float | None:
    return None if seen.foreign_cores is None else seen.foreign_cores / seen.cores


RESOURCES: Final[Mapping[str, Callable[[Sample], float | None]]] = {
    "cpu": lambda seen: seen.load_ratio,
    "cpu_busy": lambda seen: seen.busy_ratio,
    "cpu_foreign": _foreign_ratio,
    "cpu_pressure": lambda seen: seen.cpu_some_ratio,
    "memory": lambda seen: seen.memory_used_ratio,
    "memory_pressure": lambda seen: seen.memory_some_ratio,
    "io": lambda seen: seen.io_full_ratio,
    "swap": lambda seen: seen.swap_used_ratio,
}

THRESHOLDS: Final[Mapping[str, Threshold]] = {
    "cpu": Threshold(1.5, 1.15),
    "memory": Threshold(0.90, 0.80),
    "memory_pressure": Threshold(0.10, 0.05),
    "io": Threshold(0.30, 0.15),
}


class ResourceMonitor:
    """Watches the machine from one daemon thread, begun by `start` or `with`. Safe to ask from any thread.

    Callbacks are called on the monitor's thread, with nothing locked; what they raise is logged (logger
    `tidegate.monitor`) and the thread goes on. `machine` is for tests, and for looking at another process.
    """

    def __init__(
        self,
        check_interval_s: float = 1.0,
        thresholds: Mapping[str, Threshold] = THRESHOLDS,
        *,
        on_crossing: Callback | None = None,
        on_relief: Callback | None = None,
        history: int = 600,
        machine: Machine | None = None,
    ) -> None:
        """Raises ValueError for an interval under 0.05 s, a resource that does not exist, a threshold whose low is
        above its high, and a history that is not 1 to 1,000,000 samples."""
        if not INTERVAL_S_MIN <= check_interval_s < float("inf"):
            raise ValueError(f"check_interval_s must be at least {INTERVAL_S_MIN}, not {check_interval_s}")
        if not 1 <= history <= HISTORY_MAX:
            raise ValueError(f"history must be 1 to {HISTORY_MAX} samples, not {history}")
        for resource, threshold in thresholds.items():
            if resource not in RESOURCES:
                raise ValueError(f"there is no resource {resource!r}; there are {', '.join(RESOURCES)}")
            if not threshold.low <= threshold.high:
                raise ValueError(f"{resource}: low ({threshold.low}) must not be above high ({threshold.high})")
        self._interval_s = check_interval_s
        self._thresholds = dict(thresholds)
        self._on_crossing = on_crossing
        self._on_relief = on_relief
        self._machine = machine if machine is not None else Machine()
        self._samples: deque[Sample] = deque(maxlen=history)
        self._last: Reading | None = None
        self._crossed: set[str] = set()
        self._told: set[InUse] = set()
        self._reading = threading.Lock()  # the machine is for one thread at a time
        self._life = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # --- its life -------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, with a look at once. Does nothing where it runs already."""
        with self._life:
            if self._thread is not None and self._thread.is_alive():
                return
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(self._stop,), name="tidegate-monitor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; what was seen can still be asked for. Returns when it has ended, at the latest after 5 s; at
        once where a callback asks."""
        with self._life:
            self._stop.set()
            thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(STOP_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- what is asked --------------------------------------------------------------------------

    def current(self) -> Sample:
        """The newest sample; where there is none yet, one from a look of its own, which calls nobody back."""
        with self._reading:
            return self._samples[-1] if self._samples else sample(None, self._machine.read())

    def history(self) -> list[Sample]:
        """What was seen, oldest first."""
        with self._reading:
            return list(self._samples)

    def optimal_workers(self, kind: Kind = "cpu") -> int:
        """How many workers of this kind the machine bears now, at least 1; see `tidegate.monitor.workers`."""
        if kind not in get_args(Kind):
            raise ValueError(f'kind must be "cpu" or "io", not {kind!r}')
        return optimal_workers(self.current(), kind)

    def crossed(self) -> frozenset[str]:
        """Resources whose threshold was crossed, with no relief since."""
        return frozenset(self._crossed)

    def readings_in_use(self) -> tuple[InUse, ...]:
        """Where each kind of reading is from, and what is missing where it is not the first choice."""
        with self._reading:
            return self._machine.readings_in_use()

    def watch(self, pids: Iterable[int]) -> None:
        """These processes are ours too, with all below them, in place of those named before: what they use is not
        foreign. Our own children are ours anyway. Raises ValueError for more than 999."""
        with self._reading:
            self._machine.watch(pids)

    # --- looking --------------------------------------------------------------------------------

    def check(self) -> Sample:
        """Look now, and call back where a threshold is crossed. What the thread does in each interval; for programs
        that have a rhythm of their own."""
        with self._reading:
            reading = self._machine.read()
            seen = sample(self._last, reading)
            self._last = reading
            self._samples.append(seen)
            changed = self._compare(seen)
            fresh = [use for use in self._machine.readings_in_use() if use.instead and use not in self._told]
            self._told |= set(fresh)
        for use in fresh:
            log.warning("%s: %s; %s", use.what, use.instead, _instead(use))
        for callback, crossing in changed:
            self._call(callback, crossing)
        return seen

    def _compare(self, seen: Sample) -> list[tuple[Callback | None, Crossing]]:
        changed: list[tuple[Callback | None, Crossing]] = []
        for resource, threshold in self._thresholds.items():
            value = RESOURCES[resource](seen)
            if value is None:  # not known is neither
                continue
            if resource not in self._crossed and value >= threshold.high:
                self._crossed.add(resource)
                changed.append((self._on_crossing, Crossing(resource, value, threshold, seen)))
            elif resource in self._crossed and value <= threshold.low and value < threshold.high:
                self._crossed.discard(resource)
                changed.append((self._on_relief, Crossing(resource, value, threshold, seen)))
        return changed

    def _call(self, callback: Callback | None, crossing: Crossing) -> None:
        if callback is None:
            return
        try:
            callback(crossing)
        except Exception:  # the caller's own code: whatever it raises is told, and does not end the watching
            log.exception("the callback for %s at %.3g failed", crossing.resource, crossing.value)

    def _run(self, stop: threading.Event) -> None:
        looks = max(1, round(self._interval_s / LOOK_S))
        count = 0
        self.check()
        while not stop.wait(self._interval_s / looks):
            count = (count + 1) % looks
            if count:
                with self._reading:
                    self._machine.glance()
            else:
                self.check()
        with self._reading:
            self._last = None  # what happens while nobody looks is no interval
            self._machine.close()


def _instead(use: InUse) -> str:
    return "nothing tells it instead" if use.source == "none" else f"read from {use.source} instead"
