"""From measured throughputs to laws with confidence and a recommended width. Pure: the same samples give the same
answer, and chance comes from a fixed seed. Measures nothing, prints nothing."""

import math
import random
from collections.abc import Sequence
from statistics import fmean, median
from typing import Final

from msgspec import Struct

from tidegate.analysis.laws import Law, Point, fit_amdahl, fit_usl, misfit_ratio
from tidegate.model.text import counted

TOLERANCE: Final = 0.05  # of the best throughput: giving up so much is worth fewer workers
RESAMPLES: Final = 500  # 2.5 % at each end are 12 of them: intervals repeat to about a tenth of their width
CONFIDENCE: Final = 0.95
REMAINDER_MIN: Final = 0.01  # of a throughput, however wild the errors: none is ever zero or below
SEED: Final = 1  # the same measurement always reads the same
ERRORS_ALLOWED: Final = 3.0  # standard errors that a law may miss a width by before it is no law for these data
VAGUE_RATIO: Final = 2.0  # an interval of widths that ends at this many times its beginning tells little
ITEM_S_MIN: Final = 0.02  # starting a process takes 1 to 3 ms: under this it is what is measured
NOISE_MAX: Final = 0.1  # spread between repeats, relative
RISING: Final = 0.8  # of the widest: where so many are not enough, throughput has not levelled off
SUPERLINEAR: Final = 1.05  # throughput per worker over that at the narrowest width: more is no chance


class Sample(Struct, frozen=True):
    """One measurement: so many at once, which repeat, items a second while all were at work, seconds of each item."""

    width: int
    repeat: int
    throughput_per_s: float
    item_s: tuple[float, ...]


class Estimate(Struct, frozen=True):
    """A value and the ends of its 95 % interval; None where one repeat has no spread."""

    value: float
    low: float | None = None
    high: float | None = None


class WidthRow(Struct, frozen=True, kw_only=True):
    """What was measured at one width. `spread_ratio`: standard deviation of the repeats over their mean."""

    width: int
    throughput_per_s: float
    repeats_per_s: tuple[float, ...]
    spread_ratio: float | None
    speedup: float  # over the narrowest width
    items: int
    item_p50_s: float
    item_p95_s: float
    amdahl_per_s: float | None
    usl_per_s: float | None


class FittedLaw(Struct, frozen=True, kw_only=True):
    """A law with confidence. Amdahl's has no `kappa` and no `peak_width`; `parallel_share` is its p."""

    rate_per_s: Estimate
    sigma: Estimate
    kappa: Estimate | None
    parallel_share: Estimate | None
    peak_width: float | None
    misfit_ratio: float


class Advice(Struct, frozen=True, kw_only=True):
    """The width to use. `basis`: usl, amdahl or measured. Not `certain`: `reason` says what the data cannot tell."""

    width: int
    low: int | None
    high: int | None
    basis: str
    certain: bool
    reason: str


class Scaling(Struct, frozen=True, kw_only=True):
    """Everything that the samples tell."""

    repeats: int
    widths: tuple[WidthRow, ...]
    amdahl: FittedLaw | None
    usl: FittedLaw | None
    advice: Advice
    warnings: tuple[str, ...]


class _Fits(Struct, frozen=True):
    """Points with both laws through them."""

    points: tuple[Point, ...]
    amdahl: Law | None
    usl: Law | None


def analyse(samples: Sequence[Sample], cores: int) -> Scaling:
    """Fit, bound, recommend and warn. There must be a sample; throughputs are positive."""
    assert samples and all(sample.throughput_per_s > 0 for sample in samples), samples
    samples = sorted(samples, key=lambda sample: (sample.width, sample.repeat))
    series: dict[int, list[float]] = {}
    for sample in samples:
        series.setdefault(sample.width, []).append(sample.throughput_per_s)
    fits = _fitted([Point(width, fmean(values), len(values)) for width, values in series.items()])
    noise = _noise(samples, series)
    others = _resampled(fits, series, noise)
    basis = _basis(fits, noise)
    return Scaling(
        repeats=max(map(len, series.values())),
        widths=_rows(samples, series, fits),
        amdahl=None if fits.amdahl is None else _with_confidence(fits.amdahl, fits, [each.amdahl for each in others]),
        usl=None if fits.usl is None else _with_confidence(fits.usl, fits, [each.usl for each in others]),
        advice=_advice(fits, others, basis),
        warnings=tuple(_warnings(samples, series, cores)),
    )


def _fitted(points: list[Point], near: _Fits | None = None) -> _Fits:
    if near is None:
        return _Fits(tuple(points), fit_amdahl(points), fit_usl(points))
    return _Fits(tuple(points), fit_amdahl(points, near.amdahl), fit_usl(points, near.usl))


