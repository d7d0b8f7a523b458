"""From samples to a recommended width: right where the truth is known, and honest where the data cannot tell."""

import random
from pathlib import Path

import pytest

from tidegate.analysis.laws import Law
from tidegate.analysis.measure import Span, throughput_per_s
from tidegate.analysis.plot import draw
from tidegate.analysis.scaling import Sample, Scaling, analyse
from tidegate.cli.scaling_table import law_lines, rate, table

WIDTHS = (1, 2, 4, 8, 16)
ITEM_S = (0.1,) * 20


def samples(
    law: Law, noise: float = 0.0, drift: float = 0.0, seed: int = 1, repeats: int = 3, widths: tuple[int, ...] = WIDTHS
) -> list[Sample]:
    """As a machine would show them: `noise` of each measurement, `drift` of each repeat as a whole."""
    chance = random.Random(seed)
    whole = [chance.gauss(1, drift) for _ in range(repeats)]
    return [
        Sample(width, number, law.at(width) * whole[number] * chance.gauss(1, noise), ITEM_S)
        for number in range(repeats)
        for width in widths
    ]


def level(throughputs: dict[int, float], repeats: int = 3, noise: float = 0.005) -> list[Sample]:
    """Throughputs of any shape."""
    chance = random.Random(1)
    return [
        Sample(width, number, each * chance.gauss(1, noise), ITEM_S)
        for number in range(repeats)
        for width, each in throughputs.items()
    ]


def best(law: Law) -> int:
    """The smallest within 5 %, by the truth."""
    top = max(law.at(width) for width in range(1, 17))
    return next(width for width in range(1, 17) if law.at(width) >= 0.95 * top)


def warnings(scaling: Scaling) -> str:
    return "\n".join(scaling.warnings)


def test_recommends_the_smallest_within_five_percent_of_the_best() -> None:
    law = Law(10, 0.08, 0.004)
    advice = analyse(samples(law), 16).advice
    assert (advice.width, advice.basis, advice.certain) == (best(law), "usl", True)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    law, held = Law(10, 0.08, 0.004), [0, 0, 0]
    for seed in range(12):
        found = analyse(samples(law, 0.02, 0.1, seed), 16)
        assert found.usl is not None
        assert found.advice.low is not None
        assert found.advice.high is not None
        for i, (estimate, true) in enumerate(((found.usl.sigma, law.sigma), (found.usl.kappa, law.kappa))):
            assert estimate is not None
            assert estimate.low is not None
            assert estimate.high is not None
            assert estimate.low <= estimate.value <= estimate.high
            held[i] += estimate.low <= true <= estimate.high
        held[2] += found.advice.low <= best(law) <= found.advice.high
    assert min(held) >= 9


def test_what_slows_a_whole_repeat_does_not_blur_the_comparison_of_widths() -> None:
    law = Law(10, 0.08, 0.004)
    drifting, noisy = analyse(samples(law, 0.002, 0.2), 16), analyse(samples(law, 0.2), 16)
    assert drifting.usl is not None
    assert noisy.usl is not None
    assert drifting.usl.sigma.high is not None
    assert drifting.usl.sigma.low is not None
    assert noisy.usl.sigma.high is not None
    assert noisy.usl.sigma.low is not None
    assert drifting.usl.sigma.high - drifting.usl.sigma.low < 0.05
    assert noisy.usl.sigma.high - noisy.usl.sigma.low > 0.1
    assert drifting.advice.width == best(law)


def test_a_kink_that_no_law_follows_is_read_from_the_measurements() -> None:
    found = analyse(level({1: 5, 2: 10, 4: 10, 8: 10, 16: 10}), 2)
    assert (found.advice.width, found.advice.basis, found.advice.certain) == (2, "measured", True)
    assert "no law fits" in found.advice.reason


def test_throughput_that_still_rises_is_no_certain_end() -> None:
    found = analyse(samples(Law(10, 0, 0), 0.005), 16)
    assert (found.advice.width, found.advice.certain) == (16, False)
    assert "still rises at 16" in found.advice.reason


def test_a_law_that_has_not_levelled_off_is_no_certain_end() -> None:
    found = analyse(samples(Law(4, 0.126, 0), 0.01, widths=(1, 2, 4, 8, 12)), 16)
    assert found.advice.basis == "usl"
    assert found.advice.width in (10, 11)
    assert not found.advice.certain


def test_equal_throughput_needs_one_worker() -> None:
    found = analyse(level(dict.fromkeys(WIDTHS, 5.0), noise=0), 16)
    assert (found.advice.width, found.advice.certain) == (1, True)


