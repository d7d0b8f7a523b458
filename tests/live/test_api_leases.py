"""Leases over the API: whose they are. Real processes, real pidfds; tests/live/test_api_daemon.py sees holders die."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_world import TOKEN, World, wait_until, world_in

from tidegate.api import leases
from tidegate.api.auth import Caller
from tidegate.api.leases import holder_of
from tidegate.api.peer import Peer
from tidegate.api.table import Call
from tidegate.model.refusal import Refused

pytestmark = pytest.mark.live

ONE = {"uses": {"database": 1}}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_in(tmp_path) as made:
        yield made


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "100"]) as child:
        yield child
        child.kill()


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def released(world: World) -> list[Any]:
    return [asked for asked in world.control.asked if asked[0] == "release"]


def test_a_lease_belongs_to_who_asked_and_can_be_given_back(world: World) -> None:
    lease = world.json("/api/v1/leases", "POST", {**ONE, "wait_s": 30}, 201)
    assert (lease["state"], lease["uses"]) == ("granted", {"database": 1})
    _, uses, holder, pid, wait_s = world.control.asked[0]
    assert (uses, pid, wait_s) == ({"database": 1}, os.getpid(), 30) and f"pid {os.getpid()} (" in holder
    over = world.json(f"/api/v1/leases/{lease['lease_id']}", "DELETE")
    assert over["state"] == "ended" and "given back by" in over["reason"]
    world.json(f"/api/v1/leases/{lease['lease_id']}", "DELETE", status=404)


def test_what_is_not_free_in_time_is_a_conflict_with_the_lease_in_it(world: World) -> None:
    world.control.grant = False
    answer = world.json("/api/v1/leases", "POST", {**ONE, "wait_s": 0}, 409)
    assert answer["detail"] == "database has 0 of 2 units free" and answer["lease"]["state"] == "ended"


def asking(world: World, body: dict[str, Any]) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(str(world.path))
    text = json.dumps(body).encode()
    head = f"POST /api/v1/leases HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(text)}"
    sock.sendall(head.encode() + b"\r\n\r\n" + text)
    wait_until(lambda: len(world.api._leases._waits) == 1)
    return sock


def test_a_client_that_leaves_while_it_waits_withdraws_its_request(world: World) -> None:
    world.control.grant = False
    asking(world, ONE).close()
    wait_until(lambda: world.control.withdrawn == 1)
    assert not world.api._leases._waits and not world.control.leases


def test_a_holder_that_ended_before_the_daemon_watched_holds_nothing(
    world: World, sleeper: subprocess.Popen[bytes]
) -> None:
    world.control.before_grant = lambda: (sleeper.kill(), sleeper.wait())
    world.json("/api/v1/leases", "POST", {**ONE, "pid": sleeper.pid}, 409)
    assert world.control.leases == {} and f"pid {sleeper.pid}, ended" in released(world)[0][2]


def test_closing_withdraws_what_waits_and_leaves_what_is_granted(tmp_path: Path) -> None:
    with world_in(tmp_path) as world:
        world.json("/api/v1/leases", "POST", ONE, 201)
        world.control.grant = False
        sock = asking(world, ONE)
    assert world.control.withdrawn == 1 and len(world.control.leases) == 1 and released(world) == []
    assert sock.recv(1000).startswith(b"HTTP/1.1 503 ")
    sock.close()


def test_nobody_leases_for_a_process_of_another_user(sleeper: subprocess.Popen[bytes]) -> None:
    """The daemon's user may be another than root: what root may, it may not."""
    none: Any = None
    call = Call(none, Caller(Peer(uid=65534, gid=65534, pid=os.getpid()), "nobody", True), none, none)
    with pytest.raises(Refused, match="not one of yours"):
        holder_of(call, sleeper.pid)
    root = Call(none, Caller(Peer(uid=0, gid=0, pid=os.getpid()), "root", True), none, none)
    holder_of(root, sleeper.pid).close()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"uses": {}}, 422),
        ({"uses": {"database": 0}}, 422),
        ({"uses": {"database": 1.5}}, 422),
        ({"uses": {"cows": 1}}, 422),
        ({**ONE, "wait_s": -1}, 422),
        ({**ONE, "wait_s": "NaN"}, 422),
        ({**ONE, "pid": 0}, 422),
        ({**ONE, "pid": 2**40}, 409),
        ({**ONE, "holder": "me"}, 422),
        ({}, 422),
    ],
)
def test_a_wrong_request_holds_nothing(world: World, body: dict[str, Any], status: int) -> None:
    before = descriptors()
    world.json("/api/v1/leases", "POST", body, status)
    assert world.control.leases == {}
    wait_until(lambda: descriptors() <= before)


def test_over_tcp_a_process_must_be_named(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(TOKEN)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with world_in(tmp_path, token_file=str(token)) as world:
        told = world.json("/api/v1/leases", "POST", ONE, 422, way="tcp", headers=headers)
        assert "name one of this machine as pid" in told["detail"]
        world.json("/api/v1/leases", "POST", {**ONE, "pid": sleeper.pid}, 201, way="tcp", headers=headers)
        assert world.control.asked[0][3] == sleeper.pid


def test_waits_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "WAITS_MAX", 1)
    world.control.grant = False
    with asking(world, ONE):
        assert world.ask("/api/v1/leases", "POST", ONE)[0] == 503
