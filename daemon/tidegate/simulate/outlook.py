"""What a job's coming runs will take: time, CPU and memory, drawn from its past or from what is said of it. Pure; the
same seed draws the same."""

import random
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from tidegate.engine.estimate import Estimator, Used
from tidegate.model.job import Job
from tidegate.model.pool import PoolSettings

GUESS_S: Final = 60.0  # a job that nothing is known of: long enough to be seen, short enough not to rule the picture
CORES_GUESS: Final = 0.25  # of one, as the pool takes it to be
MEMORY_GUESS_BYTES: Final = 64 * 1024**2  # a small script with its interpreter
PAST_RUNS: Final = 100  # newest successes that are drawn from
DEFAULTS: Final = PoolSettings()
LEARNED_RUNS: Final = 20  # of these the newest: what the pool predicts from, older ones have faded


class Past(Struct, frozen=True):
    """One run that succeeded. What is unknown is None."""

    duration_s: float
    cpu_s: float | None = None
    memory_peak_bytes: int | None = None


class Draw(Struct, frozen=True):
    """What one run takes when it has the machine to itself."""

    duration_s: float
    cores: float
    memory_bytes: int


class Outlook:
    """The runs that one job will have. `basis` of the durations: history, given, expected or guess. `cores` and
    `memory_bytes` are what the pool predicts of each."""

    def __init__(
        self, name: str, draws: Sequence[Draw], basis: str, cores: float, memory_bytes: int, seed: int
    ) -> None:
        self.basis = basis
        self.cores = cores
        self.memory_bytes = memory_bytes
        self.most_cores = max(draw.cores for draw in draws)
        self._draws = draws
        self._dice = random.Random(f"{seed}:{name}")

    def draw(self) -> Draw:
        """The next run."""
        return self._draws[0] if len(self._draws) == 1 else self._dice.choice(self._draws)


def outlook(job: Job, past: Sequence[Past], given_s: float | None, seed: int, pool: PoolSettings = DEFAULTS) -> Outlook:
    """Of a job with these runs, newest first. `given_s` goes before what was measured, and that before what the job
    says of itself."""
    cores = CORES_GUESS if job.cpu_cores is None else job.cpu_cores
    memory_bytes = MEMORY_GUESS_BYTES if job.memory_bytes is None else job.memory_bytes
    draws = [
        Draw(
            duration_s=one.duration_s if given_s is None else given_s,
            cores=cores if one.cpu_s is None or one.duration_s <= 0 else one.cpu_s / one.duration_s,
            memory_bytes=memory_bytes if one.memory_peak_bytes is None else one.memory_peak_bytes,
        )
        for one in past[:PAST_RUNS]
    ]
    if draws:
        basis = "history" if given_s is None else "given"
        return Outlook(job.name, draws, basis, *predicted(job, draws, pool), seed)
    if given_s is not None:
        basis, duration_s = "given", given_s
    elif job.expected_s is not None:
        basis, duration_s = "expected", job.expected_s
    else:
        basis, duration_s = "guess", GUESS_S
    return Outlook(job.name, [Draw(duration_s, cores, memory_bytes)], basis, cores, memory_bytes, seed)


def predicted(job: Job, draws: Sequence[Draw], pool: PoolSettings) -> tuple[float, int]:
    """The cores and the memory that the pool expects of a run after these, newest first. What goes beyond the job's own
    hard limit is not set aside."""
    estimator = Estimator(pool)
    for draw in reversed(draws[:LEARNED_RUNS]):
        used = Used(draw.duration_s, draw.cores * draw.duration_s, draw.memory_bytes)
        estimator.finished(job.name, used)
    need_bytes = estimator.predict_memory(job.name, job.memory_bytes, 0).bytes
    return estimator.predict_cpu(job.name, job.cpu_cores), min(need_bytes, job.limits.memory_bytes or need_bytes)
