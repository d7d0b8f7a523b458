"""Laws of scaling, fitted to throughputs measured at several widths. Pure; starts nothing, reads no clock.

Gunther's Universal Scalability Law (Guerrilla Capacity Planning, 2007, ch. 4): X(N) = λN / (1 + σ(N−1) + κN(N−1)).
λ is the throughput of one worker, σ the share of the work that waits in line (contention), κ what every pair of workers
costs to agree (coherency). Amdahl's law (AFIPS 1967) is the same with κ = 0 and σ = 1 − p, p being the parallel share.

Errors of measured times are relative, so relative residuals are squared. N/X is linear in 1/λ, σ/λ and κ/λ: that gives
the start, and Gauss–Newton steps on X itself the rest, damped as Marquardt's (1963) where a whole one leads up. The
bounds 0 ≤ σ ≤ 1 and κ ≥ 0 are kept by projection. Points that are far from any law can have several valleys, so one
start is made on each edge of what the bounds allow.
"""

import math
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

STEPS_MAX: Final = 100  # three or four are usual from so near a start
DAMPING_MIN, DAMPING_MAX = 1e-3, 1e9  # beyond, a step is too short to lead anywhere
NEAR: Final = 0.05  # off by no more anywhere: there is no other valley of any depth
GAIN_MIN: Final = 1e-12  # of the sum of squares: less is rounding
SINGULAR: Final = 1e-12  # a pivot of columns of length 1 below this: the widths cannot tell the parameters apart


class Point(Struct, frozen=True):
    """The mean throughput at one width; `weight` is how many measurements it is the mean of."""

    width: int
    throughput_per_s: float
    weight: float = 1.0


class Law(Struct, frozen=True):
    """Parameters of the law; Amdahl's where `kappa` is 0."""

    rate_per_s: float  # λ
    sigma: float
    kappa: float = 0.0

    def at(self, width: float) -> float:
        """Throughput with so many workers, items a second."""
        return self.rate_per_s * width / self._slowing(width)

    @property
    def parallel_share(self) -> float:
        """Amdahl's p."""
        return 1.0 - self.sigma

    @property
    def peak_width(self) -> float | None:
        """Where throughput is largest; None where it never falls again."""
        return math.sqrt((1.0 - self.sigma) / self.kappa) if self.kappa > 0 else None

    def _slowing(self, width: float) -> float:
        return 1.0 + self.sigma * (width - 1.0) + self.kappa * width * (width - 1.0)


class _Edge(Struct, frozen=True):
    """A part of what the bounds allow: None is free, a number is held there."""

    sigma: float | None
    kappa: float | None


AMDAHL_EDGES: Final = (_Edge(None, 0.0), _Edge(0.0, 0.0), _Edge(1.0, 0.0))
USL_EDGES: Final = (_Edge(None, None), _Edge(0.0, None), _Edge(1.0, None), *AMDAHL_EDGES)
AMDAHL_WIDTHS_MIN: Final = 2
USL_WIDTHS_MIN: Final = 3


def fit_amdahl(points: Sequence[Point], near: Law | None = None) -> Law | None:
    """Amdahl's law through the points; None with fewer widths than parameters. `near`: the law of similar points, whose
    valley is meant."""
    if len(points) < AMDAHL_WIDTHS_MIN:
        return None
    return _fit(points, AMDAHL_EDGES, False) if near is None else _refined(near, points, False)


def fit_usl(points: Sequence[Point], near: Law | None = None) -> Law | None:
    """The Universal Scalability Law through the points; None with fewer widths than parameters. `near`: as above."""
    if len(points) < USL_WIDTHS_MIN:
        return None
    return _fit(points, USL_EDGES, True) if near is None else _refined(near, points, True)


def misfit_ratio(law: Law, points: Sequence[Point]) -> float:
    """By how much the law is off at the width where it is worst, as a share of what was measured there."""
    return max(abs(law.at(point.width) / point.throughput_per_s - 1.0) for point in points)


def _fit(points: Sequence[Point], edges: Sequence[_Edge], with_kappa: bool) -> Law:
    assert all(point.throughput_per_s > 0 for point in points), points
    best: Law | None = None
    for edge in edges:
        law = _linearised(points, edge)
        if law is None:
            continue
        law = _refined(law, points, edge.kappa is None)
        if with_kappa and edge.kappa is not None:
            law = _refined(law, points, True)  # down from the floor that Amdahl's law reaches
        if best is None or _squares(law, points) < _squares(best, points):
            best = law
        if misfit_ratio(best, points) < NEAR:
            break
    assert best is not None, "the edge with one parameter always has a fit"
    return best


