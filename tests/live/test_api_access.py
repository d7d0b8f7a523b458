"""Who may do what: threats 2, 3, 4, 6, 7 and 22, on real sockets with real credentials."""

import grp
import json
import os
import pwd
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from api_world import TOKEN, World, a_run, ended, run_id, world_in

from tidegate.api import rate
from tidegate.api.auth import Need
from tidegate.api.serve import ListenError
from tidegate.api.table import Endpoint
from tidegate.api.unix import serve_unix
from tidegate.model.plan import ControlSettings
from tidegate.model.run import State

pytestmark = pytest.mark.live

NOBODY = pwd.getpwnam("nobody")
READS = {"/metrics", "/health", "/ready", "/api/openapi.json", "/api/v1/jobs", "/api/v1/jobs/{job}", "/api/v1/runs",
         "/api/v1/runs/{id}", "/api/v1/pool"}  # fmt: skip
CONFIDED = {"/api/v1/events", "/api/v1/runs/{id}/output", "/api/v1/why"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_in(tmp_path) as made:
        yield made


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    return file


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def filled(endpoint: Endpoint) -> str:
    path = endpoint.path.replace("{job}", "backup").replace("{id}", run_id(1))
    return path + ("?job=backup" if endpoint.name == "why" else "")


ASK = """
import http.client, json, os, socket, sys
path, uid, gid, groups, requests = json.loads(sys.argv[1])
os.setgroups(groups); os.setresgid(gid, gid, gid); os.setresuid(uid, uid, uid)
answers = []
for method, target in requests:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(path)
    connection = http.client.HTTPConnection("localhost")
    connection.sock = sock
    connection.request(method, target)
    response = connection.getresponse()
    answers.append([response.status, "" if method == "GET" else response.read().decode()])
    connection.close()
print(json.dumps(answers))
"""


def ask_as(world: World, requests: list[tuple[str, str]], uid: int, gid: int, groups: list[int]) -> list[list[Any]]:
    """What another user is answered. The folder is opened to it first: who may connect is another question."""
    folder = world.path.parent
    while folder != folder.parent and not folder.stat().st_mode & stat.S_IXOTH:
        folder.chmod(folder.stat().st_mode | 0o011)
        folder = folder.parent
    world.path.chmod(0o666)
    given = json.dumps([str(world.path), uid, gid, groups, requests])
    done = subprocess.run([sys.executable, "-I", "-c", ASK, given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers: list[list[Any]] = json.loads(done.stdout)
    return answers


# --- threat 2: every route --------------------------------------------------------------------------------


def test_every_route_says_what_it_needs(world: World) -> None:
    """By method and path, written down here a second time: a new route has to be put into one of the three."""
    for endpoint in world.api.table.endpoints:
        if endpoint.method != "GET":
            assert endpoint.need is Need.OPERATE, endpoint.path
        else:
            assert endpoint.need is (Need.CONFIDE if endpoint.path in CONFIDED else Need.READ), endpoint.path
            assert endpoint.path in READS | CONFIDED
    with pytest.raises(TypeError, match="need"):
        Endpoint(method="GET", path="/x", name="x", summary="", act=lambda call: None, answers=())  # type: ignore[call-arg, arg-type, return-value]  # that is the test


def test_over_tcp_every_route_but_the_readable_ones_is_closed(world: World) -> None:
    world.control.live[run_id(1)] = a_run(1, state=State.RUNNING)
    for endpoint in world.api.table.endpoints:
        status, _, body = world.ask(filled(endpoint), endpoint.method, way="tcp")
        if endpoint.need is Need.READ:
            assert status == 200, endpoint.path
        else:
            assert status == 403 and b"token_file" in body, endpoint.path
    assert world.control.asked == []


def test_over_the_socket_another_user_reads_everything_and_changes_nothing(world: World) -> None:
    world.control.live[run_id(1)] = a_run(1, state=State.RUNNING)
    endpoints = world.api.table.endpoints
    requests = [(endpoint.method, filled(endpoint)) for endpoint in endpoints]
    for endpoint, (status, body) in zip(
        endpoints, ask_as(world, requests, NOBODY.pw_uid, NOBODY.pw_gid, []), strict=True
    ):
        if endpoint.need is Need.OPERATE:
            assert status == 403 and "nobody may only read" in body and "operators under [control]" in body
        else:
            assert status == 200, endpoint.path
    assert world.control.asked == []


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "HEAD", "GET", "POST"])
def test_other_methods_and_paths_reach_nothing(world: World, method: str) -> None:
    known = {(endpoint.method, endpoint.path) for endpoint in world.api.table.endpoints}
    for path in {endpoint.path for endpoint in world.api.table.endpoints}:
        wanted = "GET" if method == "HEAD" else method
        if (wanted, path) in known:
            continue
        target = path.replace("{job}", "backup").replace("{id}", run_id(1))
        assert world.ask(target, method, headers={"Content-Length": "0"})[0] == 405, path
    assert world.control.asked == []


# --- threat 3: paths --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/api/v1/jobs/backup/runs/", "//api/v1/jobs/backup/runs", "/api/v1//jobs/backup/runs", "/API/v1/reload",
     "/api/v1/reload/", "/api/v1/reload;x", "/api/v1/reload%00", "/health/../api/v1/reload", "/api/v1/./reload",
     "/metrics%2f..%2fapi%2fv1%2freload", "/api/v1/reload%20", "/api/v2/reload"],
)  # fmt: skip
def test_no_other_spelling_of_a_path_is_that_path(world: World, path: str) -> None:
    assert world.ask(path, "POST")[0] in (404, 405)
    assert world.control.asked == []


