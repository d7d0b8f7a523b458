"""What a run will take, learned from the runs of the same job or task before it: memory, CPU, time. No I/O, no clock.

Each key has two histograms with buckets that grow by a tenth, whose old runs fade: twenty runs later a run counts for
a third (as in the Vertical Pod Autoscaler of Kubernetes, and Google's Autopilot). A frozen value, small, as JSON: the
history keeps it.
"""

import math
from enum import Enum
from typing import Final, assert_never

from msgspec import Struct
from msgspec.structs import replace

from tidegate.engine.memory import shown
from tidegate.model.limits import LEARNED_KEYS_MAX
from tidegate.model.pool import PoolSettings
from tidegate.model.text import counted

STEP: Final = 1.1  # from bucket to bucket: what is read from one is at most a tenth too high
LOG_STEP: Final = math.log(STEP)
FADE: Final = 1 - 1 / 20  # what each further run leaves of the weight of those before
WEIGHT_MIN: Final = 0.02  # less is dropped: 76 runs ago
BUCKETS_MAX: Final = 16  # the lightest goes: 600 bytes a key
LAST: Final = 10
MEMORY_UNIT_BYTES: Final = 1 << 20
DURATION_UNIT_S: Final = 0.001
CPU_FADE_MIN: Final = 1 / 20


class Learned(Struct, frozen=True, omit_defaults=True):
    """What the runs of one key took. Weights by bucket: bucket n is up to unit × 1.1ⁿ."""

    runs: int = 0
    memory: dict[int, float] = {}  # of 1 MiB
    durations: dict[int, float] = {}  # of 1 ms
    peaks_bytes: tuple[int, ...] = ()  # of the last ten
    cpu_cores: float | None = None  # decayed mean of CPU seconds a second
    killed_bytes: int = 0  # the least it needs, since it was killed for memory and has not ended well again


class Used(Struct, frozen=True):
    """What one attempt took. None: not known."""

    duration_s: float | None
    cpu_s: float | None
    memory_peak_bytes: int | None
    killed_for_memory: bool = False  # by us or by the kernel: the peak is not all that it needs


class Basis(Enum):
    """Where a prediction is from."""

    HINT = "hint"
    NOTHING = "nothing"
    FEW = "few"  # runs, so the most that one of them took
    MANY = "many"
    KILLED = "killed"
    SHARED = "shared"  # the process is that of others


class Prediction(Struct, frozen=True):
    """The memory that a run will need."""

    bytes: int
    known: bool  # False: a guess, so that only one such run may be in flight
    basis: Basis
    runs: int = 0  # FEW: how many
    most_bytes: int = 0  # FEW and MANY: that they took

    @property
    def why(self) -> str:
        """A sentence for a person. Made when it is asked for: nearly all predictions are only reckoned with."""
        match self.basis:
            case Basis.HINT:
                return f"memory = {shown(self.bytes)}"
            case Basis.NOTHING:
                return f"{shown(self.bytes)}: nothing is known of it yet"
            case Basis.FEW:
                most = shown(self.most_bytes)
                return f"{shown(self.bytes)}: the most of {counted(self.runs, 'run')} was {most}"
            case Basis.MANY:
                return f"{shown(self.bytes)}: nearly all of its runs took up to {shown(self.most_bytes)}"
            case Basis.KILLED:
                return f"{shown(self.bytes)}: it was killed for memory with less"
            case Basis.SHARED:
                return "it shares a process: it has no memory of its own"
            case _:
                assert_never(self.basis)


