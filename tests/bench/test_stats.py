"""The statistics the benchmarks rest on, and the claims that are computed from them."""

from pathlib import Path

import pytest
from tests.bench import bench as names
from tests.bench import claims, daemon, jobs, report, stats


def test_nearest_rank_gives_a_value_that_was_measured():
    assert stats.nearest_rank([4, 1, 3, 2], 50) == 2
    assert stats.nearest_rank(range(1, 101), 99) == 99
    assert stats.nearest_rank(range(1, 61), 99) == 60
    assert stats.nearest_rank([7], 1) == 7


def test_a_percentile_of_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing"):
        stats.nearest_rank([], 50)


def test_a_second_that_was_left_out_makes_the_following_ones_late():
    stamps = [(10_000_000_000 + late, "-", "-") for late in (1_000_000, 2_001_000_000, 3_002_000_000)]
    assert stats.second_lateness_ms(stamps, 10, 4) == [1.0, 1001.0, 1002.0]


def test_stamps_before_the_first_second_are_not_counted():
    assert stats.second_lateness_ms([(9_999_000_000, "-", "-"), (10_003_000_000, "-", "-")], 10, 1) == [3.0]


def test_lateness_is_against_the_instant_that_the_job_was_told(tmp_path: Path):
    file = tmp_path / "stamps"
    file.write_text(
        "1767225600012000000 a 2026-01-01T00:00:00+00:00\n1767225600262000000 b 2026-01-01T01:00:00.25+01:00\n"
    )
    assert stats.lateness_ms(stats.read_stamps(file)) == pytest.approx([12, 12])


def test_goals_are_judged_by_medians_over_rounds():
    raw = {
        "runs": 2000,
        "elapsed_s_and_cpu_s": {
            names.PYTHON_FLOOR: [(1.0, 1)],
            names.HUEY: [(1.7, 1)],
            names.DRAMATIQ: [(9, 1), (1.2, 1), (1.4, 1)],
            names.TIDEGATE: [(9, 1), (1.5, 1), (1.8, 1)],
        },
    }
    half, most, huey, dramatiq = claims.throughput(raw)
    assert half.met
    assert half.reached == "1111 a second, 0.56 × 2000"
    assert not most.met
    assert not huey.met and not dramatiq.met
    assert dramatiq.reached == "1111 a second against 1429"


def test_what_a_durable_claim_adds_is_the_difference_of_two_medians():
    def round_of(queued_ms: float) -> dict[str, list[float]]:
        return {"queued": [1.0, queued_ms, 99.0], "asked": [2.0, queued_ms + 1, 99.0]}

    kinds = {"full": (4.0, 5.5, 9.0), "normal": (3.0, 3.0, 3.0), "free": (2.0, 2.0, 7.0)}
    raw = {"fires": 3, "ms": {kind: [round_of(ms) for ms in of] for kind, of in kinds.items()}, "sync_ms": [[0.3]]}
    queued, asked = claims.claim(raw)
    assert not queued.met and queued.reached == "+3.50 ms (2.00 → 5.50 ms)"
    assert asked.reached == "+3.50 ms (3.00 → 6.50 ms)"
    raw["ms"]["full"] = raw["ms"]["normal"]
    assert all(one.met for one in claims.claim(raw))


def test_readers_are_judged_by_how_far_the_p99_moves():
    raw = {"asked": [{}], "clients": 100, "late_ms": {"quiet": [[1.0, 5.0]], "read": [[1.0, 14.9], [1.0, 15.1]]}}
    assert [(one.met, one.reached) for one in claims.readers(raw)] == [(False, "+10.0 ms (5.0 → 15.0 ms)")]
    raw["late_ms"]["read"] = [[1.0, 14.9]]
    assert [one.met for one in claims.readers(raw)] == [True]


def test_the_keeper_is_judged_by_its_largest_round():
    def sizes(pss_mib: float) -> dict[str, float]:
        return {"pss_mib": pss_mib}

    raw = {"held": 100, "rounds": [{"idle": sizes(6), "held": sizes(7)}, {"idle": sizes(5), "held": sizes(12.1)}]}
    assert [one.met for one in claims.keeper(raw)] == [True, False]


def test_each_part_has_its_goals_and_its_section():
    assert claims.CLAIMS.keys() == report.SECTIONS.keys()
    found = {path.stem for path in Path(claims.__file__).with_name("parts").glob("[!_]*.py")}
    assert found == claims.CLAIMS.keys()


def test_idle_jobs_are_not_due_soon():
    now_s = 1_767_225_600 + 23 * 3600  # 23:00 UTC
    for number in range(3000):
        minute, hour, *_ = jobs.idle_cron(number, now_s).split()
        ahead = (int(hour) * 60 + int(minute) - 23 * 60) % 1440
        assert jobs.FAR_MINUTES <= ahead <= 1440 - jobs.FAR_MINUTES


def test_an_instant_is_written_as_toml_has_it():
    assert jobs.toml_instant(1_767_225_600) == "2026-01-01T00:00:00Z"
    assert jobs.toml_instant(1_767_225_600.25) == "2026-01-01T00:00:00.250000Z"


def test_the_event_of_a_log_line_is_read_with_and_without_a_space():
    assert daemon.event_of(b'{"event":"run.finished","job":"x"}') == "run.finished"
    assert daemon.event_of(b'{"time": 1, "event": "run.finished"}') == "run.finished"
    assert daemon.event_of(b"not json") == ""
