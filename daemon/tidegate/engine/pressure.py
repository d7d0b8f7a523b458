"""What a look at the machine changes: the limit of the pool, how short memory is, who is frozen, thawed or killed.
Pure; the laws themselves are in controller.py, memory.py and tiers.py.
"""

from typing import Final

import msgspec

from tidegate.engine import brakes
from tidegate.engine.controller import Controller, Load
from tidegate.engine.estimate import Learned
from tidegate.engine.runs import Runs
from tidegate.engine.tiers import Act, Runner, Tiers
from tidegate.model.command import Fact, Record, Resize, RetireIdle
from tidegate.model.event import LearnedRestored, Now, PlanLoaded, RunsUsed, RunUse, Sensed
from tidegate.model.job import Job
from tidegate.model.run import State
from tidegate.model.sample import Sample, wanted_cores
from tidegate.model.view import GateView, LearnedView

LOOKED_AT: Final = 8  # of those in line: enough to know whether anybody wants a slot
FLOOD_BYTES_PER_S: Final = 1 << 30  # what one process takes at the most
TIERS: Final = (
    "there is memory enough again",
    "memory gets short, nothing starts",
    "memory is short, runs are frozen",
    "memory runs out, runs are killed and queued anew",
)
decode: Final = msgspec.json.Decoder(Learned).decode


