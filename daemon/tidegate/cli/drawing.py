"""Draws the timeline for a terminal. The only place that imports rich; the drawing is plain text when piped."""

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from io import StringIO
from typing import Final

from rich.console import Console
from rich.text import Text

from tidegate.cli.timeline import Timeline, ruler
from tidegate.cli.wording import MONTHS, WEEKDAYS, moment_text
from tidegate.model.text import escape

NAME_WIDTH: Final = 18
NEXT_WIDTH: Final = 11  # "24 Dec 2026"
WIDTH_PIPED: Final = 80
CELLS_NARROW, CELLS_WIDE = 48, 96  # half hours, quarter hours
STEPS: Final = (1, 2, 4, 10, 30)  # fires from which a cell takes the next mark
BARS: Final = "·▂▃▅▆█"
PLAIN: Final = ".il+*#"  # where the terminal is not UTF-8
NAMES_SHOWN: Final = 6


def terminal() -> Console:
    """A console that writes into memory, with the width and colours of stdout. NO_COLOR is heard."""
    on_terminal = sys.stdout.isatty()
    real = Console(file=sys.stdout)
    return Console(
        file=StringIO(),
        width=real.width if on_terminal else WIDTH_PIPED,
        force_terminal=on_terminal,
        color_system="standard" if on_terminal and real.color_system else None,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )


def cells_for(width: int) -> int:
    """How many cells a row has in a terminal of that width."""
    return CELLS_WIDE if width >= NAME_WIDTH + CELLS_WIDE + NEXT_WIDTH + 2 else CELLS_NARROW


def marks() -> str:
    """The marks that stdout can show."""
    try:
        BARS.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return PLAIN
    return BARS


def draw(console: Console, picture: Timeline, zone: tzinfo, now: datetime) -> None:
    """The ruler, a row for each job, their sum, the legend and the busiest minute."""
    shown = marks()
    cells = len(picture.rows[0].cells)
    local = picture.start.astimezone(zone)
    console.print(Text(f"The next 24 hours, in {zone}, from {moment_text(local, seconds=False)}", "bold"))
    console.print()
    margin = " " * (NAME_WIDTH + 1)
    days, hours = ruler(picture.start, picture.cell, cells, zone)
    console.print(Text(margin + days, "dim"))
    console.print(Text(f"{margin}{hours:<{cells}} next", "dim"))
    for row in picture.rows:
        first = brief(row.first, zone, now) if row.first else "-"
        console.print(line(fitted(row.job), row.cells, shown, "cyan").append(f" {first}"))
    if len(picture.rows) > 1:
        console.print(line("all jobs", picture.sums(), shown, "magenta"))
    console.print()
    minutes = picture.cell // timedelta(minutes=1)
    console.print(Text(f"{legend(shown)} fires in {minutes} minutes", "dim"))
    console.print(summary(picture, zone))


def summary(picture: Timeline, zone: tzinfo) -> Text:
    """How much there is in all, and when most of it comes."""
    total = sum(row.total for row in picture.rows)
    estimated = [row.job for row in picture.rows if row.estimated]
    text = Text(f"{'About ' if estimated else ''}{total:,} fires in all.")
    if picture.busiest:
        when = moment_text(picture.busiest.minute.astimezone(zone), seconds=False)
        text.append(" Busiest minute: ")
        text.append(f"{when}, {picture.busiest.fires} fires", "bold yellow")
        text.append(f"\n  {names(picture.busiest.jobs)}")
    if estimated:
        text.append(f"\n  not counted there, since so frequent: {names(estimated)}")
    return text


def line(label: str, cells: tuple[int, ...], shown: str, style: str) -> Text:
    """One row: the label and its marks."""
    text = Text(f"{label:<{NAME_WIDTH}} ")
    for count in cells:
        text.append(mark(count, shown), style if count else "dim")
    return text


def mark(count: int, shown: str) -> str:
    """The mark for so many fires in a cell."""
    return shown[sum(count >= step for step in STEPS)]


def legend(shown: str) -> str:
    """What the marks mean."""
    ends = [*(step - 1 for step in STEPS[1:]), None]
    words = [f"{shown[0]} 0"]
    for sign, low, high in zip(shown[1:], STEPS, ends, strict=True):
        words.append(f"{sign} {low}" if low == high else f"{sign} {low}-{high}" if high else f"{sign} {low}+")
    return "  ".join(words)


def brief(moment: datetime, zone: tzinfo, now: datetime) -> str:
    """Sun 02:15 within six days, else 24 Dec 2026."""
    local = moment.astimezone(zone)
    if moment - now < timedelta(days=6):
        return f"{WEEKDAYS[local.weekday()]} {local:%H:%M}"
    return f"{local.day:2} {MONTHS[local.month - 1]} {local.year}"


def fitted(name: str) -> str:
    """A name within its column."""
    shown = escape(name)
    return shown if len(shown) <= NAME_WIDTH else f"{shown[: NAME_WIDTH - 2]}.."


def names(jobs: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    listed = ", ".join(map(escape, jobs[:NAMES_SHOWN]))
    return f"{listed} and {len(jobs) - NAMES_SHOWN} more" if len(jobs) > NAMES_SHOWN else listed
