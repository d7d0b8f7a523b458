"""Slow and many clients (fault 40): what works goes on, and the loop is never held for long."""

import asyncio
import contextlib
import json
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_world import World, ended, run_id, wait_until, world_in

from tidegate.api import serve

pytestmark = pytest.mark.live


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_in(tmp_path) as made:
        yield made


def slow(world: World, sent: bytes) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(str(world.path))
    with contextlib.suppress(OSError):  # it may have been cut already
        sock.sendall(sent)
    return sock


def test_two_hundred_slow_clients_stop_neither_a_scrape_nor_a_trigger(world: World) -> None:
    kinds = (b"", b"GET /metr", b"POST /api/v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx")
    with contextlib.ExitStack() as stack:
        for number in range(200):
            stack.enter_context(slow(world, kinds[number % 3]))
        for way in ("unix", "tcp"):
            before = time.monotonic()
            assert world.ask("/metrics", way=way)[0] == 200
            assert time.monotonic() - before < 5
        assert world.ask("/api/v1/jobs/backup/runs", "POST")[0] == 202
        assert len(world.unix._state.connections) <= serve.CONNECTIONS_MAX
    wait_until(lambda: len(world.unix._state.connections) <= 1)


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    body = b"POST /api/v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx"
    with slow(world, body):
        wait_until(lambda: len(world.unix._state.tasks) == 1)
    wait_until(lambda: not world.unix._state.tasks)
    assert world.control.asked == [] and caplog.records == []


def test_a_slow_client_on_the_socket_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "REQUEST_S_MAX", 0.2)
    with world_in(tmp_path) as world, slow(world, b"GET /health HT") as sock:
        assert sock.recv(100) == b""


def test_a_hundred_readers_leave_the_loop_its_time(world: World) -> None:
    """Of 100 clients that ask without a pause one request enters a turn: what is due is late by a few turns at most.

    CPU time of this process is what counts, so other loads on the machine do not.
    """
    world.remember(*(ended(number) for number in range(300)))
    request = b"GET /api/v1/runs?limit=20 HTTP/1.1\r\nHost: x\r\n\r\n"
    over = threading.Event()
    answers = [0]
    turns: list[float] = []

    async def watch() -> None:
        while not over.is_set():
            before = time.thread_time()
            await asyncio.sleep(0)
            turns.append(time.thread_time() - before)

    def crowd() -> None:
        """All of them in one thread: each asks again as soon as it was answered."""
        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
            for _ in range(100):
                sock = stack.enter_context(slow(world, request))
                selector.register(sock, selectors.EVENT_READ)
            while not over.is_set():
                for key, _ in selector.select(0.1):
                    sock = key.fileobj  # type: ignore[assignment]  # it is one of ours
                    if b"\r\n\r\n" in sock.recv(1 << 17):
                        answers[0] += 1
                        sock.sendall(request)

    clients = threading.Thread(target=crowd)
    clients.start()
    wait_until(lambda: answers[0] > 50)
    watching = world.begin(watch())
    seen = answers[0]
    wait_until(lambda: answers[0] > seen + 300)
    over.set()
    clients.join(20)
    watching.result(20)
    turns.sort()
    assert turns[len(turns) * 99 // 100] < 0.005, turns[-20:]


def test_thirty_thousand_jobs_are_listed_in_short_turns(world: World) -> None:
    world.control.definitions = {f"job{number}": world.control.definitions["backup"] for number in range(30_000)}
    turns: list[float] = []
    over = threading.Event()

    async def watch() -> None:
        while not over.is_set():
            before = time.thread_time()
            await asyncio.sleep(0)
            turns.append(time.thread_time() - before)

    watching = world.begin(watch())
    listed = world.json("/api/v1/jobs")
    over.set()
    watching.result(20)
    assert len(listed["items"]) == 30_000
    assert max(turns) < 0.04  # made in one piece it takes several times that


def test_closing_among_requests_is_no_error(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Answers under way still read history and files after the API was told to end."""
    world.remember(ended(1))
    world.call(world.api.close())
    assert world.ask("/api/v1/runs")[0] == 200
    assert world.ask(f"/api/v1/runs/{run_id(1)}/output")[0] == 200
    assert world.ask("/api/v1/events")[0] == 503
    assert caplog.records == []


def test_whoever_waits_when_the_daemon_ends_is_told_so_and_that_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serve.Server.close, "__defaults__", (0.0,))

    async def never(*_: Any) -> Any:
        await asyncio.Event().wait()

    with world_in(tmp_path) as world:
        world.control.pause = world.control.reload = never  # type: ignore[method-assign]
        waiting = [world.over(way) for way in ("unix", "tcp", "unix")]
        for connection, path in zip(waiting, ("jobs/backup/pause", "jobs", "reload"), strict=True):
            connection.request("POST" if path != "jobs" else "GET", f"/api/v1/{path}")
        assert waiting[1].getresponse().status == 200
        wait_until(lambda: len(world.unix._state.tasks) == 2)
    for connection in (waiting[0], waiting[2]):
        answer = connection.getresponse()
        assert answer.status == 503
        assert "the daemon has ended" in json.loads(answer.read())["detail"]
    for connection in waiting:
        connection.close()
    assert caplog.records == []


FIRST = """
import sys, tempfile, threading
from pathlib import Path
sys.path.insert(0, "tests/live")
from api_world import World, ended, run_id
with tempfile.TemporaryDirectory() as folder:
    world = World(Path(folder))
    for thread in threading.enumerate():
        if thread.name == "tidegate-fqdn":
            thread.join()  # it imports what it needs by itself, off the loop
    world.remember(ended(1))
    before = set(sys.modules)
    for endpoint in world.api.table.endpoints:
        if endpoint.name != "events":
            path = endpoint.path.replace("{job}", "backup").replace("{id}", run_id(1))
            world.ask(path + ("?job=backup" if endpoint.name == "why" else ""), endpoint.method)
    world.ask("/api/v1/leases", "POST", {"uses": {"database": 1}})
    world.ask("/nothing", "POST")
    print(sorted(set(sys.modules) - before))
    world.stop()
"""


def test_the_first_requests_import_nothing() -> None:
    """An import holds the loop for tens of milliseconds, and fires with it."""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, cwd=root, check=True, text=True)
    assert done.stdout == "[]\n"
