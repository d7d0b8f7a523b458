"""The stream of events, on real sockets: order, heartbeat, slow clients, and the end."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_world import World, a_run, wait_until, world_in

from tidegate.api import events
from tidegate.model.command import Fact
from tidegate.model.run import Skip, State

pytestmark = pytest.mark.live


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_in(tmp_path) as made:
        yield made


def listening(world: World) -> http.client.HTTPResponse:
    connection = world.over("unix")
    connection.request("GET", "/api/v1/events")
    response = connection.getresponse()
    assert (response.status, response.headers["content-type"]) == (200, "text/event-stream")
    assert response.readline() == b"retry: 2000\n" and response.readline() == b"\n"
    return response


def next_event(response: http.client.HTTPResponse) -> tuple[str, dict[str, object]]:
    name = data = ""
    while line := response.readline().decode().rstrip("\n"):
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            data = value
        else:
            name = line
    return name, json.loads(data) if data else {}


def test_every_fact_comes_in_order_with_its_data(world: World) -> None:
    response = listening(world)
    run = a_run(1, state=State.SKIPPED, skip=Skip.OVERLAP, reason="line\nbreak")
    world.do(lambda: world.control.tell(Fact.RUN_SKIPPED, run, "line\nbreak"))
    world.do(lambda: world.control.tell(Fact.CONFIG_RELOADED, reason="1 job added"))
    name, data = next_event(response)
    assert (name, data["fact"], data["job"], data["reason"]) == ("run.skipped", "run.skipped", "backup", "line\nbreak")
    shown = data["run"]
    assert isinstance(shown, dict) and shown["skip"] == "overlap" and shown["run_id"] == run.run_id
    name, data = next_event(response)
    assert (name, data["run"], data["job"]) == ("config.reloaded", None, "")
    response.close()


def test_silence_is_filled_with_comments(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    response = listening(world)
    assert next_event(response)[0] == ": nothing happened"
    response.close()


def test_a_slow_client_loses_events_and_is_told_how_many_and_nobody_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "EVENTS_MAX", 10)
    response, quick = listening(world), listening(world)

    def burst() -> None:
        for number in range(50):
            world.control.tell(Fact.RUN_QUEUED, a_run(number))

    world.do(burst)  # in one turn of the loop: nothing can be sent meanwhile
    for client in (response, quick):
        names = [next_event(client) for _ in range(11)]
        assert [name for name, _ in names[:10]] == ["run.queued"] * 10
        assert names[10] == ("lost", {"count": 40})
    world.do(lambda: world.control.tell(Fact.RUN_QUEUED, a_run(99)))
    assert next_event(response)[0] == "run.queued"
    response.close()
    quick.close()


def test_a_client_that_never_reads_takes_bounded_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVENTS_MAX", 100)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(world.path))
    sock.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_until(lambda: len(world.api._events._feeds) == 1)
    [feed] = world.api._events._feeds
    for _ in range(50):
        world.do(lambda: [world.control.tell(Fact.RUN_QUEUED, a_run(1)) for _ in range(100)])
    assert len(feed._waiting) <= 100 and feed._lost > 0
    sock.close()
    wait_until(lambda: not world.api._events._feeds)


def test_a_client_that_leaves_is_forgotten_at_once(world: World) -> None:
    response = listening(world)
    assert len(world.api._events._feeds) == 1
    response.close()
    wait_until(lambda: not world.api._events._feeds, 3.0)


def test_too_many_listeners_are_turned_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "CLIENTS_MAX", 2)
    first, second = listening(world), listening(world)
    assert world.ask("/api/v1/events")[0] == 503
    assert world.ask("/api/v1/events", "HEAD")[0] == 200
    first.close()
    wait_until(lambda: len(world.api._events._feeds) == 1)
    listening(world).close()
    second.close()


def test_closing_ends_all_streams_at_once(tmp_path: Path) -> None:
    with world_in(tmp_path) as world:
        response = listening(world)
        before = time.monotonic()
    assert time.monotonic() - before < 1.5
    assert response.read() == b""
