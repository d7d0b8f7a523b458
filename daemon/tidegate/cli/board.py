"""Draws what `tidegate top` shows. Decides nothing and asks nobody: what is drawn and the time are arguments."""

import sys
from datetime import datetime, tzinfo
from io import StringIO
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tidegate.cli.client import Pool
from tidegate.model.text import counted, duration, escape
from tidegate.model.view import GateView, ResourceView, RunningView, WaitingView
from tidegate.telemetry.line import size

WIDTH_PIPED: Final = 120
AROUND_LINES: Final = 9  # the pool's line, and heads and gaps of three tables
ROWS_MIN: Final = 3  # of each table, however low the terminal is
TIERS: Final = ("", "nothing starts", "runs are frozen", "runs are killed and queued anew")
HOLDERS_SHOWN: Final = 6


def plain(answer: Pool, now: datetime, zone: tzinfo) -> str:
    """Everything, as text without colours; as wide as the terminal, or WIDTH_PIPED."""
    width = Console(file=sys.stdout).width if sys.stdout.isatty() else WIDTH_PIPED
    console = Console(file=StringIO(), width=width, color_system=None, highlight=False, emoji=False)
    console.print(board(answer, now, zone, None))
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def board(answer: Pool, now: datetime, zone: tzinfo, height: int | None, trouble: str = "") -> RenderableType:
    """The pool, what runs, what waits and for what, and the shared resources; cut to the height, if there is one."""
    rows = len(answer.running) + len(answer.waiting) + len(answer.resources)
    around = AROUND_LINES + (len(answer.pool.gates) + 2 if answer.pool.gates else 0)
    shares = _shares(answer, height - around if height is not None else rows)
    parts: list[RenderableType] = [_headline(answer, now, zone)]
    if trouble:
        parts.append(Text(escape(trouble), "bold red"))
    if answer.pool.memory_tier:
        parts.append(Text(f"memory is short: {escape(TIERS[answer.pool.memory_tier])}", "bold red"))
    if answer.pool.held:
        parts.append(Text(f"nothing starts: {escape(answer.pool.held)}", "bold red"))
    parts += [Text(), _gates(answer.pool.gates)] if answer.pool.gates else []
    parts += _section(_running(answer.running[: shares[0]], now), len(answer.running), shares[0], "Nothing runs.")
    parts += _section(_waiting(answer.waiting[: shares[1]], now), len(answer.waiting), shares[1], "Nothing is queued.")
    if answer.resources:
        parts += _section(_resources(answer.resources[: shares[2]]), len(answer.resources), shares[2], "")
    return Group(*parts)


def _shares(answer: Pool, left: int) -> tuple[int, int, int]:
    """Rows for each table: resources are few and wanted; what runs goes before what waits."""
    resources = min(len(answer.resources), max(ROWS_MIN, left // 3))
    left -= resources
    running = min(len(answer.running), max(ROWS_MIN, left - min(len(answer.waiting), max(ROWS_MIN, left // 2))))
    waiting = min(len(answer.waiting), max(ROWS_MIN, left - running))
    return running, waiting, resources


def _headline(answer: Pool, now: datetime, zone: tzinfo) -> Text:
    pool = answer.pool
    text = Text(f"{pool.running} of {pool.limit} slots in use", "bold")
    text.append(f", {pool.queued} queued")
    if pool.frozen:
        text.append(f", {pool.frozen} frozen")
    if pool.retrying:
        text.append(f", {pool.retrying} waiting for another attempt")
    return text.append(f"   {now.astimezone(zone):%H:%M:%S}", "dim")


def _section(table: Table, total: int, shown: int, nothing: str) -> list[RenderableType]:
    if not total:
        return [Text(), Text(nothing, "dim")]
    more = [Text(f"and {total - shown} more", "dim")] if total > shown else []
    return [Text(), table, *more]


def _table(*heads: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in heads:
        table.add_column(head, no_wrap=head != "WHY", overflow="fold" if head == "WHY" else "ellipsis")
    return table


def _gates(gates: tuple[GateView, ...]) -> Table:
    table = _table("GATE", "HOLDS", "HELD SO FAR", "WHY")
    table.columns[3].header = "READING"
    for gate in gates:
        holds = Text(str(gate.holds), "yellow" if gate.holds else "dim")
        blocked = duration(gate.blocked_s) if gate.blocked_s else "-"
        table.add_row(Text(escape(gate.name), "cyan"), holds, blocked, Text(escape(gate.reading)))
    return table


def _running(runs: tuple[RunningView, ...], now: datetime) -> Table:
    table = _table("RUNNING", "RUN", "FOR", "CPU", "MEMORY", "PID", "STATE")
    for run in runs:
        state = "frozen: memory is short" if run.frozen else run.state
        table.add_row(
            Text(escape(run.job), "cyan"),
            run.run_id,
            since(run.started_at, now),
            "-" if run.cpu_s is None else duration(run.cpu_s),
            "-" if run.memory_bytes is None else size(run.memory_bytes),
            "-" if run.pid is None else str(run.pid),
            Text(state + (f", attempt {run.attempt}" if run.attempt > 1 else ""), "yellow" if run.frozen else ""),
        )
    return table


def _waiting(waiting: tuple[WaitingView, ...], now: datetime) -> Table:
    table = _table("QUEUED", "RUN", "FOR", "GATE", "WHY")
    for each in waiting:
        run = each.run
        table.add_row(
            Text(escape(run.job), "cyan"),
            run.run_id,
            since(run.queued_at, now),
            escape(each.gate),
            Text(escape(each.reason)),
        )
    return table


def _resources(resources: tuple[ResourceView, ...]) -> Table:
    table = _table("RESOURCE", "USED", "WHY")
    table.columns[2].header = "HELD BY"
    for each in resources:
        full = each.used >= each.units
        used = Text(f"{each.used} of {counted(each.units, 'unit')}", "yellow" if full else "")
        table.add_row(Text(escape(each.name), "cyan"), used, Text(holders(each)))
    return table


def holders(resource: ResourceView) -> str:
    """Who holds how much, then who waits for it."""
    holding = [f"{escape(each.holder)} ({each.units})" for each in resource.holdings if not each.waiting]
    waiting = [f"{escape(each.holder)} ({each.units})" for each in resource.holdings if each.waiting]
    text = _some(holding) or "nobody"
    return f"{text}; waiting: {_some(waiting)}" if waiting else text


def _some(names: list[str]) -> str:
    more = f" and {len(names) - HOLDERS_SHOWN} more" if len(names) > HOLDERS_SHOWN else ""
    return ", ".join(names[:HOLDERS_SHOWN]) + more


def since(moment: datetime | None, now: datetime) -> str:
    """How long ago, for a person."""
    return "-" if moment is None else duration(max(0.0, (now - moment).total_seconds()))