class Estimator:
    """Knows each key (job or job/task) by its runs; the keys that ran last, up to LEARNED_KEYS_MAX of them."""

    def __init__(self, settings: PoolSettings, keys_max: int = LEARNED_KEYS_MAX) -> None:
        self.forgotten = 0  # keys dropped, as there were too many
        self._settings = settings
        self._keys_max = keys_max
        self._learned: dict[str, Learned] = {}  # the one that ran last stands last
        self._changed: set[str] = set()
        self._cpu_of_all: float | None = None
        self._peak_of_all_bytes: float | None = None  # decayed mean: where most jobs are large, an unknown one is too

    def configure(self, settings: PoolSettings) -> None:
        """Other settings, from the next prediction on."""
        self._settings = settings

    # --- predictions ----------------------------------------------------------------------------------

    def predict_memory(self, key: str, hint: int | None, budget: int) -> Prediction:
        """Bytes at its peak. `hint` is the job's `memory`, `budget` what there is in all."""
        settings, learned = self._settings, self._learned.get(key, NOTHING)
        known, runs, most = True, 0, 0
        if learned.peaks_bytes:
            most = max(learned.peaks_bytes)
            if learned.runs < settings.memory_few_runs:
                basis, runs = Basis.FEW, learned.runs
                found = max(hint or 0, math.ceil(most * settings.memory_few))
            else:
                basis = Basis.MANY
                likely = max(quantile(learned.memory, settings.memory_quantile, MEMORY_UNIT_BYTES), most)
                found, most = math.ceil(likely * settings.memory_known), int(likely)
        elif hint is not None:
            found, basis = hint, Basis.HINT
        else:
            known, basis = False, Basis.NOTHING
            found = min(settings.memory_default_bytes, int(budget * settings.memory_default_share))
            found = max(found, int(self._peak_of_all_bytes or 0))
        if learned.killed_bytes > found:
            return Prediction(learned.killed_bytes, known, Basis.KILLED)
        return Prediction(max(0, found), known, basis, runs, most)

    def predict_cpu(self, key: str, hint: float | None) -> float:
        """Cores in use while it runs: what its runs used; the job's `cpu` while they are few; what all jobs use; ¼."""
        learned = self._learned.get(key, NOTHING)
        if hint is not None and learned.runs < self._settings.memory_few_runs:
            return max(0.0, hint)
        if learned.cpu_cores is not None:
            return learned.cpu_cores
        return self._settings.cpu_default if self._cpu_of_all is None else self._cpu_of_all

    def predict_duration(self, key: str) -> float | None:
        """Seconds that nine of ten runs do not exceed; None where nothing is known."""
        durations = self._learned.get(key, NOTHING).durations
        return quantile(durations, self._settings.duration_quantile, DURATION_UNIT_S) if durations else None

    def in_flight(self, key: str, prediction: Prediction, present_use: int) -> int:
        """The prediction for a run that goes on: 1.1 × its present use where that is more."""
        del key
        return max(prediction.bytes, math.ceil(present_use * self._settings.memory_in_flight))

    # --- learning -------------------------------------------------------------------------------------

    def finished(self, key: str, used: Used) -> None:
        """An attempt ended. One that was killed for memory tells only what it needs at least."""
        old = self._learned.pop(key, NOTHING)
        peak = used.memory_peak_bytes
        if used.killed_for_memory:
            settings = self._settings
            at_least = max(peak or 0, old.killed_bytes, 1)
            more = max(math.ceil(at_least * settings.memory_killed), at_least + settings.memory_killed_more_bytes)
            new = replace(old, killed_bytes=more)
            self._peak_of_all_bytes = mixed(self._peak_of_all_bytes, at_least, LAST)
        else:
            new = self._learn(old, used)
        self._learned[key] = new
        self._changed.add(key)
        self._bound()

    def _learn(self, old: Learned, used: Used) -> Learned:
        peak, duration_s = used.memory_peak_bytes, used.duration_s
        memory, peaks = old.memory, old.peaks_bytes
        if peak is not None and peak > 0:
            memory = added(memory, peak / MEMORY_UNIT_BYTES)
            peaks = (*peaks, peak)[-LAST:]
            self._peak_of_all_bytes = mixed(self._peak_of_all_bytes, peak, LAST)
        durations, cpu = old.durations, old.cpu_cores
        if duration_s is not None and math.isfinite(duration_s) and duration_s > 0:
            durations = added(durations, duration_s / DURATION_UNIT_S)
            if used.cpu_s is not None and math.isfinite(used.cpu_s):
                cores = max(0.0, used.cpu_s) / duration_s
                cpu = mixed(cpu, cores, old.runs)
                self._cpu_of_all = mixed(self._cpu_of_all, cores, LAST)
        return Learned(
            runs=old.runs + 1,
            memory=memory,
            durations=durations,
            peaks_bytes=peaks,
            cpu_cores=None if cpu is None else round(cpu, 4),
        )

    # --- what is kept ---------------------------------------------------------------------------------

    def learned(self, key: str) -> Learned | None:
        """What is known of a key."""
        return self._learned.get(key)

    def state(self) -> dict[str, Learned]:
        """All that is known, the key that ran last at the end."""
        return dict(self._learned)

    def changed(self) -> dict[str, Learned]:
        """What is known of the keys that ran since this was last asked, for whoever writes it down."""
        found = {key: self._learned[key] for key in self._changed if key in self._learned}
        self._changed.clear()
        return found

    def restore(self, learned: dict[str, Learned]) -> None:
        """What an earlier life knew; of keys that ran in this one, this one knows better."""
        present = self._learned
        self._learned = {key: value for key, value in learned.items() if key not in present} | present
        for value in learned.values():
            if value.cpu_cores is not None:
                self._cpu_of_all = mixed(self._cpu_of_all, value.cpu_cores, LAST)
            if value.peaks_bytes:
                self._peak_of_all_bytes = mixed(self._peak_of_all_bytes, value.peaks_bytes[-1], LAST)
        self._bound()

    def _bound(self) -> None:
        while len(self._learned) > self._keys_max:
            key = next(iter(self._learned))
            del self._learned[key]
            self._changed.discard(key)
            self.forgotten += 1


NOTHING: Final = Learned()


def added(weights: dict[int, float], value: float) -> dict[int, float]:
    """A histogram with one value more and its old ones faded. `value` in units of the first bucket."""
    # The first buckets hold what is less than a thousandth of a unit apart from nothing.
    bucket = max(-LAST, math.ceil(math.log(max(value, 1e-9)) / LOG_STEP - 1e-9))
    faded = {key: round(weight * FADE, 3) for key, weight in weights.items() if weight * FADE >= WEIGHT_MIN}
    faded[bucket] = round(faded.get(bucket, 0.0) + 1.0, 3)
    while len(faded) > BUCKETS_MAX:
        del faded[min(faded, key=lambda each: (faded[each], each))]
    return faded


def quantile(weights: dict[int, float], share: float, unit: float) -> float:
    """The upper end of the bucket beneath which this share of the weight is; 0 of an empty one."""
    if not weights:
        return 0.0
    left = share * sum(weights.values())
    ordered = sorted(weights)
    for bucket in ordered:
        left -= weights[bucket]
        if left <= 1e-9:
            return float(unit * STEP**bucket)
    return float(unit * STEP ** ordered[-1])


def mixed(mean: float | None, value: float, runs: int) -> float:
    """A mean over the first runs, then one that fades like the histograms."""
    if mean is None:
        return value
    share = max(CPU_FADE_MIN, 1 / (runs + 1))
    return mean + (value - mean) * share
