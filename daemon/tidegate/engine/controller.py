"""The controller: how many runs at once, from what the machine says. One law for CPU and one for the disk, each with
its own say; memory only stops growth (its gate is engine/memory.py). No I/O, no clock.

A busy machine is not an overloaded one. What counts is how many threads want a core: one for each is full use, and
beyond one and a half there is only more waiting. So the limit grows while cores idle and runs wait, stays where a few
threads wait, and shrinks where many do. Our own use never lowers it below the cores that others leave.
"""

import math
from collections import deque
from typing import Final, Literal

from msgspec import Struct

from tidegate.model.pool import PoolSettings

FLOOR_SLACK: Final = 0.25  # of a core: ⌈C − E⌉ must not turn with every hundredth that others use
CORES_MAX: Final = 10_000.0  # more is no reading
STEADY_LOOKS_MIN: Final = 4  # in a mean that decides where a single reading is noise …
STEADY_LOOKS_MAX: Final = 1_000  # … and at most, however long steady_s and however short interval_s
EARLY_LOOKS: Final = 2  # readings in the mean of what idles, before the limit was too high once
STEADY_GAP: Final = 4.0  # intervals without a reading, after which those before it say nothing of now
REST_PARTS: Final = 4  # of rest_s, each with its peak

Direction = Literal["up", "down"]


class Load(Struct, frozen=True, kw_only=True):
    """The machine since the last step, but the load, which is a mean over `fresh_s`. None: not known."""

    cores: float  # usable now
    load_ratio: float | None  # threads that run or want to, for each usable core
    busy_ratio: float | None  # of the usable cores
    foreign_cores: float | None  # of the usable cores, taken by others
    # That our runs use, or wait for: what they get says nothing where others crowd them.
    wanted_cores: float | None = None
    io_full_ratio: float | None  # of the time in which nothing got on for want of the disk
    running: int  # runs that hold a slot
    queued: int  # runs that only want a slot: what another gate holds back is no reason for more
    fresh_cores: float = 0.0  # what the load cannot have seen yet of runs that just began (engine/fresh.py)
    memory_calm: bool = True


class Change(Struct, frozen=True):
    """The limit is another one."""

    before: int
    after: int
    direction: Direction
    reason_word: str  # cpu, io, foreign, growth, idle, cores, settings
    reason: str


