"""One question to the simulator: this plan, with such runs, on such a machine, for so long. And its answer, also with
its schedules spread. Pure.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from tidegate.model.plan import Plan
from tidegate.simulate.outlook import Outlook, Past, outlook
from tidegate.simulate.replay import Capacity, Ending, Replay
from tidegate.simulate.report import Measure, measure
from tidegate.simulate.stagger import Change, changes, staggered
from tidegate.simulate.tally import Tally


class Scenario(Struct, frozen=True, kw_only=True):
    """What is asked."""

    plan: Plan
    past: Mapping[str, tuple[Past, ...]]  # by job, newest first
    given_s: Mapping[str, float]  # durations that the person gave
    capacity: Capacity
    start: datetime  # aware, a whole minute
    minutes: int
    lead_s: float  # from the full hour before the start, in the person's zone
    seed: int

    def outlooks(self) -> dict[str, Outlook]:
        """What to expect of each job, from the beginning of its dice."""
        return {
            name: outlook(job, self.past.get(name, ()), self.given_s.get(name), self.seed, self.plan.pool)
            for name, job in self.plan.jobs.items()
        }

    def play(self, progress: Callable[[float], None] | None = None) -> tuple[Tally, Ending]:
        """Replay it. Where it had to end early, the tally has the whole minutes until then."""
        tally = Tally(self.minutes, self.capacity.cores, self.lead_s)
        ending = Replay(self.plan, self.outlooks(), self.capacity, self.start.astimezone(UTC), tally).run(progress)
        if not ending.complete:
            tally.minutes = max(1, int(ending.at_s // 60))
        return tally, ending

    def changes(self) -> list[Change]:
        """The lines that could be spread."""
        return changes(self.plan.jobs.values(), self.start.astimezone(UTC))

    def spread(self, wanted: list[Change]) -> "Scenario":
        """The same with these lines changed."""
        return replace(self, plan=replace(self.plan, jobs=staggered(self.plan.jobs, wanted)))

    def measured(self, progress: Callable[[float], None] | None = None) -> Measure:
        """Replay it for its numbers alone."""
        return measure(self.play(progress)[0])