def test_an_encoded_slash_is_judged_by_the_route_it_leads_to(world: World) -> None:
    for path in ("/api/v1/jobs/backup%2fruns", "/api/v1/jobs%2fbackup/pause", "/api/v1/%6aobs/backup/resume"):
        assert world.ask(path, "POST", way="tcp")[0] == 403
    assert world.control.asked == []


# --- threat 4 and 5: pages in a browser -------------------------------------------------------------------


def test_a_page_of_another_site_changes_nothing_even_with_the_token(tmp_path: Path, token_file: Path) -> None:
    with world_in(tmp_path, token_file=str(token_file)) as world:
        for way in ("tcp", "unix"):
            headers = {"Origin": "http://evil.example", **bearer(TOKEN)}
            assert world.ask("/api/v1/reload", "POST", way=way, headers=headers)[0] == 403
        rebound = {"Host": "evil.example", **bearer(TOKEN)}
        assert world.ask("/api/v1/reload", "POST", way="tcp", headers=rebound)[0] == 421
        assert world.control.asked == []


def test_get_never_changes_anything(world: World) -> None:
    for endpoint in world.api.table.endpoints:
        if endpoint.name != "events":
            world.ask(filled(endpoint))
    assert world.control.asked == []


# --- threat 6: the token ----------------------------------------------------------------------------------


