"""The engine under hostile orders of events: late and doubled words of executors, unknown ids, lost keepers, runs of an
earlier life, shortages, leases, calendars, reloads and ends at any time. The books are the simulator's invariants;
every history must come to its end."""

from datetime import timedelta
from types import SimpleNamespace

from engine_bench import EPOCH
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tidegate.engine.dispatcher import Dispatcher
from tidegate.model.command import Acknowledge, Fact, Record, SignalTree, Start
from tidegate.model.event import (
    CancelRequested,
    ClaimRefused,
    DrainRequested,
    Exited,
    Fired,
    Interrupted,
    KeeperLost,
    LeaseReleased,
    LeaseRequested,
    LeaseRestored,
    Now,
    PauseRequested,
    PausesRestored,
    PlanLoaded,
    Recovered,
    Restored,
    ResumeRequested,
    Started,
    StartFailed,
    StartsHeld,
    StopRequested,
    Triggered,
    WindowChanged,
)
from tidegate.model.job import CatchUp, During, Job, OnInterrupted, Overlap, Retries, Window
from tidegate.model.lease import Lease
from tidegate.model.plan import Calendar, Plan
from tidegate.model.run import Cause, Outcome, Run, State, Usage
from tidegate.simulate.invariants import Invariants

NAMES = {"a": Overlap.SKIP, "b": Overlap.QUEUE, "c": Overlap.REPLACE, "d": Overlap.ALLOW}
RESOURCES = {"db": 2, "gpu": 1}
CALENDARS = {"day": Calendar(), "freeze": Calendar()}
uses = st.sampled_from([{}, {}, {"db": 1}, {"db": 2}, {"db": 1, "gpu": 1}])
names = st.sampled_from(list(NAMES))
picks = st.integers(0, 2**16)
held = st.booleans()  # the event waits and comes in one batch with the next one


@st.composite
def jobs(draw, name):
    return Job(
        name=name,
        command=("work",),
        after=draw(st.sampled_from([(), ("a",)])) if name != "a" else (),
        overlap=NAMES[name],  # runs keep the policy they began with; here that is always the same
        catch_up=draw(st.sampled_from(list(CatchUp))),
        retries=Retries(max=draw(st.integers(0, 2)), delay_s=draw(st.sampled_from([0.0, 5.0]))),
        start_deadline_s=draw(st.sampled_from([None, 0.0, 3.0])),
        timeout_s=draw(st.sampled_from([0.5, 20.0])),
        kill_grace_s=draw(st.sampled_from([0.0, 2.0])),
        priority=draw(st.integers(-2, 2)),
        enabled=draw(st.integers(0, 9)) > 0,
        uses=draw(uses),
        only_during=draw(st.sampled_from([(), (), (Window("day", During.DEFER),)])),
        not_during=draw(st.sampled_from([(), (), (Window("freeze", During.DEFER),), (Window("freeze"),)])),
        on_interrupted=draw(st.sampled_from(list(OnInterrupted))),
    )


