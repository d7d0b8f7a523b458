"""Draws a scaling analysis, or a simulated month, as a PNG. The only importer of matplotlib, which comes with the extra
`plots`."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tidegate.analysis.laws import Law
from tidegate.analysis.scaling import FittedLaw, Scaling

INCHES: Final = (8.0, 5.0)
DPI: Final = 120
CURVE_POINTS: Final = 200
HEAT_WIDTH, HEAT_DAY, HEAT_FRAME = 9.0, 0.22, 1.6  # inches; a row is readable, and a year is a poster
HOURS: Final = 24
DATES_SHOWN: Final = 40
MEASURED, USL, AMDAHL, ADVISED, LINEAR = "#1b1b1b", "#c1440e", "#2a6f97", "#3a7d44", "#b0b0b0"


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(scaling: Scaling, title: str, path: Path) -> None:
    """Write the PNG: what was measured, from the slowest to the fastest repeat, both laws, the width to use. Raises
    OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator

    rows = scaling.widths
    widths = [row.width for row in rows]
    means = [row.throughput_per_s for row in rows]
    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    first, last = widths[0], widths[-1]
    curve = [first + (last - first) * i / CURVE_POINTS for i in range(CURVE_POINTS + 1)]
    each = means[0] / first
    axes.plot([first, last], [each * first, each * last], color=LINEAR, linestyle=":", label="linear")
    for law, name, colour, style in ((scaling.usl, "USL", USL, "-"), (scaling.amdahl, "Amdahl", AMDAHL, "--")):
        if law is not None:
            axes.plot(curve, [_law(law).at(n) for n in curve], color=colour, linestyle=style, label=_named(law, name))
    below = [row.throughput_per_s - min(row.repeats_per_s) for row in rows]
    above = [max(row.repeats_per_s) - row.throughput_per_s for row in rows]
    label = f"measured, {scaling.repeats} repeats" if scaling.repeats > 1 else "measured once"
    axes.errorbar(widths, means, yerr=[below, above], fmt="o", color=MEASURED, capsize=4, label=label, zorder=3)
    advice = scaling.advice
    sure = "" if advice.certain else " (not certain)"
    if advice.low is not None and advice.high is not None and advice.high > advice.low:
        axes.axvspan(advice.low, advice.high, color=ADVISED, alpha=0.12, linewidth=0)
    axes.axvline(advice.width, color=ADVISED, linewidth=1.5, label=f"recommended: {advice.width}{sure}")
    if first != last:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(widths))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([str(width) for width in widths])
    fastest = max(max(row.repeats_per_s) for row in rows)
    axes.set_ylim(0, fastest * 1.25)  # the straight line may leave it: the data are to be seen
    axes.set_xlabel("items at once")
    axes.set_ylabel("items per second")
    axes.set_title(title.replace("$", r"\$"), fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(loc="best", fontsize=9)
    figure.savefig(path, format="png")


def draw_heat(days: Sequence[tuple[str, Sequence[float | None], Sequence[int | None]]], title: str, path: Path) -> None:
    """Write the PNG: a row for each day, a column for each hour, coloured by how full the machine is (1 is full), with
    the saturated minutes of an hour as a number in it. Raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(HEAT_WIDTH, HEAT_FRAME + HEAT_DAY * len(days)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    cells = [[float("nan") if cell is None else cell for cell in row] for _, row, _ in days]
    image = axes.imshow(cells, cmap="YlOrRd", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
    image.cmap.set_bad("#e8e8e8")
    for y, (_, loads, minutes) in enumerate(days):
        for x, (load, count) in enumerate(zip(loads, minutes, strict=True)):
            if count:
                colour = "white" if (load or 0.0) > 0.6 else "black"
                axes.text(x, y, str(count), ha="center", va="center", fontsize=6, color=colour)
    step = -(-len(days) // DATES_SHOWN)
    axes.set_yticks(range(0, len(days), step), [date for date, _, _ in days][::step], fontsize=7)
    axes.set_xticks(range(HOURS), [f"{hour:02}" for hour in range(HOURS)], fontsize=8)
    axes.set_xlabel("hour of the day; numbers: saturated minutes")
    axes.set_title(title.replace("$", r"\$"), fontsize=11)
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02)
    bar.set_label("the fullest of CPU, memory, slots")
    figure.savefig(path, format="png")


def _law(law: FittedLaw) -> Law:
    return Law(law.rate_per_s.value, law.sigma.value, law.kappa.value if law.kappa else 0.0)


def _named(law: FittedLaw, name: str) -> str:
    if law.kappa is not None:
        return f"{name}: σ = {law.sigma.value:.3f}, κ = {law.kappa.value:.2g}"
    assert law.parallel_share is not None
    return f"{name}: p = {law.parallel_share.value:.3f}"