def _rows(samples: Sequence[Sample], series: dict[int, list[float]], fits: _Fits) -> tuple[WidthRow, ...]:
    first = fmean(next(iter(series.values())))
    rows = []
    for width, values in series.items():
        took_s = sorted(taken_s for sample in samples if sample.width == width for taken_s in sample.item_s)
        rows.append(
            WidthRow(
                width=width,
                throughput_per_s=fmean(values),
                repeats_per_s=tuple(values),
                spread_ratio=_spread_ratio(values),
                speedup=fmean(values) / first,
                items=len(took_s),
                item_p50_s=_quantile(took_s, 0.5),
                item_p95_s=_quantile(took_s, 0.95),
                amdahl_per_s=fits.amdahl.at(width) if fits.amdahl else None,
                usl_per_s=fits.usl.at(width) if fits.usl else None,
            )
        )
    return tuple(rows)


def _spread_ratio(values: Sequence[float]) -> float | None:
    """Standard deviation over mean; None of one value."""
    if len(values) < 2:
        return None
    mean = fmean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)) / mean


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


# --- confidence -----------------------------------------------------------------------------------------


class _Noise(Struct, frozen=True):
    """Relative errors, grown to what they would be around the truth instead of around their own means. `whole`: what
    slowed or sped a repeat as a whole, which changes no comparison of widths; `single`: what is left."""

    whole: tuple[float, ...]
    single: tuple[float, ...]
    whole_freedom: int  # of how many errors each is known: the more, the surer their size
    single_freedom: int

    @property
    def single_ratio(self) -> float:
        """Standard deviation of one measurement."""
        return math.sqrt(fmean(error * error for error in self.single)) if self.single else 0.0


def _noise(samples: Sequence[Sample], series: dict[int, list[float]]) -> _Noise | None:
    """Widths and repeats taken apart, as two effects that multiply; None where no width has two repeats."""
    repeats = sorted({sample.repeat for sample in samples})
    if len(repeats) < 2 or max(map(len, series.values())) < 2:
        return None
    ratios = {
        number: [each.throughput_per_s / fmean(series[each.width]) for each in samples if each.repeat == number]
        for number in repeats
    }
    means = {number: fmean(found) for number, found in ratios.items()}
    grown = math.sqrt(len(repeats) / (len(repeats) - 1))
    if len(series) < 2:
        return _Noise((0.0,), tuple((mean - 1.0) * grown for mean in means.values()), 1, len(repeats) - 1)
    more = grown * math.sqrt(len(series) / (len(series) - 1))
    return _Noise(
        tuple((mean - 1.0) * grown for mean in means.values()),
        tuple((ratio / means[number] - 1.0) * more for number, found in ratios.items() for ratio in found),
        len(repeats) - 1,
        (len(repeats) - 1) * (len(series) - 1),
    )


def _widening(freedom: int) -> float:
    """How much wider than the normal's Student's 95 % interval is (Fisher and Cornish 1960): few errors may be small by
    chance."""
    return 1.0 + 1.21 / freedom + 1.44 / freedom**2


def _resampled(fits: _Fits, series: dict[int, list[float]], noise: _Noise | None) -> list[_Fits]:
    """The residual bootstrap over the repeats (Efron and Tibshirani 1993, 9.4): the errors of all widths are one pool,
    since three repeats of one width have too few of their own. Empty without noise to draw from."""
    chance = random.Random(SEED)
    found = []
    for _ in range(RESAMPLES if noise else 0):
        assert noise is not None
        most = max(map(len, series.values()))
        whole = [error * _widening(noise.whole_freedom) for error in chance.choices(noise.whole, k=most)]
        points = []
        for width, values in series.items():
            single = [error * _widening(noise.single_freedom) for error in chance.choices(noise.single, k=len(values))]
            factor = fmean((1.0 + one) * (1.0 + every) for one, every in zip(single, whole, strict=False))
            points.append(Point(width, fmean(values) * max(REMAINDER_MIN, factor), len(values)))
        found.append(_fitted(points, fits))
    return found


