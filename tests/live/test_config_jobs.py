"""The programs of config/bin, as jobs see the world: a bare environment, real files, real exit codes."""

import fcntl
import gzip
import importlib.machinery
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

from tidegate.settings.read import load

pytestmark = pytest.mark.live

CONFIG = Path(__file__).resolve().parents[2] / "config"
BIN = CONFIG / "bin"
TIDEGATE = Path(sys.executable).parent / "tidegate"
PROGRAMS = sorted(path.name for path in BIN.iterdir())
JOB_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OLD = time.time() - 10 * 86400


def run(program: str, *arguments: str | Path, cwd: Path, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / program, *arguments],
        cwd=cwd,
        env=bare_environment(cwd),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def bare_environment(home: Path) -> dict[str, str]:
    # Our own python last, for a machine that has none at the usual places.
    return {"PATH": f"{JOB_PATH}:{Path(sys.executable).parent}", "HOME": str(home), "LANG": "C.UTF-8"}


def imported(program: str) -> ModuleType:
    """A program of config/bin as a module, for what is awkward to bring about from outside."""
    loader = importlib.machinery.SourceFileLoader(program.replace("-", "_"), str(BIN / program))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
    return module


def wait_for(fact, deadline_s: float = 20.0) -> None:
    give_up_at = time.monotonic() + deadline_s
    while not fact():
        assert time.monotonic() < give_up_at, "it did not happen in time"
        time.sleep(0.01)