class HostileWorld(RuleBasedStateMachine):
    """An executor that may say anything at any time, beside one whose books are right."""

    def __init__(self):
        super().__init__()
        self.dispatcher = Dispatcher(salt=1)
        self.books = Invariants()
        self.now_s = 0.0
        self.step_s = 0.0  # of the wall clock
        self.slots = 2
        self.running = {}  # (run_id, attempt) → told that it started; what the executor holds
        self.seen = []  # every key ever started
        self.recovered = []
        self.restored = []  # ids of runs that waited, or whose end nobody knows
        self.short = set()  # attempts that could not be started for want of processes
        self.killed = set()  # told KILL
        self.owed = set()  # ended, not yet acknowledged
        self.pending = []
        self.ending = False
        self.held = {}  # gate → reason
        self.lease_ids = []
        self.deliver(
            PlanLoaded(
                Plan(
                    jobs={name: Job(name=name, command=("work",), overlap=NAMES[name]) for name in NAMES},
                    resources=RESOURCES,
                    calendars=CALENDARS,
                ),
                self.slots,
            )
        )

    # --- the shell ------------------------------------------------------------------------------------

    def now(self):
        return Now(EPOCH + timedelta(seconds=self.now_s + self.step_s), self.now_s)

    def tell(self, hold, *events):
        self.pending += events
        if not hold:
            events, self.pending = self.pending, []
            self.deliver(*events)

    def deliver(self, *events):
        for event in events:
            self._foresee(event)
        now = self.now()
        commands = self.dispatcher.handle(list(events), now)
        for command in commands:
            match command:
                case Start():
                    assert not self.ending, "started while draining"
                    key = (command.run.run_id, command.run.attempt)
                    assert key not in self.seen or key in self.short, f"{key} was started twice"
                    self.short.discard(key)
                    self.running[key] = False
                    self.seen.append(key)
                case SignalTree():
                    if command.signal == 9:
                        self.killed.add((command.run_id, command.attempt))
                case Acknowledge():
                    self.owed.discard((command.run_id, command.attempt))
                case _:
                    pass
        world = SimpleNamespace(
            dispatcher=self.dispatcher, slots=self.slots, work=SimpleNamespace(running=dict(self.running)), unsent=set()
        )
        self.books(world, events, commands, now)
        assert not self.owed, f"never acknowledged: {self.owed}"
        assert sorted(self.books.open) == sorted(run.run_id for run in self.dispatcher.runs())
        assert self.dispatcher.counts().running == len(self.running)
        for run in self.dispatcher.runs():
            assert run.state is not State.HELD or self._predecessor(run), f"{run.run_id} is held by nobody"
            if run.state is State.QUEUED and not self.ending:
                assert self._waits_for(run), f"{run.run_id} waits for nothing"
            if run.state is State.RUNNING:
                assert self.dispatcher.next_deadline() is not None, f"{run.run_id} runs without a time-out"
        return commands

    def _foresee(self, event):
        """What an event does to the executor's books."""
        match event:
            case Exited() | StartFailed():
                self.running.pop((event.run_id, event.attempt), None)
                if isinstance(event, StartFailed) and event.transient:
                    self.short.add((event.run_id, event.attempt))
                if isinstance(event, Exited):
                    self.owed.add((event.run_id, event.attempt))
            case KeeperLost():
                self.running.clear()
            case ClaimRefused():
                self.running = {key: told for key, told in self.running.items() if key[0] != event.run_id}
            case StartsHeld():
                self.held[event.gate] = event.reason
            case Recovered():
                if not self._is_known(key := (event.run.run_id, event.run.attempt)):
                    self.running[key] = True
                    self.recovered.append(key)
            case DrainRequested() | StopRequested():
                self.ending = True
            case PlanLoaded():
                self.slots = event.slots
            case _:
                pass

    def _is_known(self, key):
        return key in self.seen or key in self.recovered or key[0] in self.restored

    def _waits_for(self, run):
        """A gate that is closed for it; of resources the engine is asked, whose books are checked elsewhere."""
        if len(self.running) >= self.slots or run.job in self.dispatcher.paused or self.dispatcher.starts_held:
            return True
        rows = self.dispatcher.waiting(self.now(), 1000)
        return any(one.run_id == run.run_id and gate in ("calendar", "resources") for one, gate, _ in rows)

    def _predecessor(self, run):
        runs = [other for other in self.dispatcher.runs() if other.job == run.job]
        return runs.index(run) > 0

    def _key(self, pick):
        """Any attempt there ever was, or one nobody knows."""
        keys = [*self.seen, *self.recovered, *((run_id, 1) for run_id in self.restored), ("nobody", 1)]
        run_id, attempt = keys[pick % len(keys)]
        return run_id, attempt + (pick % 7 == 6)

    # --- what happens ---------------------------------------------------------------------------------

    @rule(hold=held, name=names, count=st.integers(1, 3), late_s=st.sampled_from([0, 0, 0, 100, 90_000]), older=held)
    def fire(self, hold, name, count, late_s, older):
        last = self.now().wall - timedelta(seconds=late_s)
        times = tuple(last - timedelta(seconds=60 * i) for i in reversed(range(count)))
        self.tell(hold, Fired(name, times, older_missed=older))

    @rule(hold=held, name=st.sampled_from([*NAMES, "unknown"]), boot=held)
    def ask(self, hold, name, boot):
        by_boot = Fired(name, (self.now().wall,), Cause.BOOT)
        self.tell(hold, by_boot if boot else Triggered(name, "r", "somebody"))

    @precondition(lambda self: any(not told for told in self.running.values()))
    @rule(hold=held, pick=picks)
    def start(self, hold, pick):
        waiting = [key for key, told in self.running.items() if not told]
        key = waiting[pick % len(waiting)]
        self.running[key] = True
        self.tell(hold, Started(*key, 100))

    @precondition(lambda self: self.running)
    @rule(hold=held, pick=picks, code=st.sampled_from([0, 0, 1, None]), fails=st.integers(0, 5))
    def end(self, hold, pick, code, fails):
        key = list(self.running)[pick % len(self.running)]
        if fails < 2 and not self.running[key]:
            self.tell(hold, StartFailed(*key, "no such program", transient=bool(fails)))
        else:
            self.tell(hold, Exited(*key, code, None if code is not None else 9, Usage()))

    @rule(hold=held, pick=picks, kind=st.sampled_from([Started, StartFailed, Exited]))
    def late_word(self, hold, pick, kind):
        key = self._key(pick)
        if kind is Started:
            self.tell(hold, Started(*key, 101))
        elif key not in self.running:
            self.tell(hold, StartFailed(*key, "late") if kind is StartFailed else Exited(*key, 0, None, Usage()))

    @rule(hold=held, pick=picks)
    def cancel(self, hold, pick):
        runs = self.dispatcher.runs()
        run_id = runs[pick % len(runs)].run_id if runs and pick % 5 else self._key(pick)[0]
        self.tell(hold, CancelRequested(run_id, "somebody"))

    @rule(hold=held, name=st.sampled_from([*NAMES, "unknown"]), pause=held)
    def pause(self, hold, name, pause):
        self.tell(hold, (PauseRequested if pause else ResumeRequested)(name, "somebody"))

    @precondition(lambda self: not self.dispatcher.drained)  # then the daemon ends
    @rule(hold=held, pick=picks, name=names, data=st.data())
    def recover(self, hold, pick, name, data):
        run_id, attempt = self._key(pick) if pick % 2 else (f"earlier{len(self.recovered)}", 1)
        at = self.now().wall - timedelta(seconds=pick % 50)
        run = Run(run_id=run_id, job=name, attempt=attempt, scheduled_at=at, queued_at=at, state=State.STARTING)
        key = (run_id, attempt)
        known = self._is_known(key)
        if not known and (self.pending or any(run_id == other for other, _ in [*self.seen, *self.recovered])):
            return  # a keeper never holds an attempt that was not asked for
        if not known and any(run.job == name for run in self.dispatcher.runs()):
            return  # a new daemon hears of recovered runs before anything fires
        self.tell(hold, Recovered(run, data.draw(jobs(name)), 100))

    @precondition(lambda self: not self.ending)
    @rule(
        name=names, data=st.data(), state=st.sampled_from([*State]), gone=held, ago_s=st.sampled_from([0, 50, 90_000])
    )
    def restore(self, name, data, state, gone, ago_s):
        """What an earlier life left, told in one turn before anything of the job fires."""
        self.tell(False)
        if state in (State.FINISHED, State.SKIPPED) or any(run.job == name for run in self.dispatcher.runs()):
            return
        run_id, at = f"earlier-r{len(self.restored)}", self.now().wall - timedelta(seconds=ago_s)
        run = Run(run_id=run_id, job=name, scheduled_at=at, queued_at=at, state=state)
        job = data.draw(jobs(name)) if data.draw(picks) % 5 else None
        self.restored.append(run_id)
        if state in (State.RUNNING, State.STOPPING):
            self.tell(False, Interrupted(run, job, Outcome.UNKNOWN, "nobody knows", gone), Restored(run, job))
        else:
            self.tell(False, Restored(run, job), Restored(run, job))

    @rule(hold=held, name=names)
    def restore_pause(self, hold, name):
        if name in self.dispatcher.jobs:
            self.tell(hold, PausesRestored(frozenset({name})))

    @rule(hold=held, gate=st.sampled_from(["history", "storage"]), reason=st.sampled_from(["", "", "full"]))
    def hold_starts(self, hold, gate, reason):
        self.tell(hold, StartsHeld(gate, reason))

    @rule(calendar=st.sampled_from(list(CALENDARS)), open=held)
    def change_calendar(self, calendar, open):
        self.tell(False)  # fires before it in one batch would be judged by the books with what it is afterwards
        self.tell(False, WindowChanged(calendar, open))

    @rule(hold=held, wants=uses, wait_s=st.sampled_from([None, 0.0, 5.0]), granted=st.integers(0, 4))
    def ask_lease(self, hold, wants, wait_s, granted):
        lease = Lease(lease_id=f"lease{len(self.lease_ids)}", uses=wants, holder="somebody", asked_at=self.now().wall)
        self.lease_ids.append(lease.lease_id)
        if granted or not wants:
            self.tell(hold, LeaseRequested(lease, wait_s))
        else:  # before anybody asks for anything
            self.tell(False)
            self.tell(False, LeaseRestored(lease))

    @rule(hold=held, pick=picks)
    def end_lease(self, hold, pick):
        ids = [*self.lease_ids, "nobody's"]
        self.tell(hold, LeaseReleased(ids[pick % len(ids)], "its holder has ended"))

    @precondition(lambda self: any(not told for told in self.running.values()))
    @rule(pick=picks)
    def refuse_claim(self, pick):
        self.tell(False)
        waiting = [run_id for (run_id, attempt), told in self.running.items() if not told and attempt == 1]
        fresh = [run_id for run_id in waiting if self.dispatcher.run(run_id).state is State.STARTING]
        if fresh:
            self.tell(False, ClaimRefused(fresh[pick % len(fresh)], "another"))

    @rule(hold=held)
    def lose_keeper(self, hold):
        alive = frozenset(key[0] for key in list(self.running)[::2])
        self.tell(hold, KeeperLost("killed", alive))

    @rule(hold=held, data=st.data(), slots=st.integers(1, 3), some=st.sets(names, min_size=1))
    def load(self, hold, data, slots, some):
        resources = {"db": data.draw(st.integers(1, 2)), "gpu": 1}
        loaded = {name: data.draw(jobs(name)) for name in NAMES if name in some}
        plan = Plan(jobs=loaded, resources=resources, calendars=CALENDARS)
        self.tell(hold, PlanLoaded(plan, slots))

    @rule(seconds=st.sampled_from([0.0, 0.1, 2.0, 30.0, 4000.0]))
    def wait(self, seconds):
        self.tell(False)
        end_s = self.now_s + seconds
        while (at_s := self.dispatcher.next_deadline()) is not None and at_s <= end_s:
            self.now_s = max(at_s, self.now_s)
            self.deliver()
        self.now_s = end_s
        self.deliver()

    @rule(by_s=st.sampled_from([-14_400.0, -3600.0, 7200.0, 315_576_000.0]))
    def set_clock(self, by_s):
        self.step_s += by_s if abs(self.step_s + by_s) < 1e9 else 0.0

    @precondition(lambda self: len(self.seen) > 3)
    @rule(hold=held, at_once=st.integers(0, 3), timeout_s=st.sampled_from([0.0, 5.0, 600.0]))
    def finish(self, hold, at_once, timeout_s):
        self.tell(hold, StopRequested("SIGINT") if not at_once else DrainRequested(timeout_s, "SIGTERM"))

    # --- the end --------------------------------------------------------------------------------------

    def teardown(self):
        """Whatever was before: a drain ends, though everything that runs ignores TERM."""
        self.tell(False)
        self.tell(False, *(LeaseReleased(lease_id, "over") for lease_id in self.lease_ids))
        said = self.deliver(DrainRequested(5.0, "the test"))
        while (at_s := self.dispatcher.next_deadline()) is not None and not self.dispatcher.drained:
            self.now_s = max(self.now_s, at_s)
            said = self.deliver()
        assert self.running.keys() <= self.killed, f"left alone: {self.running.keys() - self.killed}"
        if self.running:
            said = self.deliver(*[Exited(*key, None, 9, Usage()) for key in list(self.running)])
        assert self.dispatcher.drained
        waiting = {run.state for run in self.dispatcher.runs()}
        assert waiting <= {State.HELD, State.QUEUED, State.RETRYING}, "kept for the next start, nothing else"
        for run in self.dispatcher.runs():
            self.books.open.pop(run.run_id)
        self.books.at_rest()
        drained = [c for c in said if isinstance(c, Record) and c.fact is Fact.DAEMON_DRAINED]
        assert len(drained) <= 1


TestHostileWorld = HostileWorld.TestCase
TestHostileWorld.settings = settings(
    max_examples=120, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