def test_superlinear_throughput_is_told() -> None:
    found = analyse(level({1: 1, 2: 2.6, 4: 7, 8: 18, 16: 40}), 16)
    assert "2, 4, 8, 16 at once grows faster than the width" in warnings(found)
    assert found.advice.width == 16
    assert "faster than the width" not in warnings(analyse(samples(Law(10, 0)), 16))


def test_one_width_tells_nothing_about_others() -> None:
    found = analyse(level({4: 5}), 16)
    assert (found.amdahl, found.usl) == (None, None)
    assert (found.advice.width, found.advice.certain) == (4, False)
    assert "one width says nothing" in found.advice.reason


def test_two_widths_have_amdahl_alone() -> None:
    found = analyse(level({1: 5, 2: 9}), 16)
    assert found.amdahl is not None
    assert found.usl is None
    assert found.advice.basis == "amdahl"
    assert "needs 3 widths" in "\n".join(law_lines(found))


def test_one_repeat_has_no_interval_and_is_not_certain() -> None:
    found = analyse(samples(Law(10, 0.08, 0.004), repeats=1), 16)
    assert found.usl is not None
    assert (found.usl.sigma.low, found.usl.sigma.high, found.advice.low) == (None, None, None)
    assert not found.advice.certain
    assert "--repeat" in found.advice.reason


def test_wild_data_are_said_to_tell_nothing() -> None:
    found = analyse(samples(Law(10, 0.1, 0.01), noise=0.4, seed=3), 16)
    assert not found.advice.certain
    assert "cannot tell: anything from" in found.advice.reason
    assert "differ by more than 10%" in warnings(found)


def test_the_same_samples_give_the_same_answer_in_any_order() -> None:
    given = samples(Law(10, 0.08, 0.004), 0.05)
    assert analyse(given, 16) == analyse(list(reversed(given)), 16)


def test_more_than_the_cores_and_short_items_are_warned_of() -> None:
    found = analyse([Sample(width, 1, float(width), (0.004,)) for width in (1, 2, 4)], 2)
    assert "4 at once are more than the 2 usable cores" in warnings(found)
    assert "an item takes 4.0 ms" in warnings(found)
    quiet = analyse(samples(Law(10, 0.08, 0.004)), 16)
    assert quiet.warnings == ()


# --- throughput -------------------------------------------------------------------------------------------


def test_throughput_counts_while_all_are_at_work() -> None:
    waves = [Span(wave, wave + 1.0) for wave in range(3) for _ in range(4)]
    assert throughput_per_s(waves, 4) == pytest.approx(4)


def test_the_end_with_fewer_at_work_is_not_held_against_the_width() -> None:
    uneven = [Span(0, 1), Span(0, 1), Span(1, 2)]  # the third runs alone
    assert throughput_per_s(uneven, 2) == pytest.approx(2)


def test_items_that_overlap_the_end_count_by_their_share() -> None:
    assert throughput_per_s([Span(0, 2), Span(0, 3), Span(2, 5)], 2) == pytest.approx((1 + 1 + 1 / 3) / 3)


def test_items_too_short_ever_to_be_all_at_once_count_over_the_whole_time() -> None:
    one_by_one = [Span(0, 0.5), Span(0.5, 1), Span(1, 1.5)]
    assert throughput_per_s(one_by_one, 3) == pytest.approx(2)


# --- showing ------------------------------------------------------------------------------------------------


def test_table_has_no_column_for_what_was_not_fitted() -> None:
    head, *rows = table(analyse(level({1: 5, 2: 9}), 16).widths)
    assert "Amdahl" in head
    assert "USL" not in head
    assert len(rows) == 2
    assert {len(row) for row in rows} == {len(head)}


@pytest.mark.parametrize(("amount", "shown"), [(0.0123, "0.0123"), (5, "5.00"), (19.23, "19.2"), (1234.5, "1234")])
def test_rates_show_three_digits(amount: float, shown: str) -> None:
    assert rate(amount) == shown


@pytest.mark.parametrize("widths", [(1,), (1, 2), WIDTHS])
@pytest.mark.parametrize("repeats", [1, 3])
def test_a_picture_is_drawn_of_whatever_was_measured(widths: tuple[int, ...], repeats: int, tmp_path: Path) -> None:
    found = analyse(samples(Law(10, 0.08, 0.004), 0.02, repeats=repeats, widths=widths), 4)
    draw(found, "a $job", tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
