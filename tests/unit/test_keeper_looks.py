"""How often the keeper looks at what runs: often at who is new, and at a hundred as often as costs little."""

from itertools import pairwise
from types import SimpleNamespace

import pytest

from tidegate.executors import keeper_sampling, keeper_tree
from tidegate.executors.keeper_attempt import Attempt
from tidegate.executors.keeper_sampling import CALM_S_MAX, Sampling
from tidegate.executors.keeper_tree import SCAN_SHARE_MAX, STILL_S, Trees

MIB = 1 << 20
COST_S = 0.0001


class World:
    """Trees that cost a tenth of a millisecond to look at, and nothing else that takes time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        self.scanning_s = 0.0
        self.by_leader: dict[int, Attempt] = {}
        self.looks: dict[Attempt, list[float]] = {}
        self.shares: dict[Attempt, list[float]] = {}
        self._timers: list[tuple[float, int, object, Attempt]] = []
        self._count = 0
        monkeypatch.setattr(
            keeper_sampling, "time", SimpleNamespace(monotonic=lambda: self.now_s, thread_time=lambda: self.now_s)
        )
        self.sampling = Sampling(self, self, lambda: False)

    def contain(self, attempt: Attempt) -> None:
        pass

    def memory_bytes(self, attempt: Attempt, leader_only: bool, share: float = SCAN_SHARE_MAX) -> int:
        self.looks.setdefault(attempt, []).append(self.now_s)
        self.shares.setdefault(attempt, []).append(share)
        self.now_s += COST_S
        return MIB

    def after(self, seconds: float, action, attempt: Attempt) -> None:
        self._count += 1
        self._timers.append((self.now_s + seconds, self._count, action, attempt))

    def begin(self, output=None) -> Attempt:
        attempt = Attempt({"run_id": str(len(self.by_leader)), "attempt": 1}, b"")
        attempt.begin(len(self.by_leader) + 2, 1, self.now_s)
        self.by_leader[attempt.pid] = attempt
        self.sampling.begin(attempt, output)
        return attempt

    def pass_s(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self._timers and min(self._timers)[0] <= end_s:
            due = min(self._timers, key=lambda each: each[:2])
            self._timers.remove(due)
            self.now_s = max(self.now_s, due[0])
            due[2](due[3])
        self.now_s = max(self.now_s, end_s)


class Output:
    """A file to which nothing comes, unless told so."""

    def __init__(self, world: World) -> None:
        self.world, self.every_s, self.looks = world, 1.0, 0
        self._due_s = 0.0

    def name_if(self, due: bool) -> None:
        pass

    def look_if_due(self) -> float:
        if self.world.now_s >= self._due_s:
            self.looks += 1
            self._due_s = self.world.now_s + self.every_s
        return self._due_s - self.world.now_s


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def test_a_run_is_looked_at_often_at_first_and_then_each_second(world):
    run = world.begin()
    world.pass_s(1.3)
    assert len(world.looks[run]) == pytest.approx(8, abs=1)  # 5 ms and twice as long each time
    world.pass_s(10)
    assert len(world.looks[run]) == pytest.approx(18, abs=1)
    assert world.shares[run][0] > 10 * world.shares[run][-1]


def test_a_hundred_that_go_on_take_a_thousandth_of_a_core_together(world):
    runs = [world.begin() for _ in range(100)]
    world.pass_s(60)
    before = sum(map(len, world.looks.values()))
    world.pass_s(60)
    spent_s = (sum(map(len, world.looks.values())) - before) * COST_S
    assert spent_s / 60 == pytest.approx(0.001, rel=0.1)
    assert len({len(world.looks[run]) for run in runs}) <= 3  # none is forgotten


def test_a_new_one_among_them_is_looked_at_as_often_as_ever(world):
    for _ in range(100):
        world.begin()
    world.pass_s(60)
    new = world.begin()
    world.pass_s(1.3)
    assert len(world.looks[new]) == pytest.approx(8, abs=1)


def test_none_waits_for_its_look_longer_than_five_seconds(world):
    runs = [world.begin() for _ in range(1000)]
    world.pass_s(60)
    gaps = [after - before for run in runs for before, after in pairwise(world.looks[run])]
    assert max(gaps) <= CALM_S_MAX + 1


def test_output_that_comes_is_followed_however_many_run(world):
    output = Output(world)
    world.begin(output)
    for _ in range(99):
        world.begin()
    world.pass_s(60)
    quiet = output.looks
    world.pass_s(60)
    assert output.looks - quiet < 20
    output.every_s = 0.1
    world.pass_s(CALM_S_MAX + 1)
    writes = output.looks
    world.pass_s(10)
    assert output.looks - writes == pytest.approx(100, abs=5)


def test_asked_for_it_looks_at_all_at_once(world):
    runs = [world.begin() for _ in range(3)]
    told = world.sampling.told_use(runs, True)
    assert told.count('"memory_bytes":1048576') == 3 and all(len(world.looks[run]) == 1 for run in runs)
    assert '"afresh":true' in told
    again = world.sampling.told_use(runs, False)
    assert again == told.replace("true", "false") and all(len(world.looks[run]) == 1 for run in runs)


def test_processes_are_looked_through_again_only_when_one_was_started(monkeypatch):
    now_s, newest, walks = [100.0], [b"7\n"], []
    monkeypatch.setattr(keeper_tree, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    monkeypatch.setattr(keeper_tree, "newest_pid", lambda: newest[0])
    monkeypatch.setattr(keeper_tree, "scan", lambda skip: walks.append(now_s[0]) or {})
    monkeypatch.setattr(keeper_tree, "memory_bytes", lambda pids: MIB)
    trees, run = Trees(1, None), Attempt({"run_id": "a", "attempt": 1}, b"")

    def walks_after(seconds: float) -> int:
        now_s[0] += seconds
        trees.memory_bytes(run, False)
        return len(walks)

    assert [walks_after(1) for _ in range(3)] == [1, 1, 1]
    newest[0] = b"8\n"
    assert walks_after(1) == 2
    assert walks_after(STILL_S + 1) == 3  # it may be no more than made up
    newest[0] = b""
    assert [walks_after(1) for _ in range(3)] == [4, 5, 6]  # nobody tells it here


def test_the_newest_process_is_told_by_the_kernel():
    found = keeper_tree.newest_pid()
    assert found.strip().isdigit()