# --- all of them -----------------------------------------------------------------------------------


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_tells_the_exit_codes(program, tmp_path):
    done = run(program, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Exit codes: 0" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_bad_usage_is_exit_code_2_and_says_so(program, tmp_path):
    done = run(program, "--no-such-option", cwd=tmp_path)
    assert done.returncode == 2
    assert program in done.stderr
    assert "Traceback" not in done.stderr


# --- heartbeat ---------------------------------------------------------------------------------------


def test_heartbeat_writes_the_latest_and_appends_to_the_log(tmp_path):
    for _ in range(2):
        done = run("heartbeat", "--to", "alive/now.json", "--log", "logs/%Y.log", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    beat = json.loads((tmp_path / "alive/now.json").read_text())
    assert abs(datetime.fromisoformat(beat["at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert beat["host"] == os.uname().nodename
    assert beat["load_1m"] >= 0
    assert beat["uptime_s"] > 0
    logs = list((tmp_path / "logs").iterdir())
    assert [log.name for log in logs] == [f"{beat['at'][:4]}.log"]
    assert [json.loads(line)["host"] for line in logs[0].read_text().splitlines()] == [beat["host"]] * 2
    assert [path.name for path in (tmp_path / "alive").iterdir()] == ["now.json"]


def test_heartbeat_that_cannot_be_written_fails(tmp_path):
    (tmp_path / "file").touch()
    done = run("heartbeat", "--to", "file/now.json", cwd=tmp_path)
    assert done.returncode == 1
    assert "file" in done.stderr


# --- disk-watch --------------------------------------------------------------------------------------

MOUNTINFO = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 8:2 / /mnt/with\\040blank rw - xfs /dev/sda2 rw
23 21 8:2 / /very/long/bind/mount rw - xfs /dev/sda2 rw
24 21 0:5 / /snap ro - squashfs /dev/loop0 ro
25 21 8:3 / /mnt/read-only rw - ext4 /dev/sda3 ro
26 21 8:4 / /hidden rw - ext4 /dev/sda4 rw
27 26 0:9 / /hidden ro - ext4 /dev/sda5 ro
"""


def test_disk_watch_looks_at_each_device_once_and_at_what_can_fill_up():
    program = imported("disk-watch")
    assert program.distinct(program.mounts(MOUNTINFO)) == {"/": "ext4", "/mnt/with blank": "xfs"}


def test_disk_watch_reads_the_machines_own_file_systems(tmp_path):
    done = run("disk-watch", "--used", "100", cwd=tmp_path)
    assert re.search(r"^(ok|OVER)\s+/: [\d.]+% of [\d.]+ \wi?B", done.stdout, re.M), done.stdout + done.stderr


def test_disk_watch_fails_over_the_threshold(tmp_path):
    below = run("disk-watch", "--used", "100", "--inodes", "100", "/", cwd=tmp_path)
    over = run("disk-watch", "--used", "0.0001", "/", cwd=tmp_path)
    assert (below.returncode, below.stdout[:6]) == (0, "ok   /")
    assert (over.returncode, over.stdout[:6]) == (1, "OVER /")


def test_disk_watch_counts_inodes():
    program = imported("disk-watch")
    counted = next(path for path in ("/dev/shm", "/tmp", "/", "/run") if os.statvfs(path).f_files)
    assert program.main(["--inodes", "100", "--used", "100", counted]) == 0
    assert program.main(["--inodes", "0.0000001", "--used", "100", counted]) == 1


def test_disk_watch_passes_over_what_is_ignored(tmp_path):
    done = run("disk-watch", "--ignore", "*", cwd=tmp_path)
    assert done.returncode == 1
    assert "no file system was read" in done.stderr


def test_disk_watch_fails_for_a_path_that_is_not_there(tmp_path):
    done = run("disk-watch", "gone", cwd=tmp_path)
    assert done.returncode == 1
    assert "gone: cannot be read: No such file" in done.stderr


def test_disk_watch_keeps_readings_and_tells_growth(tmp_path):
    assert run("disk-watch", "--record", "deep/disk.db", "--used", "100", "/", cwd=tmp_path).returncode == 0
    with closing(sqlite3.connect(tmp_path / "deep/disk.db")) as database:
        with database:
            assert database.execute("SELECT count(*) FROM readings WHERE used_bytes > 0").fetchone() == (1,)
            database.execute("UPDATE readings SET used_bytes = 0, at = at - 3600")
            database.execute("INSERT INTO readings VALUES (1000000000, '/', 1)")  # from 2001
        done = run("disk-watch", "--record", "deep/disk.db", "--used", "100", "/", cwd=tmp_path)
        assert re.search(r", [\d.]+ \w+ more than at \d\d:\d\d$", done.stdout, re.M), done.stdout
        assert database.execute("SELECT count(*) FROM readings").fetchone() == (2,), "old readings are kept for ever"


def test_disk_watch_fails_when_the_readings_cannot_be_kept(tmp_path):
    (tmp_path / "disk.db").write_text("no database " * 100)
    done = run("disk-watch", "--record", "disk.db", "--used", "100", "/", cwd=tmp_path)
    assert done.returncode == 1
    assert "disk.db: readings not kept" in done.stderr
    assert done.stdout.startswith("ok"), "the reading itself is told all the same"


# --- sqlite-backup -----------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path):
    """A database in WAL mode that is in use: one row committed, one not yet."""
    with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES ('committed')")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES ('not yet')")
        yield connection


def copies(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_sqlite_backup_of_a_database_in_use_holds_what_was_committed(tmp_path, database):
    done = run("sqlite-backup", "--to", "backups", "app.db", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (copy,) = copies(tmp_path / "backups")
    assert copy.parent == Path(f"{tmp_path}/backups{tmp_path}/app.db")
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(f"file:{copy}?immutable=1", uri=True)) as backup:
        assert backup.execute("SELECT x FROM t").fetchall() == [("committed",)]
        assert backup.execute("PRAGMA journal_mode").fetchone() == ("delete",), "a copy must be one file"
    database.execute("COMMIT")  # our reading and locking did not disturb the writer


def test_sqlite_backup_keeps_the_newest(tmp_path, database):
    assert run("sqlite-backup", "--to", "backups", "app.db", cwd=tmp_path).returncode == 0
    (first,) = copies(tmp_path / "backups")
    for day in range(1, 5):
        shutil.copy2(first, first.with_name(f"2001010{day}T000000Z.sqlite"))
    (first.parent / "notes.txt").touch()
    assert run("sqlite-backup", "--to", "backups", "--keep", "3", "app.db", cwd=tmp_path).returncode == 0
    names = [path.name for path in copies(tmp_path / "backups")]
    assert "notes.txt" in names, "what is not ours is not rotated"
    names.remove("notes.txt")
    assert len(names) == 3
    assert first.name in names
    assert "20010101T000000Z.sqlite" not in names


def test_sqlite_backup_takes_patterns_and_passes_over_other_files_and_its_own_copies(tmp_path, database):
    (tmp_path / "other.db").write_text("hello")
    (tmp_path / "folder.db").mkdir()
    for _ in range(2):
        done = run("sqlite-backup", "--to", "backups", "**/*.db", "**/*.sqlite", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    assert {path.parent.name for path in copies(tmp_path / "backups")} == {"app.db"}
    assert not (tmp_path / f"backups{tmp_path}/backups").exists()


def test_sqlite_backup_expands_the_home(tmp_path, database):
    assert run("sqlite-backup", "--to", "~/backups", "~/*.db", cwd=tmp_path).returncode == 0
    assert len(copies(tmp_path / "backups")) == 1


@pytest.mark.parametrize(("name", "says"), [("gone.db", "No such file"), ("text.db", "not a SQLite database")])
def test_sqlite_backup_fails_for_what_is_named_and_is_no_database_but_does_the_others(tmp_path, database, name, says):
    (tmp_path / "text.db").write_text("hello")
    done = run("sqlite-backup", "--to", "backups", name, "app.db", cwd=tmp_path)
    assert done.returncode == 1
    assert f"{name}: {says}" in done.stderr
    assert len(copies(tmp_path / "backups")) == 1


def test_sqlite_backup_of_nothing_fails_unless_that_is_allowed(tmp_path):
    done = run("sqlite-backup", "--to", "backups", "*.db", cwd=tmp_path)
    assert done.returncode == 1
    assert "no databases match *.db" in done.stderr
    done = run("sqlite-backup", "--to", "backups", "--allow-empty", "*.db", cwd=tmp_path)
    assert done.returncode == 0
    assert "no databases match *.db" in done.stderr


def test_sqlite_backup_gives_up_on_a_locked_database(tmp_path):
    with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as holder:
        holder.execute("CREATE TABLE t (x)")
        holder.execute("BEGIN EXCLUSIVE")
        done = run("sqlite-backup", "--to", "backups", "--wait", "0.1", "app.db", cwd=tmp_path, timeout_s=20)
    assert done.returncode == 1
    assert "locked by another program for 0.1 s" in done.stderr
    assert copies(tmp_path / "backups") == []


def test_sqlite_backup_publishes_no_damaged_copy(tmp_path):
    with closing(sqlite3.connect(tmp_path / "app.db")) as broken, broken:
        broken.execute("CREATE TABLE t (x)")
        broken.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 500)
    with open(tmp_path / "app.db", "r+b") as file:
        file.seek(4096 * 5)
        file.write(b"\xff" * 4096 * 3)
    done = run("sqlite-backup", "--to", "backups", "app.db", cwd=tmp_path)
    assert done.returncode == 1
    assert "not backed up" in done.stderr
    assert copies(tmp_path / "backups") == []


def test_two_sqlite_backups_do_not_meet_in_one_folder(tmp_path, database):
    folder = Path(f"{tmp_path}/backups{tmp_path}/app.db")
    folder.mkdir(parents=True)
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        done = run("sqlite-backup", "--to", "backups", "app.db", cwd=tmp_path)
    finally:
        os.close(held)
    assert done.returncode == 1
    assert "another backup into" in done.stderr


def test_sqlite_backup_that_is_terminated_leaves_nothing_half_made(tmp_path):
    with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as holder:
        holder.execute("CREATE TABLE t (x)")
        holder.execute("BEGIN EXCLUSIVE")
        command = [BIN / "sqlite-backup", "--to", "backups", "--wait", "60", "app.db"]
        process = subprocess.Popen(command, cwd=tmp_path, env=bare_environment(tmp_path))
        try:
            wait_for(lambda: (tmp_path / "backups").exists() and copies(tmp_path / "backups"))
            process.terminate()
            assert process.wait(timeout=20) == 128 + signal.SIGTERM
        finally:
            process.kill()
            process.wait()
    assert copies(tmp_path / "backups") == []


# --- compress-logs -----------------------------------------------------------------------------------


def log(path: Path, text: str = "line\n" * 1000, at: float = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))
    return path


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_compress_logs_keeps_content_time_and_mode(tmp_path):
    path = log(tmp_path / "logs/deep/app.log")
    path.chmod(0o640)
    before = path.stat()
    done = run("compress-logs", "logs", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert names(tmp_path) == ["logs/deep/app.log.gz"]
    packed = tmp_path / "logs/deep/app.log.gz"
    assert gzip.decompress(packed.read_bytes()) == b"line\n" * 1000
    assert packed.stat().st_mtime_ns == before.st_mtime_ns
    assert packed.stat().st_mode == before.st_mode
    assert f"1 files compressed, {before.st_size - packed.stat().st_size} bytes saved" in done.stdout


def test_compress_logs_takes_only_what_is_old_matches_and_is_a_plain_file(tmp_path):
    log(tmp_path / "logs/fresh.log", at=time.time())
    log(tmp_path / "logs/data.csv")
    log(tmp_path / "logs/done.log.1.gz")
    log(tmp_path / "logs/empty.log", text="")
    log(tmp_path / "logs/twin.log")
    os.link(tmp_path / "logs/twin.log", tmp_path / "logs/twin2.log")
    log(tmp_path / "elsewhere.log")
    (tmp_path / "logs/link.log").symlink_to(tmp_path / "elsewhere.log")
    before = names(tmp_path)
    done = run("compress-logs", "logs", cwd=tmp_path)
    assert done.returncode == 0
    assert names(tmp_path) == before
    assert "0 files compressed" in done.stdout
    run("compress-logs", "--match", "*.csv", "--older", "5d", "logs", cwd=tmp_path)
    assert sorted(set(names(tmp_path)) - set(before)) == ["logs/data.csv.gz"]


def test_compress_logs_leaves_a_file_that_is_open_for_writing(tmp_path):
    path = log(tmp_path / "logs/app.log")
    with open(path, "a"):
        done = run("compress-logs", "logs", cwd=tmp_path)
    assert done.returncode == 0
    assert "app.log: left alone: open" in done.stdout
    assert names(tmp_path) == ["logs/app.log"]


def test_compress_logs_without_leases_finds_the_writer_in_proc(tmp_path):
    program = imported("compress-logs")
    path = log(tmp_path / "app.log")
    assert not program.is_open_elsewhere(str(path))
    with open(path, "a") as file:
        sleeper = subprocess.Popen(["sleep", "60"], stdout=file)
    try:
        assert program.is_open_elsewhere(str(path))
    finally:
        sleeper.kill()
        sleeper.wait()


def test_compress_logs_gives_up_on_a_file_that_changes_meanwhile(tmp_path, monkeypatch):
    program = imported("compress-logs")
    path = log(tmp_path / "app.log")
    pack = program.pack

    def pack_while_it_changes(source, before, partial):
        pack(source, before, partial)
        os.utime(path)

    monkeypatch.setattr(program, "pack", pack_while_it_changes)
    with pytest.raises(program.LeaveIt, match="changed meanwhile"):
        program.compress(str(path))
    assert names(tmp_path) == ["app.log"]


def test_compress_logs_keeps_the_original_when_the_copy_does_not_read_back(tmp_path, monkeypatch):
    program = imported("compress-logs")
    path = log(tmp_path / "app.log")
    monkeypatch.setattr(program, "read_back", lambda _path: (0, 0))
    with pytest.raises(program.LeaveIt, match="does not read back"):
        program.compress(str(path))
    assert names(tmp_path) == ["app.log"]


def test_compress_logs_overwrites_nothing(tmp_path):
    log(tmp_path / "logs/app.log")
    (tmp_path / "logs/app.log.gz").write_text("somebody's")
    done = run("compress-logs", "logs", cwd=tmp_path)
    assert "left alone: app.log.gz is already there" in done.stdout
    assert (tmp_path / "logs/app.log.gz").read_text() == "somebody's"
    assert (tmp_path / "logs/app.log").exists()


def test_compress_logs_goes_on_after_an_interrupted_run(tmp_path):
    log(tmp_path / "logs/app.log")
    (tmp_path / "logs/app.log.gz.partial").write_text("half")
    assert run("compress-logs", "logs", cwd=tmp_path).returncode == 0
    assert names(tmp_path) == ["logs/app.log.gz"]


def test_compress_logs_dry_run_changes_nothing(tmp_path):
    log(tmp_path / "logs/app.log")
    done = run("compress-logs", "--dry-run", "logs", cwd=tmp_path)
    assert done.stdout == "would compress logs/app.log\n"
    assert names(tmp_path) == ["logs/app.log"]


def test_compress_logs_says_when_a_folder_is_missing(tmp_path):
    log(tmp_path / "logs/app.log")
    done = run("compress-logs", "gone", "logs", cwd=tmp_path)
    assert done.returncode == 1
    assert "gone: No such file" in done.stderr
    assert names(tmp_path) == ["logs/app.log.gz"], "the other folder is dealt with all the same"
    assert run("compress-logs", "--allow-missing", "gone", cwd=tmp_path).returncode == 0


# --- checksum-audit ----------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    for name in ("a", "b", "sub/c"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(name)
    (tmp_path / "tree/link").symlink_to("a")
    (tmp_path / "tree/folder-link").symlink_to("sub")
    os.mkfifo(tmp_path / "tree/fifo")
    first = run("checksum-audit", "tree", "--manifest", "state/m.json", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "5 files: this is the baseline now" in first.stdout
    return tmp_path / "tree"


def audit(tree: Path, *options: str) -> tuple[int, list[str]]:
    done = run("checksum-audit", "tree", "--manifest", "state/m.json", *options, cwd=tree.parent)
    assert done.stderr == ""
    *lines, _summary = done.stdout.splitlines()
    return done.returncode, [line.replace(f"{tree}/", "") for line in lines]


def change(tree: Path) -> list[str]:
    (tree / "a").write_text("A")
    (tree / "b").unlink()
    (tree / "new").write_text("new")
    return ["changed a", "removed b", "added   new"]


def test_checksum_audit_of_an_unchanged_tree_finds_nothing(tree):
    os.utime(tree / "a")  # a time is no content
    assert audit(tree) == (0, [])


def test_checksum_audit_goes_on_failing_until_it_is_accepted(tree):
    expected = change(tree)
    assert audit(tree) == (1, expected)
    assert audit(tree) == (1, expected)
    assert audit(tree, "--accept") == (0, expected)
    assert audit(tree) == (0, [])


def test_checksum_audit_with_follow_tells_each_difference_once(tree):
    expected = change(tree)
    assert audit(tree, "--follow") == (1, expected)
    assert audit(tree, "--follow") == (0, [])


def test_checksum_audit_sees_modes_and_targets_of_links(tree):
    (tree / "a").chmod(0o600)
    (tree / "link").unlink()
    (tree / "link").symlink_to("b")
    assert audit(tree) == (1, ["changed a", "changed link"])


def test_checksum_audit_sees_content_that_changed_behind_an_unchanged_time_and_size(tree):
    before = (tree / "a").stat()
    (tree / "a").write_text("z")
    os.utime(tree / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert audit(tree) == (1, ["changed a"])


def test_checksum_audit_excludes_whole_paths(tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a").touch()
    command = ["tree", "--manifest", "m.json", "--exclude", "*/noise*"]
    assert run("checksum-audit", *command, cwd=tmp_path).returncode == 0
    (tmp_path / "tree/noise.txt").touch()
    assert run("checksum-audit", *command, cwd=tmp_path).returncode == 0


def test_checksum_audit_does_not_compare_with_another_trees_manifest(tree):
    done = run("checksum-audit", "tree/sub", "--manifest", "state/m.json", cwd=tree.parent)
    assert done.returncode == 1
    assert "made for other trees" in done.stderr


@pytest.mark.parametrize("damage", ["", "{", '{"format": 1}', '{"format": 99}', "[]", "\x00\xff"])
def test_checksum_audit_refuses_a_damaged_manifest_until_a_new_one_is_accepted(tree, damage):
    manifest = tree.parent / "state/m.json"
    manifest.write_text(damage)
    done = run("checksum-audit", "tree", "--manifest", "state/m.json", cwd=tree.parent)
    assert done.returncode == 1
    assert "--accept" in done.stderr
    assert manifest.read_text() == damage
    done = run("checksum-audit", "tree", "--manifest", "state/m.json", "--accept", cwd=tree.parent)
    assert done.returncode == 0
    assert audit(tree) == (0, [])


def test_checksum_audit_escapes_names(tree):
    (tree / "evil\x1b[2J\n").touch()
    Path(os.fsdecode(os.fsencode(tree) + b"/\xff")).touch()
    assert audit(tree, "--accept") == (0, ["added   evil\\x1b[2J\\n", "added   \\xff"])
    assert audit(tree) == (0, [])


def test_checksum_audit_fails_for_a_tree_that_is_not_there(tmp_path):
    done = run("checksum-audit", "gone", "--manifest", "m.json", cwd=tmp_path)
    assert done.returncode == 1
    assert "gone: No such file" in done.stderr
    assert names(tmp_path) == []


# --- cert-expiry -------------------------------------------------------------------------------------


def certificate(folder: Path, name: str, days: int, *, authority: bool = False) -> Path:
    """A self-signed certificate with its key in the same file, as some servers want it."""
    path = folder / f"{name}.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        + ["-subj", f"/O=Example/CN={name}", "-days", str(days), "-keyout", path, "-out", f"{path}.cert"]
        + ["-addext", f"basicConstraints=critical,CA:{'TRUE' if authority else 'FALSE'}"],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + Path(f"{path}.cert").read_text())
    Path(f"{path}.cert").unlink()
    return path


def test_cert_expiry_tells_what_expires_soon(tmp_path):
    certificate(tmp_path, "soon", 10)
    certificate(tmp_path, "later", 100)
    done = run("cert-expiry", "*.pem", "--within", "30d", cwd=tmp_path)
    assert done.returncode == 1
    assert re.search(r"^expires \d{4}-\d\d-\d\d \d\d:\d\dZ soon \(soon\.pem\)$", done.stdout, re.M), done.stdout
    assert "later" not in done.stdout
    done = run("cert-expiry", "*.pem", "--within", "1w", cwd=tmp_path)
    assert done.returncode == 0
    assert "2 certificates in 2 files looked at" in done.stdout


def test_cert_expiry_tells_what_has_expired(tmp_path, capsys):
    program = imported("cert-expiry")
    path = certificate(tmp_path, "old", 10)
    check = program.Check(datetime.now(UTC) + timedelta(days=11), timedelta(0), roots=False)
    check.file(str(path), outright=True)
    assert check.failed
    assert capsys.readouterr().out.startswith("EXPIRED ")


def test_cert_expiry_counts_roots_and_fails_for_them_only_when_asked(tmp_path):
    certificate(tmp_path, "root", 10, authority=True)
    done = run("cert-expiry", "root.pem", "--within", "30d", cwd=tmp_path)
    assert done.returncode == 0
    assert "of the roots 1 have expired or will soon" in done.stdout
    assert run("cert-expiry", "root.pem", "--within", "30d", "--roots", cwd=tmp_path).returncode == 1


def test_cert_expiry_looks_at_every_certificate_of_a_chain_once(tmp_path):
    chain = certificate(tmp_path, "a", 100).read_text() + certificate(tmp_path, "b", 10).read_text()
    (tmp_path / "chain.pem").write_text(chain)
    done = run("cert-expiry", "chain.pem", "b.pem", cwd=tmp_path)
    assert done.stdout.count("expires") == 1
    assert "2 certificates in 2 files" in done.stdout


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hello", "no certificate in it"),
        ("-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n", "base64 is damaged"),
        ("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", "not that of a certificate"),
        ("-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n", "ends too early"),
    ],
)
def test_cert_expiry_fails_for_a_damaged_file_and_says_why(tmp_path, text, says):
    (tmp_path / "x.pem").write_text(text)
    done = run("cert-expiry", "x.pem", cwd=tmp_path)
    assert done.returncode == 1
    assert "x.pem: " in done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_cert_expiry_of_nothing_fails_unless_that_is_allowed(tmp_path):
    done = run("cert-expiry", "*.pem", cwd=tmp_path)
    assert done.returncode == 1
    assert "no certificates in *.pem" in done.stderr
    assert run("cert-expiry", "--allow-empty", "*.pem", cwd=tmp_path).returncode == 0
    assert run("cert-expiry", "--allow-empty", "gone.pem", cwd=tmp_path).returncode == 1


def test_cert_expiry_reads_the_same_times_as_openssl(tmp_path):
    program = imported("cert-expiry")
    paths = [certificate(tmp_path, "near", 10), certificate(tmp_path, "far", 20000)]  # UTCTime and GeneralizedTime
    paths += sorted(Path("/etc/ssl/certs").glob("*.pem"))[:40]
    for path in paths:
        (der,) = program.blocks_of(str(path))
        shown = subprocess.run(
            ["openssl", "x509", "-in", path, "-noout", "-enddate"], capture_output=True, text=True, check=True
        ).stdout
        expected = datetime.strptime(shown.strip(), "notAfter=%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
        assert program.parse(der).expires == expected, path


def test_cert_expiry_survives_any_damage(tmp_path):
    program = imported("cert-expiry")
    (der,) = program.blocks_of(str(certificate(tmp_path, "x", 10)))
    chance = random.Random(1)
    refused = 0
    for number in range(5000):
        damaged = bytearray(der[: chance.randrange(len(der))] if number % 2 else der)
        for _ in range(chance.randrange(1, 4)):
            if damaged:
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            program.parse(bytes(damaged))
        except program.NoCertificate:
            refused += 1
    assert refused > 2500


# --- the set as a whole ------------------------------------------------------------------------------


def test_the_starting_set_is_a_good_configuration_of_programs_that_exist():
    plan = load(CONFIG / "tidegate.toml")
    assert plan.warnings == ()
    programs = set()
    for job in plan.jobs.values():
        assert job.command is not None
        program = Path(job.command[0])
        assert program.parent == BIN, job.name
        assert os.access(program, os.X_OK), program
        programs.add(program.name)
    assert programs == set(PROGRAMS), "a program that no job runs is no example"


@pytest.mark.parametrize("name", load(CONFIG / "tidegate.toml").jobs)
def test_each_job_of_the_set_succeeds_on_this_machine(name, tmp_path):
    command = load(CONFIG / "tidegate.toml").jobs[name].command
    assert command is not None
    done = run(Path(command[0]).name, *command[1:], cwd=tmp_path)
    assert done.stdout + done.stderr, "a run that says nothing teaches nothing"
    full = name in ("disk-watch", "backup-space") and "OVER" in done.stdout  # then it is right to fail
    assert done.returncode == (1 if full else 0), done.stdout + done.stderr


def test_every_file_names_its_schema_and_the_schema_is_the_commands_own():
    for path in [CONFIG / "tidegate.toml", *(CONFIG / "jobs.d").glob("*.toml")]:
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first.startswith("#:schema "), path
        assert (path.parent / first.removeprefix("#:schema ")).resolve() == CONFIG / "tidegate.schema.json"
    printed = subprocess.run([TIDEGATE, "schema"], capture_output=True, text=True, check=True).stdout
    kept = (CONFIG / "tidegate.schema.json").read_text(encoding="utf-8")
    assert kept == printed, "run: tidegate schema > config/tidegate.schema.json"


def test_the_daemon_runs_the_set_and_shows_it(tmp_path):
    """`make run` in small: the same set, with shorter intervals."""
    shutil.copytree(CONFIG, tmp_path / "config")
    (tmp_path / ".state/jobs").mkdir(parents=True, mode=0o700)
    for path in (tmp_path / "config/jobs.d").iterdir():
        path.write_text(re.sub(r'^every = "\w+"', 'every = "1s"', path.read_text(), flags=re.M))
    main = tmp_path / "config/tidegate.toml"
    text = main.read_text().replace("127.0.0.1:9810", "127.0.0.1:0")
    main.write_text(
        text.replace("# env = {", "env = {").replace("/sbin:/bin", f"/sbin:/bin:{Path(sys.executable).parent}")
    )
    state = {"STATE_DIRECTORY": str(tmp_path / ".state"), "RUNTIME_DIRECTORY": str(tmp_path / ".state/run")}
    log_path = tmp_path / "log"
    with open(log_path, "w") as log_file:
        daemon = subprocess.Popen(
            [TIDEGATE, "run", "--config", main],
            env={**bare_environment(tmp_path), **state},
            stdout=log_file,
            stderr=subprocess.STDOUT,
        )
    jobs = {
        "heartbeat",
        "disk-watch",
        "sqlite-backup",
        "backup-space",
        "cert-expiry",
        "compress-logs",
        "checksum-audit",
    }
    jobs -= {"disk-watch", "backup-space"}  # right to fail on a full disk
    try:
        wait_for(lambda: daemon.poll() is not None or jobs <= succeeded(log_path.read_text()), deadline_s=60)
        assert daemon.poll() is None, log_path.read_text()
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(timeout=30) == 0, log_path.read_text()
    finally:
        daemon.kill()
        daemon.wait()
    assert (tmp_path / ".state/jobs/heartbeat.json").exists(), "jobs work where tidegate.toml says"


def succeeded(log_text: str) -> set[str]:
    """The jobs of which the daemon's log says that they succeeded."""
    return {match[1] for match in re.finditer(r"([\w-]+)\W+(?:\x1b\[\d+m)*\W*succeeded in", log_text)}
