"""How a scaling analysis reads on a terminal: lines of plain text. Pure; prints nothing."""

from collections.abc import Sequence
from typing import Final

from tidegate.analysis.scaling import Estimate, FittedLaw, Scaling, WidthRow
from tidegate.model.text import duration

HEADS: Final = ("at once", "items/s", "spread", "speed-up", "Amdahl", "USL", "item p50", "item p95")
WRAP: Final = 80


def table(rows: Sequence[WidthRow]) -> list[str]:
    """A line for each width, beneath a line of heads; a law that was not fitted has no column."""
    cells = [HEADS, *(row_cells(row) for row in rows)]
    kept = [column for column in zip(*cells, strict=True) if any(column[1:])]
    sizes = [max(map(len, column)) for column in kept]
    lines = zip(*kept, strict=True)
    return ["  " + "  ".join(f"{cell:>{size}}" for cell, size in zip(line, sizes, strict=True)) for line in lines]


def row_cells(row: WidthRow) -> tuple[str, ...]:
    """In the order of the heads; "" where there is nothing to tell."""
    return (
        str(row.width),
        rate(row.throughput_per_s),
        "" if row.spread_ratio is None else f"{row.spread_ratio:.1%}",
        f"{row.speedup:.2f}",
        "" if row.amdahl_per_s is None else rate(row.amdahl_per_s),
        "" if row.usl_per_s is None else rate(row.usl_per_s),
        duration(row.item_p50_s),
        duration(row.item_p95_s),
    )


def rate(amount_per_s: float) -> str:
    """Three digits that count, and no fewer before the point."""
    return f"{amount_per_s:.0f}" if amount_per_s >= 100 else f"{amount_per_s:#.3g}"


def law_lines(scaling: Scaling) -> list[str]:
    """Both laws with their parameters; why one is missing."""
    lines = []
    if scaling.amdahl is not None and scaling.amdahl.parallel_share is not None:
        lines.append(f"Amdahl  {estimate('p', scaling.amdahl.parallel_share)}{off(scaling.amdahl)}")
    else:
        lines.append("Amdahl  not fitted: it needs 2 widths")
    usl = scaling.usl
    if usl is not None and usl.kappa is not None:
        peak = f", peak at {usl.peak_width:.0f}" if usl.peak_width is not None else ", no peak"
        lines.append(f"USL     {estimate('σ', usl.sigma)}, {estimate('κ', usl.kappa)}{peak}{off(usl)}")
    else:
        lines.append("USL     not fitted: it needs 3 widths")
    return lines


def estimate(name: str, found: Estimate) -> str:
    """p = 0.93 (0.91 to 0.95)"""
    if found.low is None or found.high is None:
        return f"{name} = {found.value:.3g}"
    return f"{name} = {found.value:.3g} ({found.low:.3g} to {found.high:.3g})"


def off(law: FittedLaw) -> str:
    """How well it fits."""
    return f"; off by up to {law.misfit_ratio:.0%}"


def advice_line(scaling: Scaling) -> str:
    """The width, its interval, and the reason."""
    advice = scaling.advice
    between = ""
    if advice.low is not None and advice.high is not None:
        between = f" (95 %: {advice.low} to {advice.high})" if advice.low != advice.high else " (95 %: the same)"
    return f"Recommended: {advice.width} at once{between}{', not certain' if not advice.certain else ''}"
