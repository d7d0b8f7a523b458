"""Nights on machines that are too small: everything ends, nothing is killed by the kernel, nothing waits for ever."""

import pressure

from tidegate.model.run import Outcome

SEEDS = 100


def test_nights_under_pressure_end_with_every_run_accounted_for_and_none_killed_by_the_kernel() -> None:
    worlds = {seed: pressure.play(seed) for seed in range(SEEDS)}
    runs = sum(len(world.finished) for world in worlds.values())
    kills = {seed: world.oom_kills for seed, world in worlds.items() if world.oom_kills}
    evictions = sum(world.evictions for world in worlds.values())
    freezes = sum(world.freezes for world in worlds.values())
    print(f"\n{SEEDS} nights, {runs} runs, {evictions} evictions, {freezes} freezes, kernel kills by seed: {kills}")
    failed = [
        (seed, run.run_id, run.outcome, run.reason)
        for seed, world in worlds.items()
        for run in world.finished
        if run.outcome is not Outcome.SUCCEEDED and not world.lone_kills
    ]
    assert not kills
    assert not failed
    assert runs > 2000
