"""The keeper as a service of its own: what its service manager hears, and that it stays."""

import asyncio
import os
import socket
import stat
import struct
import subprocess
from pathlib import Path

import pytest

from tidegate.api import unix
from tidegate.executors.link import KeeperError, KeeperLink
from tidegate.executors.reach import command_line
from tidegate.model.plan import ControlSettings
from tidegate.settings.places import KEEPER_VARIABLE
from tidegate.settings.secret import check_secret

pytestmark = pytest.mark.live


def test_it_tells_when_it_listens_outlives_a_shutdown_and_ends_by_term(tmp_path: Path) -> None:
    runtime, state, told = tmp_path / "run", tmp_path / "state", tmp_path / "notify"
    runtime.mkdir()
    state.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(told))
        manager.settimeout(20)
        keeper = subprocess.Popen(command_line(runtime, "--stay"), env={"NOTIFY_SOCKET": str(told)})
        try:
            assert manager.recv(4096).startswith(b"READY=1\n")

            async def twice() -> list[int]:
                pids = []
                for _ in range(2):
                    link = await KeeperLink.open(runtime, state, lambda event: None)
                    pids.append(link.keeper_pid)
                    await link.close(shutdown=True)
                return pids

            assert asyncio.run(twice()) == [keeper.pid, keeper.pid]
            assert keeper.poll() is None
            keeper.terminate()
            assert manager.recv(4096) == b"STOPPING=1"
            assert keeper.wait(20) == 0
        finally:
            keeper.kill()
            keeper.wait()


def test_where_it_is_a_service_none_is_started_and_its_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEEPER_VARIABLE, str(tmp_path))
    with pytest.raises(KeeperError, match="systemctl start tidegate-keeper"):
        asyncio.run(KeeperLink.open(tmp_path, tmp_path, lambda event: None))
    with pytest.raises(KeeperError, match="systemctl start tidegate-keeper"):
        asyncio.run(KeeperLink.open(tmp_path / "missing", tmp_path, lambda event: None))


def test_without_the_right_to_give_it_away_the_socket_is_opened_by_an_access_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    assert unix._opened_to(path, ControlSettings(operators="audio").operators) == ""
    acl = os.getxattr(path, unix.ACL_NAME)
    entries = [struct.unpack_from("<HHI", acl, offset) for offset in range(4, len(acl), 8)]
    gid = unix.grp.getgrnam("audio").gr_gid
    assert (unix.ACL_GROUP, 6, gid) in entries
    assert (unix.ACL_OTHERS, 0, unix.ACL_NO_ID) in entries
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_credential_may_be_missing_but_for_the_service_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/run/credentials/nothing.service/token"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    check_secret(path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/nothing.service")
    with pytest.raises(ValueError, match="LoadCredential="):
        check_secret(path)
    with pytest.raises(ValueError, match="cannot be read"):
        check_secret("/nonexistent/token")
