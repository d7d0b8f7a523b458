"""kill -9 at any instant, and the account is still true. `make torture` does the same a thousand times."""

import pytest
from driver import Driver, Shape

from tidegate.failpoint import NAMES

pytestmark = pytest.mark.live


def tortured(shape, folder, capsys):
    driver = Driver(shape, folder)
    try:
        outcome = driver.run()
    finally:
        driver.scene.clean_up()
    with capsys.disabled():
        print(f"\n{outcome}")
    return outcome


@pytest.mark.timeout(300)  # thirty lives: under a minute on a quiet machine
def test_thirty_kills_lose_nothing_double_nothing_and_make_nothing_a_success(tmp_path, capsys):
    outcome = tortured(Shape(seed=1, kills=30), tmp_path / "scene", capsys)
    assert outcome.findings == []
    assert outcome.totals["kills"] == 30
    assert outcome.totals["starts"] > 100
    assert outcome.totals["unknown"] == 0  # the keeper lived, and knew
    assert set(outcome.reached) == set(NAMES)


def test_with_the_keeper_killed_too_nothing_is_a_success_by_guess(tmp_path, capsys):
    outcome = tortured(Shape(seed=2, kills=5, runs=150, keeper_kills=5), tmp_path / "scene", capsys)
    assert outcome.findings == []
    assert outcome.totals["keeper kills"] > 0
    assert outcome.totals["unknown"] > 0
