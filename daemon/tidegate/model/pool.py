"""[pool]: every constant by which the pool decides how many runs at once, with its default and its reason. Values only.

The units of the fields are at the end of their names; the keys of tidegate.toml are the same names without it. A ratio
is a share: 0.3 is 30 %.
"""

from typing import Final, Literal

from msgspec import Struct

MIB: Final = 1 << 20
GIB: Final = 1 << 30

Mode = Literal["adaptive", "fixed"]


class PoolSettings(Struct, frozen=True, kw_only=True):
    """[pool]"""

    min: int = 1
    max: int | None = None  # None: "auto", max_per_core × usable cores, or `min` if that is more
    mode: Mode = "adaptive"  # fixed: always `max`, whatever the machine says. The gate for memory stays
    max_per_core: int = 32  # more at once never paid on any load that was tried

    # --- how many: CPU and disk (engine/controller.py) -----------------------------------------------
    interval_s: float = 0.5  # between two decisions: shorter, and a decision sees too little of what the last one did
    runnable_s: float = 0.1  # between two counts of runnable threads: ten make a mean that is worth something
    fresh_s: float = 1.0  # what a reading of the load is a mean over; of younger runs it has seen a part only
    grow_below: float = 1.15  # runnable threads a core up to which more work is more throughput
    shrink_above: float = 1.5  # … above which it is only more waiting; in between nothing is changed
    shrink_to: float = 1.25  # what a decrease aims at: a little more than cores, so that none idles between two runs
    shrink_clear: float = 4.0  # this much needs no longer look than two readings in a row; less is judged by its mean
    steady_s: float = 5.0  # of readings in a mean that decides where a single one is noise
    crowd: float = 0.75  # of the runs want a core at once: then two readings tell enough, and no mean is asked
    crowded: float = 8.0  # … above which no idle core is a reason for more, nor against less
    neighbour_cores: float = 0.5  # that others use, or have come to use less, is a neighbour who came or left
    neighbour_share: float = 0.2  # … of few cores this share
    neighbour_many: float = 0.05  # … and of many this one: on 64 cores somebody always uses half of one
    shrink_most: float = 0.5  # of the limit that is left by one decrease: a reading may be wrong
    cooldown_s: float = 2.0  # after a decrease: until runs have ended, the readings still show the old limit
    idle_min: float = 0.04  # of the cores must idle for more to start: below it there is nothing to win
    own_min: float = 0.2  # of the cores must be wanted by our runs: where they want less, fewer of them relieve nobody
    light: float = 0.1  # of a core, that a run wants which mostly waits: of such, more may start whatever others do
    idle_full: float = 0.015  # … and with less than this the machine is full: only then are waiting threads too many
    early_idle: float = 0.08  # before the limit was too high once, more than this idle is reason to grow at any load
    fill: float = 2.5  # … by this times what idles, as of runs that wait some always want nothing
    stride: float = 4.0  # not double but this at the most, where so many would just fill the cores
    in_use_min: float = 0.9  # of the limit must be in use for it to grow: what is not used was not tried
    growth: float = 0.5  # of the idle share, by which the limit grows where it once was too high
    knee_near: float = 0.2  # this close to where it was too high last time, the limit grows by one
    knee_s: float = 2.0  # … in this time, and longer each time that it proves too high again
    knee_backoff: float = 8.0  # … by so many times: a steady load is to be left in peace
    knee_s_max: float = 60.0  # … up to this: a machine that changed is found out within a minute
    rest_s: float = 10.0  # what was not used for as long is given up: the next burst may be of another kind
    cpu_default: float = 0.25  # of a core, that a run is taken to use which nobody knows
    io_grow: float = 0.75  # of io_full, above which the limit does not grow: as far below as 1.15 is below 1.5
    io_full: float = 0.30  # of the time in which nothing got on for want of the disk: more would only queue there

    # --- memory: what stays free, and what a run will take (engine/memory.py, engine/estimate.py) ---------
    memory_reserve: float = 0.10  # of the limit, stays free: caches and the next surprise live there
    memory_reserve_least_bytes: int = 512 * MIB  # … at least this, as kernels write back and reclaim in such lumps
    memory_reserve_least_share: float = 0.15  # … but of a small machine no more than this, or nothing would run
    memory_reserve_most_bytes: int = 4 * GIB  # … at most this: no brake needs more
    memory_reserve_most_share: float = 0.25  # … at most this, with what is added for the fill rate
    # How long it takes until a brake acts: the worst fill rate seen fills the reserve so long.
    memory_fill_s: float = 0.3
    memory_window_s: float = 1.0  # over which the fill rate is taken
    memory_falling: float = 0.002  # of the limit a second: slower is no falling but noise
    memory_worst_s: float = 3600.0  # the worst fill rate is forgotten by half in this time
    memory_margin: float = 1.5  # of the reserve, below which nothing more starts
    memory_soon_s: float = 10.0  # the reserve would be reached within this: nothing more starts
    memory_freeze_s: float = 3.0  # … within this: a run is frozen
    memory_kill_below: float = 0.5  # of the reserve, below which a run is killed and queued anew
    memory_kill_s: float = 1.0  # … and if that would be reached within this
    memory_pressure: float = 0.10  # of the time somebody waited for memory: nothing more starts
    memory_pressure_leave: float = 0.05  # … until it is below this
    memory_own_min: float = 0.20  # of what is missing must be ours: to shoot ours for a neighbour's hunger helps nobody
    memory_default_bytes: int = GIB  # that a run is taken to need which nobody knows
    memory_default_share: float = 0.20  # … at most this share of the limit
    canary_s: float = 30.0  # of unknown runs one at a time, until the first has ended or run as long as this
    memory_few_runs: int = 5  # fewer runs than this have no 95th percentile
    memory_few: float = 1.1  # … so that their largest is taken times this. The reserve is there for what it misses
    memory_quantile: float = 0.95  # of what more runs took: nearly all of them
    memory_known: float = 1.1  # what more runs tell is taken times this; buckets round up by half as much again
    memory_in_flight: float = 1.1  # times what it uses now, if that is more than was predicted
    memory_killed: float = 1.2  # times what it had when it was killed for memory, and
    memory_killed_more_bytes: int = 100 * MIB  # at least this much more

    # --- what happens to runs when memory gets short (engine/tiers.py) --------------------------------------
    memory_matters: float = 0.25  # of what is missing, that a run must hold for its death to matter
    freeze_growing_bytes: int = MIB  # a second: slower growth is no reason to freeze
    freeze_every_s: float = 0.5  # between two: what the last one brought must be seen first
    thaw_every_s: float = 3.0
    freeze_s_max: float = 30.0  # frozen for longer: a brake, not a cure
    kill_pause_s: float = 2.0  # after a kill no other: memory comes back late
    kill_pause_s_per_gib: float = 0.3  # … later for large ones; measured: 1.4 s for 16 GiB
    memory_tries: int = 3  # after kills for memory, the last one with nothing beside it; then the run fails
    memory_retry_s: float = 1.0  # before the first of them
    memory_retry_s_max: float = 60.0  # before the last
    stuck_s: float = 30.0  # nothing runs, memory is short and nobody takes more: one run is tried all the same
    duration_quantile: float = 0.90  # of its runs ended by then: taken to be its end, for backfill
    backfill_after_s: float = 30.0  # a head of the queue that memory holds for longer is passed only by who ends first

    # --- looking (engine/memory.py) ---------------------------------------------------------------------------
    look_s_min: float = 0.05  # between two looks at memory while something runs: 1 GiB/s makes 50 MiB
    look_s_max: float = 0.25  # … when there is plenty
    calm_share: float = 0.5  # of the memory left and not reserved, and nobody waits: nothing is near that must be seen
    look_s_calm: float = 2.0  # … between two looks at memory, less where half of what is left is filled in that time
    interval_s_calm: float = 10.0  # … between two readings of everything
