"""When a warm worker has done enough: idle too long, grown too large, wanted again. Processes are sockets here, and
time is only a number; real ones are in tests/live/test_python_jobs.py."""

import json
import os
import socket
from types import SimpleNamespace

import pytest

from tidegate.executors import keeper_workers
from tidegate.executors.keeper_attempt import Attempt
from tidegate.executors.keeper_workers import BEGIN_S_MAX, IDLE_S, IDLE_S_MAX, IDLE_WORKERS_MAX, Calls, Workers

MIB = 1 << 20


class World:
    """Workers whose processes are the other ends of their sockets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        self.memory: dict[int, int] = {}
        self.theirs: dict[int, socket.socket] = {}
        self.ended: list[Attempt] = []
        self._timers: list[tuple[float, object, Attempt | None]] = []
        self._served = 0
        monkeypatch.setattr(keeper_workers, "time", SimpleNamespace(monotonic=lambda: self.now_s))
        monkeypatch.setattr(keeper_workers, "beget", self._beget)
        monkeypatch.setattr(keeper_workers, "start_ticks", lambda pid, since: since)
        monkeypatch.setattr(keeper_workers, "young_memory_bytes", self.memory.get)
        monkeypatch.setattr(Workers, "_open", lambda self, call: (os.open(os.devnull, os.O_WRONLY), None))
        nothing = SimpleNamespace(
            by_leader={}, begin=lambda *_: None, end=lambda *_: None, forget=lambda *_: None, kill=lambda *_: None,
            register=lambda *_: None, unregister=lambda *_: None, after=self._after,
        )  # fmt: skip
        calls = Calls(lambda *_: None, lambda attempt, code: self.ended.append(attempt), lambda *_: None)
        self.workers = Workers(nothing, nothing, nothing, nothing, nothing, "", nothing, calls)

    def _after(self, seconds, action, attempt=None) -> None:
        self._timers.append((self.now_s + seconds, action, attempt))

    def _beget(self, call, source, own_nice, fd) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        pid = 5_000_000 + len(self.theirs)
        self.theirs[pid], self.memory[pid] = theirs, 10 * MIB
        return pid, ours

    def pass_s(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while due := [one for one in self._timers if one[0] <= end_s]:
            first = min(due, key=lambda one: one[0])
            self._timers.remove(first)
            self.now_s = max(self.now_s, first[0])
            first[1](first[2])
        self.now_s = end_s

    def begin(self, memory_bytes: int = 0, **changes) -> Attempt:
        self._served += 1
        python = {
            "executor": "process", "target": "a:b", "args": [], "kwargs": {}, "python_path": [], "host_runs": 1,
            "worker_runs": 100,
        }  # fmt: skip
        message = {
            "run_id": f"run{self._served}", "attempt": 1, "argv": ["python3"], "env": {}, "cwd": "/", "umask": 18,
            "nice": 10,            "python": python, "memory_bytes": memory_bytes,
        } | changes  # fmt: skip
        attempt = Attempt(message, b"")
        self.workers.start(attempt, message, 0)
        self._said(attempt, {"began": self._served})
        return attempt

    def end(self, attempt: Attempt, grown_bytes: int = 0) -> None:
        number = int(attempt.run_id.removeprefix("run"))
        told = {"done": number, "code": 0, "reuse": True, "result": "null", "grown_bytes": grown_bytes}
        self._said(attempt, told)

    def _said(self, attempt: Attempt, message: dict[str, object]) -> None:
        self.theirs[attempt.pid].send(json.dumps(message).encode())
        for fd in list(self.workers._by_fd):
            self.workers.hear(fd)

    def one(self, grown_bytes: int = 0, **settings) -> int:
        """A run from its begin to its end: the pid of its worker."""
        attempt = self.begin(**settings)
        self.end(attempt, grown_bytes)
        return attempt.pid

    def told_to_end(self, pid: int) -> bool:
        """Whether the worker hears that nothing more comes."""
        self.theirs[pid].setblocking(False)
        try:
            while self.theirs[pid].recv(1 << 20):
                pass
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def world(monkeypatch):
    made = World(monkeypatch)
    yield made
    for theirs in made.theirs.values():
        theirs.close()
    for worker in made.workers._by_pid.values():
        worker.connection.close()


# --- idle -----------------------------------------------------------------------------------------------------


def test_a_worker_that_was_idle_for_half_a_minute_ends(world):
    pid = world.one()
    world.pass_s(IDLE_S - 1)
    assert not world.told_to_end(pid)
    world.pass_s(2)
    assert world.told_to_end(pid)
    assert world.one() != pid


def test_one_that_was_used_meanwhile_has_its_time_anew(world):
    pid = world.one()
    world.pass_s(IDLE_S - 1)
    assert world.one() == pid
    world.pass_s(IDLE_S - 1)
    assert not world.told_to_end(pid)
    world.pass_s(2)
    assert world.told_to_end(pid)


def test_what_is_wanted_right_after_its_end_is_waited_for_twice_as_long_the_next_time_up_to_a_bound(world):
    waits = []
    for _ in range(6):
        pid, begun_s = world.one(), world.now_s
        while not world.told_to_end(pid):
            world.pass_s(IDLE_S / 2)
        waits.append(world.now_s - begun_s)
    assert waits == [IDLE_S, 2 * IDLE_S, 4 * IDLE_S, 8 * IDLE_S, IDLE_S_MAX, IDLE_S_MAX]


def test_what_comes_back_late_is_not_waited_for_longer(world):
    pid = world.one()
    world.pass_s(2 * IDLE_S + 1)
    assert world.told_to_end(pid)
    pid = world.one()
    world.pass_s(IDLE_S)
    assert world.told_to_end(pid)


def test_of_too_many_idle_ones_the_one_that_waits_longest_ends(world):
    attempts = [world.begin() for _ in range(IDLE_WORKERS_MAX + 1)]
    for attempt in attempts:
        world.end(attempt)
        world.pass_s(0.1)
    assert [world.told_to_end(attempt.pid) for attempt in attempts] == [True] + [False] * IDLE_WORKERS_MAX


def test_under_pressure_the_largest_is_told_first(world, monkeypatch):
    attempts = [world.begin() for _ in range(3)]
    for attempt, size in zip(attempts, (20, 30, 10), strict=True):
        world.end(attempt)
        world.memory[attempt.pid] = size * MIB
    told: list[int] = []
    monkeypatch.setattr(keeper_workers.Worker, "retire", lambda worker: told.append(worker.pid))
    world.workers.retire_idle()
    assert told == [attempts[1].pid, attempts[0].pid, attempts[2].pid]


def test_beyond_what_is_to_be_kept_the_largest_idle_ones_are_told_and_those_at_work_are_counted(world):
    attempts = [world.begin() for _ in range(6)]
    for attempt, size in zip(attempts[:4], (20, 40, 10, 30), strict=True):
        world.end(attempt)
        world.memory[attempt.pid] = size * MIB
    world.workers.retire_idle(6)
    assert not any(world.told_to_end(attempt.pid) for attempt in attempts)
    world.workers.retire_idle(4)
    assert [world.told_to_end(attempt.pid) for attempt in attempts] == [False, True, False, True, False, False]
    world.workers.retire_idle(1)  # two are at work: none that idles is needed, and nobody at work is touched
    assert [world.told_to_end(attempt.pid) for attempt in attempts] == [True] * 4 + [False] * 2


def test_one_that_was_told_to_end_and_stays_is_killed(world):
    killed = []
    world.workers._ending.kill = killed.append
    pid = world.one()
    resident = world.workers._by_pid[pid].resident
    world.workers.retire_idle()
    world.pass_s(BEGIN_S_MAX - 1)
    assert killed == []
    world.pass_s(2)
    assert killed == [resident]


# --- grown ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("needs", "grown", "ends"),
    [
        (0, 250 * MIB, False),
        (0, 260 * MIB, True),
        (400 * MIB, 260 * MIB, True),  # half of it is less than 256 MiB
        (1024 * MIB, 500 * MIB, False),
        (1024 * MIB, 520 * MIB, True),
    ],
)
def test_a_worker_may_keep_256_mib_or_half_of_what_its_run_was_taken_to_need(world, needs, grown, ends):
    assert world.told_to_end(world.one(grown, memory_bytes=needs)) == ends


def test_what_earlier_runs_left_in_a_worker_is_not_charged_to_the_next_one(world):
    first = world.begin()
    world.memory[first.pid] = 210 * MIB
    world.end(first, grown_bytes=200 * MIB)
    second = world.begin()
    assert second.pid == first.pid
    world.memory[second.pid] = 215 * MIB
    world.end(second, grown_bytes=205 * MIB)
    assert (first.memory_peak_bytes, second.memory_peak_bytes) == (210 * MIB, 15 * MIB)


def test_a_worker_that_says_it_has_grown_by_more_than_it_holds_is_not_believed(world):
    first = world.begin(memory_bytes=1 << 40)
    world.end(first, grown_bytes=100 << 30)
    second = world.begin()
    world.memory[second.pid] = 60 * MIB
    world.end(second)
    assert second.pid == first.pid
    assert second.memory_peak_bytes == 50 * MIB