def _interval(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    rest = (1.0 - CONFIDENCE) / 2.0
    return _quantile(ordered, rest), _quantile(ordered, 1.0 - rest)


def _estimate(value: float, others: Sequence[float]) -> Estimate:
    return Estimate(value, *_interval(others)) if others else Estimate(value)


def _with_confidence(law: Law, fits: _Fits, others: Sequence[Law | None]) -> FittedLaw:
    known = [other for other in others if other is not None]
    usl = law is fits.usl
    return FittedLaw(
        rate_per_s=_estimate(law.rate_per_s, [other.rate_per_s for other in known]),
        sigma=_estimate(law.sigma, [other.sigma for other in known]),
        kappa=_estimate(law.kappa, [other.kappa for other in known]) if usl else None,
        parallel_share=None if usl else _estimate(law.parallel_share, [other.parallel_share for other in known]),
        peak_width=law.peak_width,
        misfit_ratio=misfit_ratio(law, fits.points),
    )


# --- the recommendation -----------------------------------------------------------------------------------


def _basis(fits: _Fits, noise: _Noise | None) -> str:
    """The law with most parameters that these widths settle, unless it misses them by more than chance may."""
    law, name = (fits.usl, "usl") if fits.usl else (fits.amdahl, "amdahl")
    if law is None:
        return "measured"
    repeats = min(point.weight for point in fits.points)
    error = noise.single_ratio / math.sqrt(repeats) if noise else 0.0
    return name if misfit_ratio(law, fits.points) <= max(TOLERANCE, ERRORS_ALLOWED * error) else "measured"


def _curve(fits: _Fits, basis: str) -> list[tuple[int, float]]:
    """Width and throughput of all that may be recommended: inside the measured range, never beyond."""
    law = {"usl": fits.usl, "amdahl": fits.amdahl}.get(basis)
    if law is None:
        return [(point.width, point.throughput_per_s) for point in fits.points]
    return [(width, law.at(width)) for width in range(fits.points[0].width, fits.points[-1].width + 1)]


def _best_width(fits: _Fits, basis: str) -> int:
    """The smallest whose throughput is within the tolerance of the best."""
    curve = _curve(fits, basis)
    best = max(throughput for _, throughput in curve)
    return next(width for width, throughput in curve if throughput >= (1.0 - TOLERANCE) * best)


def _advice(fits: _Fits, others: Sequence[_Fits], basis: str) -> Advice:
    width = _best_width(fits, basis)
    low, high = map(int, _interval([_best_width(each, basis) for each in others])) if others else (None, None)
    doubt = _doubt(fits, width, low, high)
    return Advice(
        width=width, low=low, high=high, basis=basis, certain=not doubt, reason=doubt or _grounds(fits, basis)
    )


def _doubt(fits: _Fits, width: int, low: int | None, high: int | None) -> str:
    """What the data cannot tell, "" where they tell."""
    narrowest, widest = fits.points[0].width, fits.points[-1].width
    if len(fits.points) < 2:
        return "one width says nothing about others; measure more of them"
    if low is None or high is None:
        return "one repeat has no spread, so nobody knows how sure this is; measure with --repeat 3 or more"
    if narrowest < width and width > RISING * widest:
        return f"throughput still rises at {widest}, the widest measured; measure wider to see where it ends"
    if high >= VAGUE_RATIO * low:
        return f"the data cannot tell: anything from {low} to {high} fits them; measure more repeats on a quiet machine"
    return ""


def _grounds(fits: _Fits, basis: str) -> str:
    what = f"the smallest within {TOLERANCE:.0%} of the best between {fits.points[0].width} and {fits.points[-1].width}"
    match basis:
        case "usl":
            return f"{what}, by the Universal Scalability Law"
        case "amdahl":
            return f"{what}, by Amdahl's law"
        case _:
            return f"{what}, of the widths measured: no law fits these data"


def _warnings(samples: Sequence[Sample], series: dict[int, list[float]], cores: int) -> list[str]:
    found = []
    beyond = [width for width in series if width > cores]
    if beyond:
        found.append(
            f"{_listed(beyond)} at once are more than the {counted(cores, 'usable core')}: what computes all the time "
            "gains nothing there"
        )
    first = fmean(series[min(series)]) / min(series)
    faster = [width for width, values in series.items() if fmean(values) / width > SUPERLINEAR * first]
    if faster:
        found.append(
            f"throughput at {_listed(faster)} at once grows faster than the width, which no law here allows: caches "
            "that warm up, or something in the way of the narrow measurements"
        )
    typical_s = median(taken_s for sample in samples for taken_s in sample.item_s if sample.width == min(series))
    if typical_s < ITEM_S_MIN:
        found.append(
            f"an item takes {typical_s * 1000:.1f} ms: starting a process takes 1 to 3 ms and is much of what was "
            "measured; let an item do more"
        )
    noisy = [width for width, values in series.items() if (_spread_ratio(values) or 0.0) > NOISE_MAX]
    if noisy:
        found.append(
            f"repeats at {_listed(noisy)} at once differ by more than {NOISE_MAX:.0%}: the machine was not quiet, or "
            "the items are uneven; measure again, or more items"
        )
    return found


def _listed(widths: Sequence[int]) -> str:
    return ", ".join(map(str, widths))
