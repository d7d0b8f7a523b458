"""What the engine keeps beside a run that has not ended. Mutable, private to the engine; the Run in it is not."""

from tidegate.model.job import Executor, Job
from tidegate.model.run import Outcome, Run


class Live:
    """One run that has not ended, with the definition of its job as it was when it fired.

    A reload changes what later fires do; a run keeps the definition it began with through all its attempts.
    """

    __slots__ = (
        "alone",
        "deadlines",
        "evicted",
        "frozen_mono_s",
        "job",
        "queued_mono_s",
        "run",
        "started_mono_s",
        "stop_outcome",
        "stop_reason",
        "taken_mono_s",
        "ticket",
        "timeout_left_s",
    )

    def __init__(self, run: Run, job: Job, now_mono_s: float) -> None:
        self.run = run
        self.job = job
        self.queued_mono_s = now_mono_s  # of this attempt
        self.taken_mono_s = 0.0  # when it got its slot
        self.started_mono_s: float | None = None
        self.frozen_mono_s: float | None = None  # since when we hold it still
        self.timeout_left_s = 0.0  # of its time-out, which stands still as long
        self.evicted = False  # killed for want of memory, by us, to be queued anew
        self.alone = False  # after too many kills for memory it starts with nothing beside it
        self.stop_outcome: Outcome | None = None  # set when STOPPING: what it will have been
        self.stop_reason = ""
        self.deadlines: dict[str, float] = {}
        self.ticket = 0  # tells a live queue entry from a dead one

    @property
    def shares_a_process(self) -> bool:
        """A thread or coroutine beside others: it cannot be frozen or killed alone, and has no memory of its own."""
        return self.job.python is not None and self.job.python.executor is not Executor.PROCESS

    def __lt__(self, other: "Live") -> bool:
        """Ties in a heap fall to the run id, so that the same history always plays the same way."""
        return self.run.run_id < other.run.run_id
