"""When to try again. Pure; the jitter is a function of the run id, so a replay retries at the same instants."""

from hashlib import blake2b

from tidegate.model.job import Job, OnInterrupted, Retries
from tidegate.model.limits import RERUNS_MAX
from tidegate.model.run import Outcome, Run

RETRIABLE = frozenset({Outcome.FAILED, Outcome.TIMED_OUT, Outcome.FAILED_TO_START})


def should_retry(run: Run, retries: Retries) -> bool:
    """Whether this ended attempt is followed by another. With `on_exit_codes` only those exits are; kills for memory
    are none of its tries."""
    if run.outcome not in RETRIABLE or run.attempt - run.evictions > retries.max:
        return False
    return retries.on_exit_codes is None or run.exit_code in retries.on_exit_codes


def may_rerun(run: Run, job: Job, gone: bool) -> bool:
    """Whether an interrupted attempt is followed by another: asked for, nothing of it left, and not for ever."""
    return gone and job.on_interrupted is OnInterrupted.RERUN and run.attempt <= job.retries.max + RERUNS_MAX


def delay_s(run_id: str, attempt: int, retries: Retries) -> float:
    """Seconds from the end of `attempt` to the next: capped exponential backoff, ± jitter.

    min(max_delay_s, delay_s × factor^(attempt − 1)) × (1 + jitter × u), u in [−1, 1) from BLAKE2b(run_id, attempt).
    """
    try:
        grown_s = retries.delay_s * retries.factor ** (attempt - 1)
    except OverflowError:
        grown_s = retries.max_delay_s
    digest = blake2b(f"{run_id}:{attempt}".encode(), digest_size=8).digest()
    u = int.from_bytes(digest, "big") / 2**63 - 1.0
    return min(retries.max_delay_s, grown_s) * (1.0 + retries.jitter * u)
