"""The shape of [pool]: how many runs at once, and every constant of that decision. No behaviour.

A key is the name of the field of PoolSettings (model/pool.py, which has the reasons) without its unit.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from tidegate.model.limits import QUEUE_RUNS_MAX
from tidegate.settings.meta import default, duration, size


def ratio(description: str, standard: float, least: float, most: float) -> Meta:
    """Meta for a number between two others."""
    return Meta(ge=least, le=most, description=description, extra_json_schema=default(standard))


def count(description: str, standard: int | str, least: int, most: int) -> Meta:
    """Meta for a whole number between two others."""
    return Meta(ge=least, le=most, description=description, extra_json_schema=default(standard))


class RawPool(Struct, frozen=True, forbid_unknown_fields=True):
    """How many runs at once."""

    min: Annotated[int, count("Never fewer slots than this.", 1, 1, QUEUE_RUNS_MAX)] | UnsetType = UNSET
    max: (
        Annotated[
            Literal["auto"] | Annotated[int, Meta(ge=1, le=QUEUE_RUNS_MAX)],
            Meta(description="Never more.", extra_json_schema=default("auto")),
        ]
        | UnsetType
    ) = UNSET
    mode: (
        Annotated[
            Literal["adaptive", "fixed"],
            Meta(
                description="fixed: always max slots, whatever the machine says; memory still counts.",
                extra_json_schema=default("adaptive"),
            ),
        ]
        | UnsetType
    ) = UNSET
    max_per_core: (
        Annotated[int, count('What max = "auto" means, times the cores; min, if that is more.', 32, 1, 10_000)]
        | UnsetType
    ) = UNSET
    interval: Annotated[str, duration("Between two decisions.", "500ms")] | UnsetType = UNSET
    runnable: Annotated[str, duration("Between two counts of the threads that want a core.", "100ms")] | UnsetType = (
        UNSET
    )
    fresh: (
        Annotated[str, duration("The load is a mean over this; of younger runs it has seen only a part.", "1s")]
        | UnsetType
    ) = UNSET
    grow_below: (
        Annotated[
            float, ratio("Threads that want a core, for each core: up to this the limit may grow.", 1.15, 0.1, 100)
        ]
        | UnsetType
    ) = UNSET
    shrink_above: Annotated[float, ratio("Above this it shrinks; in between it stays.", 1.5, 0.1, 100)] | UnsetType = (
        UNSET
    )
    shrink_to: Annotated[float, ratio("What a decrease aims at.", 1.25, 0.1, 100)] | UnsetType = UNSET
    shrink_clear: (
        Annotated[
            float,
            ratio("Above this two readings are enough; below it the mean of some seconds decides.", 4.0, 0.1, 100),
        ]
        | UnsetType
    ) = UNSET
    shrink_most: (
        Annotated[
            float,
            ratio(
                "Share of the slots in use that one decrease leaves at least; its square where a neighbour came.",
                0.5,
                0.01,
                0.99,
            ),
        ]
        | UnsetType
    ) = UNSET
    steady: Annotated[str, duration("Readings of this time make a mean.", "5s")] | UnsetType = UNSET
    crowd: (
        Annotated[float, ratio("Where more of its runs want a core at once, two readings are enough.", 0.75, 0, 100)]
        | UnsetType
    ) = UNSET
    neighbour_cores: (
        Annotated[float, ratio("With more cores used by others, a neighbour came.", 0.5, 0.01, 1000)] | UnsetType
    ) = UNSET
    neighbour_share: Annotated[float, ratio("Of few cores with this share of them.", 0.2, 0.01, 1)] | UnsetType = UNSET
    neighbour_many: Annotated[float, ratio("Of many cores with this share of them.", 0.05, 0, 1)] | UnsetType = UNSET
    crowded: Annotated[
        float, ratio("Above this idle cores are no reason for more, nor against less.", 8.0, 0.1, 1000)
    ] | (UnsetType) = UNSET
    own_min: (
        Annotated[float, ratio("Share of the cores that its runs must use for fewer of them to be of help.", 0.2, 0, 1)]
        | UnsetType
    ) = UNSET
    light: (
        Annotated[float, ratio("Runs that use less of a core on average mostly wait, and more may start.", 0.1, 0, 1)]
        | UnsetType
    ) = UNSET
    idle_full: (
        Annotated[
            float,
            ratio("With less than this idle the machine is full: then threads that wait are too many.", 0.015, 0, 1),
        ]
        | UnsetType
    ) = UNSET
    cooldown: Annotated[str, duration("After a decrease, before another.", "2s")] | UnsetType = UNSET
    idle_min: (
        Annotated[float, ratio("Share of the cores that must idle for the limit to grow.", 0.04, 0, 1)] | UnsetType
    ) = UNSET
    early_idle: (
        Annotated[
            float, ratio("Before it was too high once: with more idle it grows up to a load of `crowded`.", 0.08, 0, 1)
        ]
        | UnsetType
    ) = UNSET
    fill: Annotated[float, ratio("Times what idles, the share by which it then grows.", 2.5, 0.01, 100)] | UnsetType = (
        UNSET
    )
    stride: (
        Annotated[
            float, ratio("Times the limit, that it grows at the most where that just fills the cores.", 4.0, 2, 100)
        ]
        | UnsetType
    ) = UNSET
    in_use_min: (
        Annotated[float, ratio("Share of the limit that must be in use for it to grow.", 0.9, 0, 1)] | UnsetType
    ) = UNSET
    growth: (
        Annotated[
            float,
            ratio(
                "Times the idle share, the share by which the limit grows where it once was too high.", 0.5, 0.01, 10
            ),
        ]
        | UnsetType
    ) = UNSET
    knee_near: (
        Annotated[
            float, ratio("Within this share of the limit that was too high last time it grows by one.", 0.2, 0, 1)
        ]
        | UnsetType
    ) = UNSET
    knee: (
        Annotated[str, duration("And in this time, longer each time that it proves too high again.", "2s")] | UnsetType
    ) = UNSET
    knee_backoff: (
        Annotated[float, ratio("That time grows so many times, each time that it proves too high again.", 8.0, 1, 1000)]
        | UnsetType
    ) = UNSET
    knee_max: Annotated[str, duration("Up to this.", "1m")] | UnsetType = UNSET
    rest: Annotated[str, duration("What of the limit was unused for as long is given up.", "10s")] | UnsetType = UNSET
    cpu_default: (
        Annotated[float, ratio("Cores that a run is taken to use which nobody knows.", 0.25, 0, 1024)] | UnsetType
    ) = UNSET
    io_grow: Annotated[float, ratio("Times io_full: above it the limit does not grow.", 0.75, 0, 1)] | UnsetType = UNSET
    io_full: (
        Annotated[
            float,
            ratio(
                "Share of the time in which nothing got on for want of the disk: above it the limit shrinks.", 0.3, 0, 1
            ),
        ]
        | UnsetType
    ) = UNSET
    memory_reserve: Annotated[float, ratio("Share of the memory limit that stays free.", 0.1, 0, 1)] | UnsetType = UNSET
    memory_reserve_least: Annotated[str, size("At least this stays free.", "512MiB")] | UnsetType = UNSET
    memory_reserve_least_share: (
        Annotated[float, ratio("But of a small machine no more than this share.", 0.15, 0, 1)] | UnsetType
    ) = UNSET
    memory_reserve_most: Annotated[str, size("At most this stays free.", "4GiB")] | UnsetType = UNSET
    memory_reserve_most_share: (
        Annotated[float, ratio("At most this share, with what is added for the fill rate.", 0.25, 0, 1)] | UnsetType
    ) = UNSET
    memory_fill: (
        Annotated[str, duration("The worst fill rate seen, for this time, stays free too.", "300ms")] | UnsetType
    ) = UNSET
    memory_window: (
        Annotated[str, duration("The fill rate is taken over this; at least twice look_max.", "1s")] | UnsetType
    ) = UNSET
    memory_falling: (
        Annotated[float, ratio("Share of the limit a second: slower is no falling.", 0.002, 0, 1)] | UnsetType
    ) = UNSET
    memory_worst: (
        Annotated[str, duration("The worst fill rate is forgotten by half in this time.", "1h")] | UnsetType
    ) = UNSET
    memory_margin: (
        Annotated[float, ratio("Times the reserve: where less is left nothing starts.", 1.5, 1, 100)] | UnsetType
    ) = UNSET
    memory_soon: (
        Annotated[str, duration("The reserve would be reached within this: nothing starts.", "10s")] | UnsetType
    ) = UNSET
    memory_freeze: Annotated[str, duration("Within this: a run is frozen.", "3s")] | UnsetType = UNSET
    memory_kill: (
        Annotated[
            str, duration("Half the reserve (memory_kill_below) would be reached within this: a run is killed.", "1s")
        ]
        | UnsetType
    ) = UNSET
    memory_kill_below: (
        Annotated[float, ratio("Share of the reserve below which a run is killed too.", 0.5, 0, 1)] | UnsetType
    ) = UNSET
    memory_pressure: (
        Annotated[
            float, ratio("Share of the time in which something waits for memory: above it nothing starts.", 0.1, 0, 1)
        ]
        | UnsetType
    ) = UNSET
    memory_pressure_leave: Annotated[float, ratio("Until it is below this.", 0.05, 0, 1)] | UnsetType = UNSET
    memory_own_min: (
        Annotated[
            float, ratio("Share of what is missing that our runs must hold before one is frozen or killed.", 0.2, 0, 1)
        ]
        | UnsetType
    ) = UNSET
    memory_default: Annotated[str, size("What a run is taken to need which nobody knows.", "1GiB")] | UnsetType = UNSET
    memory_default_share: Annotated[float, ratio("At most this share of the memory limit.", 0.2, 0, 1)] | UnsetType = (
        UNSET
    )
    canary: (
        Annotated[
            str, duration("Of unknown runs of a job one at a time, until the first has ended or run as long.", "30s")
        ]
        | UnsetType
    ) = UNSET
    memory_few_runs: (
        Annotated[int, count("With fewer runs than this the largest counts, not their distribution.", 5, 1, 20)]
        | UnsetType
    ) = UNSET
    memory_few: (
        Annotated[float, ratio("The largest of few runs, times this, is the prediction.", 1.1, 1, 10)] | UnsetType
    ) = UNSET
    memory_quantile: Annotated[float, ratio("Of what many runs took, this share counts.", 0.95, 0.5, 1)] | UnsetType = (
        UNSET
    )
    memory_known: Annotated[float, ratio("What many runs tell, times this.", 1.1, 1, 10)] | UnsetType = UNSET
    memory_in_flight: (
        Annotated[float, ratio("What a run uses now, times this, where that is more.", 1.1, 1, 10)] | UnsetType
    ) = UNSET
    memory_killed: (
        Annotated[
            float,
            ratio("What a run had when it was killed for memory, times this, is what it needs at least.", 1.2, 1, 10),
        ]
        | UnsetType
    ) = UNSET
    memory_killed_more: Annotated[str, size("And at least this much more.", "100MiB")] | UnsetType = UNSET
    memory_matters: (
        Annotated[float, ratio("Share of what is missing, that a run must hold to be killed.", 0.25, 0, 1)] | UnsetType
    ) = UNSET
    freeze_growing: Annotated[str, size("A run that grows less a second is not frozen.", "1MiB")] | UnsetType = UNSET
    freeze_every: Annotated[str, duration("Between two freezes.", "500ms")] | UnsetType = UNSET
    thaw_every: Annotated[str, duration("Between two thaws.", "3s")] | UnsetType = UNSET
    freeze_max: (
        Annotated[
            str, duration("A run that was frozen for as long and still does not fit is killed and queued anew.", "30s")
        ]
        | UnsetType
    ) = UNSET
    kill_pause: Annotated[str, duration("After a kill, before another.", "2s")] | UnsetType = UNSET
    kill_pause_per_gib: (
        Annotated[str, duration("Or this for each GiB that it held, if that is more.", "300ms")] | UnsetType
    ) = UNSET
    memory_tries: (
        Annotated[
            int,
            count(
                "Tries after a run was killed for memory, the last with nothing beside it; then it fails.", 3, 0, 100
            ),
        ]
        | UnsetType
    ) = UNSET
    memory_retry: Annotated[str, duration("Before the first of them.", "1s")] | UnsetType = UNSET
    memory_retry_max: Annotated[str, duration("Before the last.", "1m")] | UnsetType = UNSET
    stuck: (
        Annotated[str, duration("Nothing runs and memory is short for as long: one run is tried all the same.", "30s")]
        | UnsetType
    ) = UNSET
    duration_quantile: (
        Annotated[float, ratio("By when this share of its runs had ended, a run is taken to end.", 0.9, 0.5, 1)]
        | UnsetType
    ) = UNSET
    backfill_after: (
        Annotated[
            str,
            duration(
                "Behind a run that has waited for memory for longer only those start that end before its turn.", "30s"
            ),
        ]
        | UnsetType
    ) = UNSET
    look_min: (
        Annotated[str, duration("Between two looks at memory while something runs, at least.", "50ms")] | UnsetType
    ) = UNSET
    look_max: Annotated[str, duration("And at most.", "250ms")] | UnsetType = UNSET
    calm_share: (
        Annotated[
            float, ratio("With this share of the memory left, and nobody waiting, it looks seldom.", 0.5, 0.01, 1)
        ]
        | UnsetType
    ) = UNSET
    look_calm: Annotated[str, duration("Then: between two looks at memory.", "2s")] | UnsetType = UNSET
    interval_calm: Annotated[str, duration("And between two readings of everything.", "10s")] | UnsetType = UNSET
