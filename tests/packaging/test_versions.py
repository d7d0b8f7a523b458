"""The installed daemon on state of other versions, and with its port taken: each time it says what to do."""

import socket

import pytest
from spare_disk import Disk, build

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

STATE = "/tmp/state"
RUN = f"STATE_DIRECTORY={STATE} RUNTIME_DIRECTORY=/tmp/run timeout --signal=TERM --kill-after=20 %d tidegate run 2>&1"
# A history as an earlier version left it: its tables, and one decision.
EARLIER = f"""
import os, sqlite3
from tidegate.history.schema import MIGRATIONS, VERSION
os.makedirs("{STATE}", mode=0o700)
db = sqlite3.connect("{STATE}/history.sqlite", isolation_level=None)
for script in MIGRATIONS[:VERSION - 1]:
    db.executescript(script)
columns = "at, fact, job, run_id, reason"
db.execute(f"INSERT INTO decisions ({{columns}}) VALUES (unixepoch() * 1000000, 'run.skipped', 'old', '', 'then')")
db.execute(f"PRAGMA user_version = {{VERSION - 1}}")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    disk = Disk(tmp_path_factory.mktemp("disk"))
    disk.install(build())
    disk.write("/etc/tidegate/tidegate.toml", '[http]\nlisten = ""\n')
    yield disk
    disk.remove()


@pytest.fixture
def disk(installed):
    installed.run(f"rm -rf {STATE} /tmp/run")
    return installed


def python(disk: Disk, text: str) -> str:
    disk.write("/tmp/script.py", text)
    return disk.run("/opt/tidegate/bin/python3 -I /tmp/script.py")


def sql(disk: Disk, statement: str) -> str:
    """The first value of what it answers."""
    text = (
        "import sqlite3\n"
        f"db = sqlite3.connect('{STATE}/history.sqlite', isolation_level=None)\n"
        f"print(*(db.execute({statement!r}).fetchone() or ['']))\n"
    )
    return python(disk, text).strip()


def version(disk: Disk) -> int:
    return int(sql(disk, "PRAGMA user_version"))


def known(disk: Disk) -> int:
    return int(python(disk, "from tidegate.history.schema import VERSION; print(VERSION)"))


def test_an_older_history_is_brought_to_this_version_with_what_it_held(disk):
    python(disk, EARLIER)
    assert version(disk) == known(disk) - 1
    said = disk.run(RUN % 4, code=None)
    assert "daemon.ready" in said
    assert version(disk) == known(disk)
    assert sql(disk, "SELECT reason FROM decisions WHERE job = 'old'") == "then"


def test_a_later_history_is_refused_untouched_and_the_way_out_is_said(disk):
    python(disk, EARLIER)
    later = known(disk) + 1
    sql(disk, f"PRAGMA user_version = {later}")
    said = disk.run(RUN % 20, code=1)
    assert f"schema {later}, this one knows {later - 1}" in said
    assert "install that version again" in said
    assert version(disk) == later


def test_a_port_in_use_is_told_with_who_has_it_and_what_to_change(disk):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        disk.write("/etc/tidegate/tidegate.toml", f'[http]\nlisten = "127.0.0.1:{port}"\n')
        said = disk.run(RUN % 20, code=1)
        disk.write("/etc/tidegate/tidegate.toml", '[http]\nlisten = ""\n')
    assert str(port) in said
    assert "listen" in said