class Pressure:
    """Between the machine and the runs."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self.controller: Controller | None = None  # None: the limit is fixed from outside
        self._loaded = False
        self._uses: tuple[RunUse, ...] = ()  # told since the last look
        self._told_afresh = False  # … and looked at with it
        self._narrowed = False  # the limit fell, and workers may be left over from before
        self._waits_for_memory: float | None = None  # share of the time, in the last sample
        self._made_room_for = ""  # the run that last came to wait for memory
        self._blind = ""
        self._load = ""  # what the last step of the controller saw, for people
        self._tiers = Tiers(runs.memory.settings)

    def load(self, event: PlanLoaded, now: Now) -> None:
        """The first plan, or a reload: what runs is touched by neither."""
        settings = event.plan.pool
        pool, memory = self._runs.pool, self._runs.memory
        before = pool.limit
        memory.configure(settings)
        self._tiers.configure(settings)
        if event.slots is not None:
            self.controller, pool.limit = None, event.slots
        elif self.controller is None:
            self.controller = Controller(settings, event.cores)
            pool.limit = self.controller.limit
        else:
            self.controller.configure(settings, event.cores)
            pool.limit = self.controller.limit
        if pool.limit != before and self._loaded:
            self._resized(before, "settings", "[pool] was changed", now)
        self._loaded = True

    def used(self, event: RunsUsed, now: Now) -> None:
        """What the running runs hold. It counts from the next look on: held against an older one, what they have taken
        since would be given away a second time."""
        del now
        self._uses, self._told_afresh = event.uses, event.afresh

    def sensed(self, event: Sensed, now: Now) -> None:
        """A look at the machine."""
        self._looked(event, now)
        if event.sample is not None and self.controller is not None:
            self._step(event, now)
        if self._narrowed and event.sample is not None:
            pool = self._runs.pool
            self._runs.out.append(RetireIdle(pool.limit))
            self._narrowed = pool.used > pool.limit  # whose workers are idle once these have ended

    def restore(self, event: LearnedRestored) -> None:
        """What an earlier life learned; what cannot be read was written by another version, and is learned anew."""
        learned = {}
        for key, value in event.values.items():
            try:
                learned[key] = decode(value)
            except msgspec.DecodeError:
                continue
        self._runs.memory.estimator.restore(learned)

    def learned_of_late(self) -> dict[str, str]:
        """What was learned since this was last asked, as JSON by job."""
        changed = self._runs.memory.estimator.changed()
        return {key: msgspec.json.encode(value).decode() for key, value in changed.items()}

    def gates(self, now: Now) -> list[GateView]:
        """Each gate as it stands."""
        runs = self._runs
        counts = runs.waiting.counts()
        first = runs.waiting.ready.peek()
        closed = runs.closed_to(first, now) if first is not None else None
        if closed is not None:
            counts[closed.name] += counts.pop("")
        readings = {
            runs.held.name: "; ".join(runs.held.reasons.values()) or "open",
            runs.pool.name: f"{runs.pool.used} of {runs.pool.limit} slots in use{self._load}",
            runs.pause.name: ", ".join(sorted(runs.pause.jobs)) or "no job is paused",
            runs.windows.name: runs.windows.reading,
            runs.resources.name: "; ".join(
                f"{used} of {units} {name}" for name, (units, used) in runs.resources.used().items()
            )
            or "there are none",
            runs.memory.name: runs.memory.reading,
        }
        return [
            GateView(name=name, reading=reading, holds=counts[name], blocked_s=runs.blocked.seconds.get(name, 0.0))
            for name, reading in readings.items()
        ]

    def held_by(self, run_id: str) -> tuple[int | None, bool]:
        """What a run holds of the memory, as far as it was looked at, and whether it is held still."""
        live, holding = self._runs.lives.get(run_id), self._runs.memory.running.get(run_id)
        seen = holding is not None and holding.looked_mono_s is not None and not holding.live.shares_a_process
        frozen = live is not None and live.frozen_mono_s is not None
        return (holding.present_bytes if holding is not None and seen else None), frozen

    def learned(self, job: Job) -> LearnedView | None:
        """What the next run of a job is taken to need; None before its first."""
        memory = self._runs.memory
        learned = memory.estimator.learned(job.name)
        if learned is None:
            return None
        need = memory.estimator.predict_memory(job.name, job.memory_bytes, memory.watch.limit_bytes or 0)
        return LearnedView(
            runs=learned.runs,
            memory_bytes=need.bytes,
            memory_reason=need.why,
            cpu_cores=memory.estimator.predict_cpu(job.name, job.cpu_cores),
            duration_s=memory.estimator.predict_duration(job.name),
        )

    @property
    def memory_tier(self) -> int:
        """How short memory is, 0 to 3."""
        return self._runs.memory.watch.tier

    @property
    def crowded(self) -> bool:
        """Whether runs wait for a slot or for memory."""
        return self._runs.waiting.waits

    @property
    def restful(self) -> bool:
        """Whether nothing is near that must be seen at once: nobody waits, and much of the memory is left."""
        memory = self._runs.memory
        watch = memory.watch
        if self.crowded or self.short_of_memory or watch.available_bytes is None or watch.limit_bytes is None:
            return False
        return self._left_bytes >= memory.settings.calm_share * watch.limit_bytes

    @property
    def calm_look_s(self) -> float:
        """Seconds to the next look at memory while `restful`: what is left is not half gone by then."""
        return min(self._runs.memory.settings.look_s_calm, self._left_bytes / FLOOD_BYTES_PER_S / 2)

    @property
    def _left_bytes(self) -> int:
        memory = self._runs.memory
        return (memory.watch.available_bytes or 0) - memory.watch.reserve_bytes - memory.reserved_bytes

    @property
    def waits_for_memory(self) -> bool:
        """Whether memory holds somebody back."""
        return self._runs.memory.head is not None

    @property
    def short_of_memory(self) -> bool:
        """Whether somebody may have to be stopped."""
        return self.memory_tier > 0 or self._runs.frozen > 0

    @property
    def memory_moves(self) -> bool:
        """Whether what runs must be looked at closely: memory is short, or gets less."""
        return self.short_of_memory or self._runs.memory.watch.falling

    def look_s(self) -> float | None:
        """Until the next look at memory, in seconds; None while nothing runs, and memory is not short: that it is
        enough again must be seen, too."""
        memory = self._runs.memory
        active = bool(memory.running or self._runs.waiting.waits or self.memory_tier or self._narrowed)
        return memory.watch.next_look_s(active)

    def _looked(self, event: Sensed, now: Now) -> None:
        memory = self._runs.memory
        watch, before = memory.watch, memory.watch.tier
        for use in self._uses:
            live = self._runs.lives.get(use.run_id)
            if live is not None and live.run.attempt == use.attempt:
                memory.use(use.run_id, use.memory_bytes, now)
        exact = self._told_afresh or not memory.running
        self._uses, self._told_afresh = (), False
        if event.sample is not None:
            self._waits_for_memory = event.sample.memory_some_ratio
        foreseen = sum(min(each.present_bytes, each.prediction.bytes) for each in memory.running.values())
        watch.look(
            event.available_bytes,
            event.limit_bytes,
            self._waits_for_memory,
            now.mono_s,
            memory.reserved_bytes,
            foreseen,
            exact=exact,
        )
        memory.stale = True
        if watch.tier != before:
            reason = f"{TIERS[watch.tier]}: {watch.reason}" if watch.tier else TIERS[0]
            self._runs.out.append(Record(fact=Fact.MEMORY_TIER, at=now.wall, reason=reason, tier=watch.tier))
        self._retire_idle(event.sample is not None or not before)
        if watch.tier > 1 or self._runs.frozen:
            act = self._tiers.decide(self._runners(), watch, now.mono_s)
            if act is not None:
                self._perform(act, now)

    def _retire_idle(self, due: bool) -> None:
        """Idle workers give memory back: while it is short, and once for each run that comes to wait for it."""
        memory = self._runs.memory
        waits = "" if memory.head is None else memory.head.run.run_id
        if (memory.watch.tier and due) or waits not in ("", self._made_room_for):
            self._runs.out.append(RetireIdle())
        self._made_room_for = waits

    def _perform(self, act: Act, now: Now) -> None:
        live = self._runs.lives[act.run_id]
        match act.kind:
            case "freeze":
                brakes.freeze(self._runs, live, act.reason, now)
            case "thaw":
                brakes.thaw(self._runs, live, act.reason, now)
            case "kill":
                brakes.evict(self._runs, live, act.reason, now)

    def _runners(self) -> list[Runner]:
        runs, runners = self._runs, []
        for holding in runs.memory.running.values():
            live = holding.live
            if live.run.state is State.RUNNING and not live.shares_a_process:
                waited = runs.resources.waited_for(live)
                runners.append(
                    Runner(
                        run_id=live.run.run_id,
                        priority=live.job.priority if waited is None else max(live.job.priority, waited),
                        started_mono_s=live.taken_mono_s,
                        present_bytes=holding.present_bytes,
                        growth_bytes_per_s=holding.growth_bytes_per_s,
                        predicted_bytes=holding.prediction.bytes,
                        retriable=True,
                        frozen_since_mono_s=live.frozen_mono_s,
                        holds_waited_resource=waited is not None,
                    )
                )
        return runners

    # --- how many -----------------------------------------------------------------------------------

    def _step(self, event: Sensed, now: Now) -> None:
        controller, sample = self.controller, event.sample
        assert controller is not None and sample is not None
        pool = self._runs.pool
        self._load = _load(sample)
        change = controller.step(
            Load(
                cores=sample.cores,
                load_ratio=sample.load_ratio,
                busy_ratio=sample.busy_ratio,
                foreign_cores=sample.foreign_cores,
                wanted_cores=wanted_cores(sample),
                io_full_ratio=sample.io_full_ratio,
                running=pool.used,
                queued=self._wanting_a_slot(now),
                fresh_cores=self._runs.memory.fresh.cores(now.mono_s),
                memory_calm=self._runs.memory.watch.calm,
            ),
            now.mono_s,
        )
        if controller.blind != self._blind:
            self._blind = controller.blind
            reason = self._blind or "how many threads want a core can be read again"
            self._runs.out.append(Record(fact=Fact.POOL_BLIND, at=now.wall, reason=reason))
        if change is not None:
            before, pool.limit = pool.limit, controller.limit
            self._resized(before, change.reason_word, change.reason, now)

    def _wanting_a_slot(self, now: Now) -> int:
        """How many of the next in line want nothing but a slot: where memory holds them, more slots help nobody."""
        others = (self._runs.resources, self._runs.memory)
        first = self._runs.waiting.ready.first(LOOKED_AT)
        return sum(all(gate.holds(live, now) is None for gate in others) for live in first)

    def _resized(self, before: int, word: str, reason: str, now: Now) -> None:
        after = self._runs.pool.limit
        self._narrowed = after < before or (self._narrowed and self._runs.pool.used > after)
        reason = f"from {before} to {after} at once: {reason}"
        self._runs.out.append(
            Record(fact=Fact.POOL_RESIZED, at=now.wall, reason=reason, resize=Resize(before, after, word))
        )


def _load(sample: Sample) -> str:
    load = "" if sample.load_ratio is None else f"; {sample.load_ratio:.2f} threads want each of {sample.cores:g} cores"
    busy = "" if sample.busy_ratio is None else f", {1 - sample.busy_ratio:.0%} idle"
    others = "" if not sample.foreign_cores else f", {sample.foreign_cores:.1f} used by others"
    return load + busy + others