def _linearised(points: Sequence[Point], edge: _Edge) -> Law | None:
    """Closed form: N/X = a·1 + b·(N−1) + c·N(N−1), with a = 1/λ, b = σ/λ, c = κ/λ."""
    rows, wanted = [], []
    for point in points:
        n = float(point.width)
        whole = 1.0 + (edge.sigma or 0.0) * (n - 1.0) + (edge.kappa or 0.0) * n * (n - 1.0)
        row = [whole] + [n - 1.0] * (edge.sigma is None) + [n * (n - 1.0)] * (edge.kappa is None)
        scale = math.sqrt(point.weight) * point.throughput_per_s / n
        rows.append([value * scale for value in row])
        wanted.append(math.sqrt(point.weight))
    solved = least_squares(rows, wanted)
    if solved is None or solved[0] <= 0:
        return None
    rest = iter(solved[1:])
    sigma = next(rest) / solved[0] if edge.sigma is None else edge.sigma
    kappa = next(rest) / solved[0] if edge.kappa is None else edge.kappa
    return _projected(1.0 / solved[0], sigma, kappa)


def _refined(law: Law, points: Sequence[Point], with_kappa: bool) -> Law:
    """Down to the floor of its valley, on the relative residuals of X; never out of the bounds."""
    squares, damping = _squares(law, points), 0.0
    for _ in range(STEPS_MAX):
        step = _step(law, points, with_kappa, damping)
        if step is None:
            break
        growth = max(-1.0, min(1.0, step[0]))
        tried = _projected(law.rate_per_s * math.exp(growth), law.sigma + step[1], law.kappa + step[2])
        reached = _squares(tried, points)
        if reached < squares:
            gain, law, squares = squares - reached, tried, reached
            damping = damping / 10 if damping > DAMPING_MIN else 0.0
            if gain <= GAIN_MIN * squares:
                break
        elif damping < DAMPING_MAX:
            damping = max(DAMPING_MIN, damping * 10)
        else:
            break
    return law


def _step(law: Law, points: Sequence[Point], with_kappa: bool, damping: float) -> tuple[float, float, float] | None:
    """The change of log λ, σ and κ; none of what is at its bound and wants beyond. None: nothing to gain."""
    rows, wanted = [], []
    for point in points:
        n, reached = float(point.width), law.at(point.width)
        slowing = law.rate_per_s * n / reached
        scale = math.sqrt(point.weight) * reached / point.throughput_per_s
        rows.append([scale, -scale * (n - 1.0) / slowing, -scale * n * (n - 1.0) / slowing])
        wanted.append(math.sqrt(point.weight) - scale)
    downhill = [math.fsum(row[i] * value for row, value in zip(rows, wanted, strict=True)) for i in range(3)]
    free = [0]
    if (law.sigma > 0 or downhill[1] > 0) and (law.sigma < 1 or downhill[1] < 0):
        free.append(1)
    if with_kappa and (law.kappa > 0 or downhill[2] > 0):
        free.append(2)
    kept = [[row[i] for i in free] for row in rows]
    if damping:
        lengths = [math.sqrt(math.fsum(row[i] * row[i] for row in kept)) for i in range(len(free))]
        kept += [
            [math.sqrt(damping) * lengths[i] if i == j else 0.0 for j in range(len(free))] for i in range(len(free))
        ]
        wanted += [0.0] * len(free)
    solved = least_squares(kept, wanted)
    if solved is None:
        return None
    change = dict(zip(free, solved, strict=True))
    return change[0], change.get(1, 0.0), change.get(2, 0.0)


def _projected(rate_per_s: float, sigma: float, kappa: float) -> Law:
    """The nearest within the bounds."""
    return Law(rate_per_s, max(0.0, min(1.0, sigma)), max(0.0, kappa))


def _squares(law: Law, points: Sequence[Point]) -> float:
    return math.fsum(point.weight * (law.at(point.width) / point.throughput_per_s - 1.0) ** 2 for point in points)


def least_squares(rows: Sequence[Sequence[float]], wanted: Sequence[float]) -> list[float] | None:
    """The x that brings rows·x nearest to `wanted`, by normal equations; None where the rows do not settle it.

    Columns are brought to length 1 first: N(N−1) is ten thousand times 1 at N = 100, and its square more.
    """
    count = len(rows[0])
    if len(rows) < count:
        return None
    lengths = [math.sqrt(math.fsum(row[i] * row[i] for row in rows)) for i in range(count)]
    if not all(lengths):
        return None
    scaled = [[value / length for value, length in zip(row, lengths, strict=True)] for row in rows]
    matrix = [
        [math.fsum(row[i] * row[j] for row in scaled) for j in range(count)]
        + [math.fsum(row[i] * value for row, value in zip(scaled, wanted, strict=True))]
        for i in range(count)
    ]
    for i in range(count):
        pivot = max(range(i, count), key=lambda j: abs(matrix[j][i]))
        matrix[i], matrix[pivot] = matrix[pivot], matrix[i]
        if abs(matrix[i][i]) < SINGULAR:
            return None
        for j in range(i + 1, count):
            factor = matrix[j][i] / matrix[i][i]
            matrix[j] = [value - factor * above for value, above in zip(matrix[j], matrix[i], strict=True)]
    solved = [0.0] * count
    for i in reversed(range(count)):
        known = math.fsum(matrix[i][j] * solved[j] for j in range(i + 1, count))
        solved[i] = (matrix[i][count] - known) / matrix[i][i]
    return [value / length for value, length in zip(solved, lengths, strict=True)]