def test_the_token_opens_what_needs_one(tmp_path: Path, token_file: Path) -> None:
    with world_in(tmp_path, token_file=str(token_file)) as world:
        world.remember(ended(1))
        for path in ("/api/v1/why?job=backup", f"/api/v1/runs/{run_id(1)}/output"):
            assert world.ask(path, way="tcp")[0] == 401
            assert world.ask(path, way="tcp", headers=bearer(TOKEN))[0] == 200
        refused = world.ask("/api/v1/reload", "POST", way="tcp", headers=bearer("x" * 28))
        assert refused[0] == 401 and refused[1]["www-authenticate"] == "Bearer" and TOKEN.encode() not in refused[2]
        for headers in ({}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"}, bearer("")):
            assert world.ask("/api/v1/reload", "POST", way="tcp", headers=headers)[0] == 401
        assert world.ask(f"/api/v1/reload?token={TOKEN}", "POST", way="tcp")[0] == 401
        assert world.control.asked == []
        assert world.ask("/api/v1/reload", "POST", way="tcp", headers=bearer(TOKEN))[0] == 200
        assert world.control.asked == [("reload", "a token from 127.0.0.1")]


def test_a_definition_is_confided_only(tmp_path: Path, token_file: Path) -> None:
    with world_in(tmp_path, token_file=str(token_file)) as world:
        assert world.json("/api/v1/jobs/backup", way="tcp")["definition"] is None
        assert world.json("/api/v1/jobs/backup", way="tcp", headers=bearer("wrong" * 5))["definition"] is None
        assert world.json("/api/v1/jobs/backup", way="tcp", headers=bearer(TOKEN))["definition"]["name"] == "backup"


def test_a_new_token_is_taken_up_without_a_restart(tmp_path: Path, token_file: Path) -> None:
    with world_in(tmp_path, token_file=str(token_file)) as world:
        assert world.ask("/api/v1/reload", "POST", way="tcp", headers=bearer(TOKEN))[0] == 200
        token_file.write_text("another-token-altogether")
        assert world.ask("/api/v1/reload", "POST", way="tcp", headers=bearer(TOKEN))[0] == 401
        assert world.ask("/api/v1/reload", "POST", way="tcp", headers=bearer("another-token-altogether"))[0] == 200


@pytest.mark.parametrize("spoil", ["mode 0644", "mode 0640", "owner", "short", "missing", "link", "folder"])
def test_a_token_that_others_may_know_opens_nothing(tmp_path: Path, token_file: Path, spoil: str) -> None:
    match spoil:
        case "mode 0644" | "mode 0640":
            token_file.chmod(int(spoil.split()[1], 8))
        case "owner":
            os.chown(token_file, NOBODY.pw_uid, -1)
        case "short":
            token_file.write_text("short")
        case "missing":
            token_file.unlink()
        case "link":
            token_file.rename(tmp_path / "real")
            token_file.symlink_to(tmp_path / "real")
        case "folder":
            token_file.unlink()
            token_file.mkdir()
    with world_in(tmp_path, token_file=str(token_file)) as world:
        given = "short" if spoil == "short" else TOKEN
        status, _, body = world.ask("/api/v1/reload", "POST", way="tcp", headers=bearer(given))
        assert status == 403 and b"cannot be used" in body and TOKEN.encode() not in body
        assert world.control.asked == []


def test_a_credential_of_systemd_may_show_its_access_list_as_the_groups_bit(
    tmp_path: Path, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token_file.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with world_in(tmp_path, token_file=str(token_file)) as world:
        assert world.ask("/api/v1/reload", "POST", way="tcp", headers=bearer(TOKEN))[0] == 200


# --- threat 7: who is at the socket -----------------------------------------------------------------------


def test_members_of_the_operators_group_operate(tmp_path: Path) -> None:
    operators = grp.getgrnam("audio")
    with world_in(tmp_path, operators="audio") as world:
        assert world.path.stat().st_gid == operators.gr_gid
        request = [("POST", "/api/v1/reload")]
        uid, gid = NOBODY.pw_uid, NOBODY.pw_gid
        assert ask_as(world, request, uid, operators.gr_gid, [])[0][0] == 200
        assert ask_as(world, request, uid, gid, [gid, operators.gr_gid])[0][0] == 200
        status, body = ask_as(world, request, uid, gid, [gid])[0]
        assert status == 403 and "members of the group audio" in body
        assert [asked[0] for asked in world.control.asked] == ["reload", "reload"]
        assert re.fullmatch(r"nobody \(pid \d+\)", world.control.asked[0][1])


def test_who_operates_changes_with_the_live_plan(tmp_path: Path) -> None:
    with world_in(tmp_path, operators="audio") as world:
        world.plan = msgspec.structs.replace(world.plan, control=ControlSettings())
        group = grp.getgrnam("audio").gr_gid
        assert ask_as(world, [("POST", "/api/v1/reload")], NOBODY.pw_uid, group, [])[0][0] == 403


def test_the_socket_has_its_mode_before_anybody_can_connect(world: World) -> None:
    assert stat.S_IMODE(world.path.stat().st_mode) == 0o660
    assert stat.S_ISSOCK(world.path.stat().st_mode)


# --- threat 22: floods ------------------------------------------------------------------------------------


def test_a_flood_of_changes_is_slowed_down_for_its_peer_alone(
    tmp_path: Path, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate, "BURST", 5.0)
    monkeypatch.setattr(rate, "RATE_PER_S", 0.001)
    with world_in(tmp_path, token_file=str(token_file)) as world:
        answers = [world.ask("/api/v1/reload", "POST") for _ in range(7)]
        assert [answer[0] for answer in answers] == [200] * 5 + [429] * 2
        assert answers[-1][1]["retry-after"] == "1"
        assert world.ask("/api/v1/jobs")[0] == 200  # reading goes on
        assert world.ask("/api/v1/reload", "POST", way="tcp", headers=bearer(TOKEN))[0] == 200


def test_guesses_at_the_token_are_slowed_down(
    tmp_path: Path, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate, "BURST", 5.0)
    monkeypatch.setattr(rate, "RATE_PER_S", 0.001)
    with world_in(tmp_path, token_file=str(token_file)) as world:
        guesses = [world.ask("/api/v1/why?job=a", way="tcp", headers=bearer("x" * 20))[0] for _ in range(6)]
        assert guesses == [401] * 5 + [429]


def test_a_large_body_is_refused_on_the_socket_too(world: World) -> None:
    answer = world.ask("/api/v1/jobs/backup/runs", "POST", headers={"Content-Length": "70000"})
    assert answer[0] == 413 and world.control.asked == []


# --- fault 39: the place of the socket --------------------------------------------------------------------


def listening(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


def open_at(world: World, path: Path) -> Any:
    return world.call(serve_unix(world.api, path, ControlSettings()))


def test_a_stale_socket_is_replaced(world: World, tmp_path: Path) -> None:
    path = tmp_path / "stale.sock"
    listening(path).close()
    server = open_at(world, path)
    world.call(server.close())
    assert not path.exists()


def test_a_live_socket_is_left_alone(world: World, tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="another program answers"):
        open_at(world, world.path)
    assert world.ask("/health")[0] == 200


@pytest.mark.parametrize("what", ["file", "folder", "link", "foreign", "long", "nowhere"])
def test_what_is_in_the_way_is_never_removed(world: World, tmp_path: Path, what: str) -> None:
    path = tmp_path / "in-the-way"
    match what:
        case "file":
            path.write_text("dear")
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(world.path)
        case "foreign":
            listening(path).close()
            os.chown(path, NOBODY.pw_uid, -1)
        case "long":
            path = tmp_path / ("x" * 120)
        case "nowhere":
            path = tmp_path / "no" / "folder.sock"
    with pytest.raises(ListenError) as caught:
        open_at(world, path)
    assert str(path) in str(caught.value)
    assert what in ("long", "nowhere") or os.path.lexists(path)


def test_closing_removes_our_socket_and_nobody_elses(world: World, tmp_path: Path) -> None:
    path = tmp_path / "other.sock"
    server = open_at(world, path)
    path.unlink()
    theirs = listening(path)
    world.call(server.close())
    assert path.exists()
    theirs.close()


def test_a_group_that_does_not_exist_is_told_and_nobody_gets_the_socket(world: World, tmp_path: Path) -> None:
    server = world.call(serve_unix(world.api, tmp_path / "g.sock", ControlSettings(operators="no-such-group")))
    assert "no group no-such-group" in server.notice
    assert (tmp_path / "g.sock").stat().st_gid == os.getegid()
    world.call(server.close())
