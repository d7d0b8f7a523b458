"""Amdahl's law and the Universal Scalability Law, fitted to points whose truth is known."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.analysis.laws import Law, Point, fit_amdahl, fit_usl, least_squares, misfit_ratio

WIDTHS = (1, 2, 4, 8, 16, 32)

rates = st.floats(0.001, 10_000)
sigmas = st.floats(0, 1)
kappas = st.floats(0, 0.1)


def points(law: Law, widths: tuple[int, ...] = WIDTHS) -> list[Point]:
    return [Point(width, law.at(width)) for width in widths]


def squares(law: Law, found: list[Point]) -> float:
    return math.fsum(point.weight * (law.at(point.width) / point.throughput_per_s - 1) ** 2 for point in found)


@given(rates, sigmas, kappas)
def test_usl_finds_the_parameters_of_exact_points(rate: float, sigma: float, kappa: float) -> None:
    law = fit_usl(points(Law(rate, sigma, kappa)))
    assert law is not None
    assert law.rate_per_s == pytest.approx(rate, rel=1e-6)
    assert law.sigma == pytest.approx(sigma, abs=1e-6)
    assert law.kappa == pytest.approx(kappa, abs=1e-6)


@given(rates, sigmas)
def test_amdahl_finds_the_parallel_share_of_exact_points(rate: float, share: float) -> None:
    law = fit_amdahl(points(Law(rate, 1 - share)))
    assert law is not None
    assert law.kappa == 0
    assert law.rate_per_s == pytest.approx(rate, rel=1e-6)
    assert law.parallel_share == pytest.approx(share, abs=1e-6)


@given(rates, st.floats(0.02, 0.4), st.floats(0.001, 0.02), st.integers(0, 2**32))
def test_noise_of_two_percent_moves_parameters_little(rate: float, sigma: float, kappa: float, seed: int) -> None:
    chance, true = random.Random(seed), Law(rate, sigma, kappa)
    noisy = [Point(width, true.at(width) * (1 + chance.uniform(-0.02, 0.02))) for width in WIDTHS]
    law = fit_usl(noisy)
    assert law is not None
    assert law.rate_per_s == pytest.approx(rate, rel=0.15)
    assert law.sigma == pytest.approx(sigma, abs=0.15)
    assert law.kappa == pytest.approx(kappa, rel=0.3, abs=0.005)
    assert misfit_ratio(law, noisy) < 0.05


@settings(max_examples=200)
@given(st.lists(st.floats(0.01, 1000), min_size=3, max_size=6), st.integers(0, 2**32))
def test_no_law_within_the_bounds_is_nearer_to_any_points(throughputs: list[float], seed: int) -> None:
    found = [Point(width, each) for width, each in zip(WIDTHS, throughputs, strict=False)]
    chance = random.Random(seed)
    for law, spread in ((fit_amdahl(found), 0.0), (fit_usl(found), 1.0)):
        assert law is not None
        assert 0 <= law.sigma <= 1
        assert law.kappa >= 0
        assert law.rate_per_s > 0
        for _ in range(20):  # neighbours: the fit is a valley, if not the deepest of all
            scale = 10 ** chance.uniform(-5, -2)
            other = Law(
                law.rate_per_s * (1 + scale * chance.uniform(-1, 1)),
                min(1.0, max(0.0, law.sigma + scale * chance.uniform(-1, 1))),
                max(0.0, law.kappa + spread * scale * chance.uniform(-1, 1)),
            )
            assert squares(law, found) <= squares(other, found) * 1.001 + 1e-12  # its floor may be flat


def test_usl_is_never_worse_than_amdahl_which_is_a_part_of_it() -> None:
    chance = random.Random(7)
    for _ in range(200):
        found = [Point(width, width ** chance.uniform(-0.5, 1.5)) for width in WIDTHS]
        usl, amdahl = fit_usl(found), fit_amdahl(found)
        assert usl is not None
        assert amdahl is not None
        assert squares(usl, found) <= squares(amdahl, found) * (1 + 1e-9) + 1e-15


def test_equal_throughput_at_all_widths_is_wholly_serial() -> None:
    law = fit_usl([Point(width, 5.0) for width in WIDTHS])
    assert law is not None
    assert law.sigma == pytest.approx(1)
    assert law.kappa == pytest.approx(0, abs=1e-9)


def test_superlinear_throughput_is_fitted_by_the_straight_line() -> None:
    law = fit_usl([Point(width, width**1.3) for width in WIDTHS])
    assert law is not None
    assert (law.sigma, law.kappa) == (0, 0)


def test_fewer_widths_than_parameters_give_no_law() -> None:
    one, two = [Point(1, 3.0)], [Point(1, 3.0), Point(2, 5.0)]
    assert fit_amdahl(one) is None
    assert fit_usl(two) is None
    assert fit_amdahl(two) is not None


def test_widths_need_not_begin_at_one() -> None:
    law = fit_usl(points(Law(10, 0.1, 0.01), (3, 5, 9, 17)))
    assert law is not None
    assert law.at(1) == pytest.approx(10)


def test_a_point_of_more_measurements_weighs_more() -> None:
    level = [Point(1, 10.0), Point(2, 20.0, 100.0), Point(4, 30.0)]
    law = fit_amdahl(level)
    even = fit_amdahl([Point(point.width, point.throughput_per_s) for point in level])
    assert law is not None
    assert even is not None
    assert abs(law.at(2) - 20) < abs(even.at(2) - 20)


def test_throughput_peaks_where_the_law_says() -> None:
    law = Law(10, 0.19, 0.01)
    assert law.peak_width == pytest.approx(9)
    assert law.at(9) > max(law.at(8.5), law.at(9.5))
    assert Law(10, 0.19).peak_width is None


def test_least_squares_solves_and_says_when_it_cannot() -> None:
    solved = least_squares([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]], [3.0, 5.0, 7.0])
    assert solved == pytest.approx([1.0, 2.0])
    assert least_squares([[1.0, 2.0], [2.0, 4.0]], [1.0, 2.0]) is None
    assert least_squares([[1.0, 2.0]], [1.0]) is None
    assert least_squares([[0.0], [0.0]], [1.0, 2.0]) is None


def test_a_law_at_the_bounds_leads_to_one_inside_them() -> None:
    true = Law(10, 0.1, 0.01)
    law = fit_usl(points(true), near=Law(8, 0, 0))
    assert law is not None
    assert (law.rate_per_s, law.sigma, law.kappa) == pytest.approx((10, 0.1, 0.01))
