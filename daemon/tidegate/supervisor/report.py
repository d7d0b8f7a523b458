"""What the daemon says of itself in its log and to systemd. It reads; it changes nothing."""

from collections import Counter
from datetime import datetime
from pathlib import Path

from loguru import logger

from tidegate import clock
from tidegate.engine.dispatcher import Dispatcher
from tidegate.engine.lifecycle import HOLDS_SLOT
from tidegate.model.event import Now
from tidegate.model.limits import QUEUE_RUNS_MAX
from tidegate.model.plan import Plan, as_written
from tidegate.model.text import counted


def status(dispatcher: Dispatcher, plan: Plan) -> str:
    """One line on what goes on now."""
    counts = dispatcher.counts()
    jobs = counted(len(plan.jobs), "job")
    return f"{jobs}, {counts.running} running, {counts.queued} queued, limit {counts.limit}"


def log_state(
    dispatcher: Dispatcher, plan: Plan, first: tuple[datetime, str] | None, keeper_pid: int | None, uptime_s: float
) -> None:
    """A full state line."""
    now = Now(clock.wall(), clock.monotonic_s())
    runs = dispatcher.runs()
    states = Counter(run.state.value for run in runs)
    gates = Counter(gate for _, gate, _ in dispatcher.waiting(now, QUEUE_RUNS_MAX))
    logger.bind(event="daemon.state").info(
        "{}; states: {}; running: {}; held back: {}; paused: {}; next fire: {}; keeper: {}; up {:.0f} s",
        status(dispatcher, plan),
        ", ".join(f"{count} {state}" for state, count in states.items()) or "none",
        ", ".join(f"{run.job} ({run.run_id}, pid {run.pid})" for run in runs if run.pid and run.state in HOLDS_SLOT)
        or "none",
        ", ".join(f"{count} by {gate}" for gate, count in gates.items()) or "none",
        ", ".join(sorted(dispatcher.paused)) or "none",
        f"{first[1]} in {(first[0] - now.wall).total_seconds():.1f} s" if first else "none",
        f"pid {keeper_pid}" if keeper_pid is not None else "none",
        uptime_s,
    )


def warn_of(plan: Plan, restart_needed: tuple[str, ...]) -> None:
    """A new configuration: what does not hold before a restart, and what is legal but probably not meant."""
    for keys in restart_needed:
        logger.bind(event="config.restart_needed").warning("{} has changed: this needs a restart", as_written(keys))
    for warning in plan.warnings:
        logger.bind(event="config.warning").warning("{}", warning)


def set_aside(path: Path) -> None:
    """The history was damaged."""
    logger.bind(event="history.set_aside").critical(
        "the history was damaged; it lies in {} for whoever can mend it, and a new one is begun:"
        " what came before is not in it",
        path,
    )
