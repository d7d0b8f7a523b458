"""How an attempt ended: outcome and reason from what its keeper saw. Pure."""

from typing import Final

from tidegate.engine.live import Live
from tidegate.model.event import Exited
from tidegate.model.run import Outcome, Run

RAISED_CHARS_MAX: Final = 300  # of a python job's exception, in a reason

SIGNAL_NAMES: Final = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL",
    10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 24: "SIGXCPU",
    25: "SIGXFSZ", 31: "SIGSYS",
}  # fmt: skip


def judge(live: Live, event: Exited) -> tuple[Outcome, str]:
    """Outcome and reason of an attempt whose leader ended. Why it was stopped goes before how it exited."""
    if live.stop_outcome is not None:
        return live.stop_outcome, live.stop_reason
    if event.oom and (event.signal is not None or event.exit_code not in live.job.success_exit_codes):
        return Outcome.KILLED_FOR_MEMORY, "the kernel killed it for memory: it went over its memory_max"
    if event.timed_out:
        return Outcome.TIMED_OUT, f"ran longer than its timeout of {live.job.timeout_s:g} s while tidegate was down"
    if event.signal is not None:
        return Outcome.FAILED, f"killed by {SIGNAL_NAMES.get(event.signal, f'signal {event.signal}')}"
    if event.exit_code is None:
        return Outcome.UNKNOWN, "its exit status cannot be known"
    if event.exit_code in live.job.success_exit_codes:
        return Outcome.SUCCEEDED, ""
    raised = event.error.rstrip().rpartition("\n")[2][:RAISED_CHARS_MAX]  # a traceback ends with what was raised
    return Outcome.FAILED, raised or f"exit code {event.exit_code}"


def goes_on(run: Run) -> str:
    """What is said beside `unknown` where the process is seen to live: no time-out ends it, nobody hears of its end."""
    return f"its process {run.pid} goes on without a keeper, and nobody ends it"