class Controller:
    """Call `step` every interval_s. `limit` is an int within min and max, whatever the readings are."""

    def __init__(self, settings: PoolSettings, cores: float) -> None:
        self.blind = ""  # why the limit stands still for want of a reading; "" while it can see
        self._settings = settings
        self._cores = _cores(cores)
        self._doubling = True  # until the first decrease
        self._knee: int | None = None  # the limit that was too high last time
        self._knee_foreign_cores = 0.0
        self._quiet_knee: int | None = None  # … with nobody else there
        self._knee_wait_s = settings.knee_s
        self._over = {"cpu": 0, "io": 0}  # readings in a row that were too high
        self._clear = 0  # … and far too high
        self._tried = 0  # looks in a row at a limit that was in use
        self._changed_mono_s = -math.inf
        self._cool_until_mono_s = -math.inf
        self._steady: deque[tuple[float, float, float]] = deque(maxlen=_steady_looks(settings))  # when, load, idle
        self._peaks = _Peaks(settings.rest_s)
        self.limit = self._start()

    def configure(self, settings: PoolSettings, cores: float) -> Change | None:
        """Other settings, or other cores: the limit is brought within its new bounds at once."""
        if _cores(cores) != self._cores:
            self._cores = _cores(cores)
            self._forget_knee()
        if settings != self._settings:  # else it is of no account here that other parts of the plan were changed
            self._settings = settings
            self._knee_wait_s = settings.knee_s
            self._peaks = _Peaks(settings.rest_s)
            self._steady = deque(maxlen=_steady_looks(settings))
        least, most = self._bounds()
        return self._to(min(max(self.limit, least), most), "settings", f"[pool] says {_between(least, most)}")

    def step(self, look: Load, now_mono_s: float) -> Change | None:
        """Judge the readings; the change of the limit, if there is one."""
        cores = _cores(look.cores)
        if cores != self._cores:
            self._cores = cores
            self._forget_knee()
        least, most = self._bounds()
        bounded = min(max(self.limit, least), most)
        if bounded != self.limit:
            word = "cores" if self._settings.mode == "adaptive" else "settings"
            return self._to(bounded, word, f"{self._cores:g} cores allow {_between(least, most)}", now_mono_s)
        if self._settings.mode == "fixed":
            return None
        seen = _Seen(look, cores)
        self._peaks.add(look.running if not look.queued else max(look.running, self.limit), now_mono_s)
        self._note(seen, look.running, now_mono_s)
        return (
            self._shrink(seen, look.running, now_mono_s)
            or self._rest(look, now_mono_s)
            or self._grow(seen, look, now_mono_s)
        )

    # --- the bounds -----------------------------------------------------------------------------------

    def _bounds(self) -> tuple[int, int]:
        settings = self._settings
        auto = max(1, math.floor(settings.max_per_core * self._cores))
        most = max(1, auto if settings.max is None else settings.max)
        if settings.mode == "fixed":
            return most, most
        least = max(1, settings.min)
        return least, max(least, most)

    def _start(self) -> int:
        least, most = self._bounds()
        return min(max(math.ceil(self._cores), least), most)

    def _neighbour_cores(self) -> float:
        settings = self._settings
        few = min(settings.neighbour_cores, settings.neighbour_share * self._cores)
        return max(few, settings.neighbour_many * self._cores)

    def _floor(self, seen: "_Seen") -> int:
        """The cores that others leave."""
        least, most = self._bounds()
        return min(max(least, math.ceil(self._cores - seen.foreign_cores - FLOOR_SLACK)), most)

    # --- what was read --------------------------------------------------------------------------------

    def _note(self, seen: "_Seen", running: int, now_mono_s: float) -> None:
        settings = self._settings
        self.blind = (
            "" if seen.load is not None else "how many threads want a core cannot be read: the limit stands still"
        )
        load = 0.0 if seen.load is None else seen.load
        self._over["cpu"] = self._over["cpu"] + 1 if load > settings.shrink_above else 0
        # Where most of the runs want a core. Of runs that mostly wait many may want one at the same instant.
        full = seen.idle(0.0) < settings.idle_full and load * self._cores >= settings.crowd * running
        self._clear = self._clear + 1 if load > settings.shrink_clear and full else 0
        self._over["io"] = self._over["io"] + 1 if seen.io_full > settings.io_full else 0
        self._tried = self._tried + 1 if running >= self._in_use() else 0
        if self._steady and now_mono_s - self._steady[-1][0] >= STEADY_GAP * settings.interval_s:
            self._steady.clear()
        if seen.load is not None:
            self._steady.append((now_mono_s, seen.load, seen.idle(0.0)))

    def _in_use(self) -> int:
        """Runs with which the limit is as good as reached."""
        return max(1, int(self._settings.in_use_min * self.limit))

    def _means(self, least: int = STEADY_LOOKS_MIN) -> tuple[float, float] | None:
        """Load and idle share in the mean since the last change, over as many looks as fill steady_s; None where there
        are too few."""
        count = len(self._steady)
        if count < least:
            return None
        return sum(load for _, load, _ in self._steady) / count, sum(idle for _, _, idle in self._steady) / count

    # --- down -------------------------------------------------------------------------------------------

    def _shrink(self, seen: "_Seen", running: int, now_mono_s: float) -> Change | None:
        settings, limit = self._settings, self.limit
        floor = self._floor(seen)
        if now_mono_s < self._cool_until_mono_s or limit <= floor:
            return None
        in_use = max(min(limit, running), math.ceil(limit * settings.shrink_most))  # what is not used crowds nobody
        foreign = seen.foreign_cores > self._neighbour_cores()
        # A neighbour who came is told by the cores as well as by the load, so that two decreases are done in one.
        least = in_use * settings.shrink_most ** (2 if foreign else 1)
        load, part = self._overload(seen, foreign)
        if load and seen.wanted_cores < settings.own_min * self._cores:
            load = 0.0  # ours mostly wait: fewer of them would relieve nobody
        if load:
            # In proportion where every run wants a core; by the threads too many where most of them wait for something
            # else, as there one run less is one thread less. The gentler of the two, unless it is a neighbour who came.
            fewer = (load - settings.shrink_to) * self._cores * part
            wanted = max(least, in_use * settings.shrink_to / load, 0.0 if foreign else in_use - fewer)
            reason = f"{load:.2f} threads want each core, and more than {settings.shrink_above:g} is only waiting"
            if foreign:
                reason += f"; {seen.foreign_cores:.1f} cores are used by others"
            return self._down(max(floor, math.floor(wanted)), "foreign" if foreign else "cpu", reason, seen, now_mono_s)
        if self._over["io"] >= 2:
            wanted = in_use * max(settings.shrink_most, settings.io_full / seen.io_full)
            reason = f"{seen.io_full:.0%} of the time nothing got on for want of the disk"
            return self._down(max(floor, math.floor(wanted)), "io", reason, seen, now_mono_s)
        return None

    def _overload(self, seen: "_Seen", foreign: bool) -> tuple[float, float]:
        """The load that is too much, and the part of it that is to go at once; (0, 0) where it is not.

        Far too much, or too much with others there, is told by two readings in a row. Short of that the mean of the
        last 5 s decides, and half is enough: single readings swing by a thread or two.
        """
        settings = self._settings
        if self._over["cpu"] < 2 or seen.load is None:
            return 0.0, 0.0
        if foreign or self._clear >= 2:
            return seen.load, 1.0
        means = self._means(_steady_looks(settings))
        if means is None or means[0] <= settings.shrink_above:
            return 0.0, 0.0
        return (means[0], 0.5) if means[1] < settings.idle_full or means[0] > settings.crowded else (0.0, 0.0)

    def _down(self, after: int, word: str, reason: str, seen: "_Seen", now_mono_s: float) -> Change | None:
        settings, limit = self._settings, self.limit
        after = min(after, limit - 1)
        again = self._knee is not None and abs(limit - self._knee) <= max(1, settings.knee_near * self._knee)
        self._knee_wait_s = (
            min(settings.knee_s_max, self._knee_wait_s * settings.knee_backoff) if again else settings.knee_s
        )
        self._knee = limit
        self._knee_foreign_cores = seen.foreign_cores
        if word != "foreign":
            self._quiet_knee = limit
        self._doubling = False
        # With a neighbour it is not our runs that must end first for the readings to change.
        pause_s = min(settings.fresh_s, settings.cooldown_s) if word == "foreign" else settings.cooldown_s
        self._cool_until_mono_s = now_mono_s + pause_s
        return self._to(after, word, reason, now_mono_s)

    def _rest(self, look: Load, now_mono_s: float) -> Change | None:
        """What was long unused is given up: it was found with other work."""
        peak = self._peaks.highest(now_mono_s)
        if peak is None or look.queued or self.limit <= max(self._start(), 2 * peak):
            return None
        if peak == 0:
            self._forget_knee()
            self._quiet_knee = None
        reason = f"at most {peak} at once for {self._settings.rest_s:g} s"
        return self._to(max(self._start(), 2 * peak), "idle", reason, now_mono_s)

    # --- up ---------------------------------------------------------------------------------------------

    def _grow(self, seen: "_Seen", look: Load, now_mono_s: float) -> Change | None:
        settings, limit = self._settings, self.limit
        if self._knee is not None and seen.foreign_cores < self._knee_foreign_cores - self._neighbour_cores():
            self._forget_knee()
            self._knee = self._quiet_knee
        if not look.queued or not self._tried or not look.memory_calm or seen.load is None:
            return None
        if seen.io_full > settings.io_full * settings.io_grow:
            return None
        most = self._bounds()[1]
        floor = self._floor(seen)
        if limit < floor and self._over["cpu"] < 2:
            return self._to(floor, "foreign", f"others leave {self._cores - seen.foreign_cores:.1f} cores", now_mono_s)
        fresh = _finite(look.fresh_cores) or 0.0
        load, idle = seen.load + fresh / self._cores, seen.idle(fresh)
        foreign = seen.foreign_cores > self._neighbour_cores()
        wanted = self._wanted(load, idle, foreign, now_mono_s)
        if wanted == limit and self._doubling and not foreign and load < settings.crowded:
            wanted = self._filled(fresh)
        reason = f"{load:.2f} threads want each core, {max(0.0, idle):.0%} idle, and runs wait"
        if wanted == limit and seen.wanted_cores + fresh <= settings.light * look.running:
            wanted = limit + max(1, limit // 2)
            reason = (
                f"{look.running} runs want {seen.wanted_cores:.1f} cores together: they mostly wait, whatever others do"
            )
        return self._to(min(wanted, most), "growth", reason, now_mono_s)

    def _wanted(self, load: float, idle: float, foreign: bool, now_mono_s: float) -> int:
        settings, limit, knee = self._settings, self.limit, self._knee
        calm = load < settings.grow_below and idle > settings.idle_min
        near = knee is not None and (1 - settings.knee_near) * knee <= limit < (1 + settings.knee_near) * knee
        if calm and self._doubling:
            # As many as fill the cores if they are like those that run; of runs that wait some always want nothing.
            light = load < settings.grow_below / (2 * settings.stride)
            times = settings.stride if light else max(2.0, 1 / max(1 - idle, 1 / settings.stride))
            return self._up_to_the_knee(int(limit * times))
        means = self._means()
        if not calm:
            # Cores may idle although threads wait, as both come in bursts: then the mean decides, and a little more.
            if means is None or means[1] <= settings.idle_min or means[0] >= settings.crowded:
                return limit
            if near and idle < settings.idle_full:  # what idled in the mean was at its begin
                return limit
            if foreign and means[0] > settings.shrink_above:  # with others there the limit shrinks then
                return limit
            idle = means[1]
        if (near or not calm) and now_mono_s - self._changed_mono_s < (self._knee_wait_s if near else settings.knee_s):
            return limit
        if near:
            return limit + 1 if means is not None and means[1] > settings.idle_min else limit
        wanted = limit + max(1, int(settings.growth * idle * limit))
        below = 0 if knee is None or limit > knee else math.ceil((1 - settings.knee_near) * knee)
        return min(wanted, max(below, limit + 1)) if below else wanted

    def _filled(self, fresh_cores: float) -> int:
        """The limit by which the cores that idle would be in use."""
        looks = min(self._tried - 1, EARLY_LOOKS, len(self._steady))  # it was in use from the first of them on
        if looks < 1:
            return self.limit
        idle = sum(self._steady[-number][2] for number in range(1, looks + 1)) / looks - fresh_cores / self._cores
        if idle <= self._settings.early_idle:
            return self.limit
        return self._up_to_the_knee(max(self.limit + 1, int(self.limit * min(2.0, 1 + self._settings.fill * idle))))

    def _up_to_the_knee(self, wanted: int) -> int:
        knee, limit = self._knee, self.limit
        return wanted if knee is None or limit > knee else min(wanted, max(limit + 1, knee))

    def _forget_knee(self) -> None:
        self._knee = None
        self._knee_wait_s = self._settings.knee_s
        self._doubling = True

    def _to(self, after: int, word: str, reason: str, now_mono_s: float | None = None) -> Change | None:
        before = self.limit
        if after == before:
            return None
        self.limit = after
        self._tried = 0
        self._steady.clear()
        if now_mono_s is not None:
            self._changed_mono_s = now_mono_s
        return Change(before, after, "up" if after > before else "down", word, reason)


class _Seen:
    """The readings without what cannot be: NaN, infinite and negative ones."""

    def __init__(self, look: Load, cores: float) -> None:
        self.cores = cores
        self.load = _finite(look.load_ratio)
        self.busy = _finite(look.busy_ratio)
        self.foreign_cores = min(cores, _finite(look.foreign_cores) or 0.0)
        own = _finite(look.wanted_cores)
        self.wanted_cores = math.inf if own is None else own  # not known: taken to be the reason
        self.io_full = min(1.0, _finite(look.io_full_ratio) or 0.0)

    def idle(self, fresh_cores: float) -> float:
        """Share of the cores that idles, once the fresh runs do what they are taken to do. Where it is not known: as
        many cores are busy as threads want one, which is never too few."""
        busy = self.busy if self.busy is not None else self.load or 0.0
        return 1 - min(1.0, busy) - fresh_cores / self.cores


class _Peaks:
    """The most that were in use at once over the last rest_s, in parts."""

    def __init__(self, rest_s: float) -> None:
        self._part_s = rest_s / REST_PARTS
        self._parts: deque[int] = deque(maxlen=REST_PARTS + 1)
        self._began_mono_s = -math.inf

    def add(self, running: int, now_mono_s: float) -> None:
        if now_mono_s - self._began_mono_s >= self._part_s or not self._parts:
            self._parts.append(running)
            self._began_mono_s = now_mono_s
        else:
            self._parts[-1] = max(self._parts[-1], running)

    def highest(self, now_mono_s: float) -> int | None:
        """None while it is too early to tell."""
        del now_mono_s
        return max(self._parts) if len(self._parts) > REST_PARTS else None


def _steady_looks(settings: PoolSettings) -> int:
    return min(max(STEADY_LOOKS_MIN, round(settings.steady_s / settings.interval_s)), STEADY_LOOKS_MAX)


def _finite(value: float | None) -> float | None:
    """At least 0; None for what is no number."""
    return None if value is None or not math.isfinite(value) else max(0.0, value)


def _cores(cores: float) -> float:
    """A quota may be a tenth of a core; none is no machine."""
    return min(CORES_MAX, max(0.01, _finite(cores) or 1.0))


def _between(least: int, most: int) -> str:
    return f"{least} to {most} at once" if least < most else f"{most} at once"
