"""PNG plots of the pool's raw results, beside them: the limit over time, memory over time. The only one of the
benchmarks that imports matplotlib, and only when there is something to draw."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench.fetch import missing
from tests.bench.pool.goals import ROWS
from tests.bench.pool.loads import CELL_BYTES, MIB
from tests.bench.pool.names import NAIVE, OURS

Raw = dict[str, Any]
INCHES = (9.0, 2.6)  # of one panel
DPI = 110
COLOURS = {OURS: "#c1440e", NAIVE: "#2a6f97"}
GREY = "#909090"


def draw(results: dict[str, Raw], folder: Path) -> None:
    """One picture for each part that has one."""
    drawn: dict[str, Callable[[Raw], list[Callable[[Any], None]]]] = {
        "pool": makespans,
        "pool_memory": memory,
        "pool_company": company,
    }
    if not any(part in results for part in drawn):
        return
    if importlib.util.find_spec("matplotlib") is None:
        missing("plots", "matplotlib is not installed")
        return
    for part, panels in drawn.items():
        if part in results:
            picture(panels(results[part]["data"]), folder / f"{part}.png")


def picture(panels: Sequence[Callable[[Any], None]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(INCHES[0], INCHES[1] * len(panels)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for number, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(len(panels), 1, number)
        panel(axes)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("s")
        axes.grid(alpha=0.25)
        axes.legend(loc="best", fontsize=8)
    figure.savefig(path, format="png")


def steps(axes: Any, trace: Sequence[Sequence[float]], label: str, colour: str) -> None:
    axes.step([at_s for at_s, _ in trace], [many for _, many in trace], where="post", label=label, color=colour)


def makespans(raw: Raw) -> list[Callable[[Any], None]]:
    def panel(row: str) -> Callable[[Any], None]:
        def onto(axes: Any) -> None:
            one = raw[row]
            for name, trace in one["limits"].items():
                steps(axes, trace, name, COLOURS[name])
            axes.axhline(one["best"], color=GREY, linestyle="--", label=f"best fixed size: {one['best']}")
            axes.set_title(one["words"], fontsize=10)
            axes.set_ylabel("at once")

        return onto

    return [panel(row) for row in ROWS if row in raw]


def memory(raw: Raw) -> list[Callable[[Any], None]]:
    def hogs(name: str) -> Callable[[Any], None]:
        def onto(axes: Any) -> None:
            trace = raw["hogs"][name][-1]["used_mib"]
            first_s = trace[0][0]
            axes.plot(
                [at_s - first_s for at_s, _ in trace], [used for _, used in trace], color=COLOURS[OURS], label=name
            )
            axes.axhline(CELL_BYTES / MIB, color=GREY, linestyle="--", label="the limit")
            axes.set_title(f"hogs, {name}", fontsize=10)
            axes.set_ylabel("MiB")

        return onto

    def neighbour(axes: Any) -> None:
        one = raw["neighbour"]
        steps(axes, one["running"], "running", COLOURS[OURS])
        axes.axvspan(one["comes_s"], one["leaves_s"], color=GREY, alpha=0.15, label="a neighbour takes memory")
        axes.set_ylabel("at once")

    return [hogs("cold"), hogs("warm"), neighbour]


def company(raw: Raw) -> list[Callable[[Any], None]]:
    def neighbour(axes: Any) -> None:
        one = raw["neighbour"]
        steps(axes, one["limits"], "limit", COLOURS[OURS])
        axes.axvspan(one["comes_s"], one["leaves_s"], color=GREY, alpha=0.15, label="two CPU hogs")
        axes.set_ylabel("at once")

    def burst(axes: Any) -> None:
        one = raw["burst"]
        steps(axes, one["limits"], "limit, mixed", COLOURS[OURS])
        steps(axes, raw["steady"]["limits"], "limit, CPU", COLOURS[NAIVE])
        axes.axhline(one["best"], color=GREY, linestyle="--", label=f"best fixed size: {one['best']}")
        axes.set_title("burst of 500, and steady loads", fontsize=10)
        axes.set_ylabel("at once")

    return [neighbour, burst]
