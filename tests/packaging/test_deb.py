"""The Debian package: what is in it, and what installing, upgrading, removing and purging it do. Needs root."""

import gzip
import re
import subprocess

import pytest
from spare_disk import ROOT, Disk, build, repacked

from tidegate.cli.main import COMMANDS

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]  # the first one builds the package
PACKAGES = "/opt/tidegate/lib/python3.*/site-packages"


@pytest.fixture(scope="session")
def package():
    return build()


@pytest.fixture(scope="session")
def later(package, tmp_path_factory):
    return repacked(package, tmp_path_factory.mktemp("later"), "9.0.0-1")


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """What was on the disk before."""
    disk = Disk(tmp_path_factory.mktemp("bare"))
    yield {"files": disk.files(), "users": disk.run("getent passwd; getent group")}
    disk.remove()


@pytest.fixture(scope="module")
def installed(package, tmp_path_factory):
    """Installed once, for tests that only look. `said` is what dpkg printed."""
    disk = Disk(tmp_path_factory.mktemp("installed"))
    disk.said = disk.install(package)
    yield disk
    disk.remove()


@pytest.fixture
def fresh(tmp_path):
    disk = Disk(tmp_path)
    yield disk
    disk.remove()


def test_lintian_finds_no_error(package):
    done = subprocess.run(["lintian", "--allow-root", package], capture_output=True, text=True, check=False)
    assert "E:" not in done.stdout, done.stdout
    assert done.returncode == 0, done.stderr


def test_it_is_no_larger_than_it_says(package):
    assert package.stat().st_size < 12_000_000


def test_the_installed_program_runs_on_the_distributions_python(installed):
    assert re.fullmatch(r"tidegate \d+\.\d+\.\d+\n", installed.run("tidegate --version"))
    assert installed.run("readlink -f /opt/tidegate/bin/python3").startswith("/usr/bin/python3.")
    assert installed.run("PYTHONPATH=/nonexistent PYTHONHOME=/nonexistent tidegate --version"), "whoever calls it"


def test_everything_it_can_do_with_libraries_is_there(installed):
    names = "systemd.journal, icalendar, recurring_ical_events, psutil, msgspec, uvicorn"
    installed.run(f"/opt/tidegate/bin/python3 -I -c 'import {names}'")


def test_the_configuration_that_comes_with_it_is_right(installed):
    assert installed.run("tidegate check").startswith("OK: ")
    assert "heartbeat" in installed.run("tidegate next")
    schema = installed.run("sed -n 's/^#:schema //p' /etc/tidegate/tidegate.toml").strip()
    installed.run(f"test -s {schema}")


def test_nothing_is_enabled_or_started_and_what_comes_next_is_said(installed):
    assert "systemctl enable --now tidegate" in installed.said
    assert installed.run("find /etc/systemd -name '*tidegate*'") == ""


def test_the_user_has_no_shell(installed):
    assert installed.run("getent passwd tidegate").endswith("/usr/sbin/nologin\n")


def test_no_file_can_be_changed_by_others_or_names_the_place_where_it_was_built(installed):
    whose = "\\( -not -user root -o -not -group root -o -perm /022 \\)"
    assert installed.run(f"find /opt/tidegate /etc/tidegate /usr/share/tidegate {whose} -not -type l") == ""
    assert installed.run(f"grep -rlF {ROOT} /opt/tidegate /usr/share/doc/tidegate /usr/share/man", code=1) == ""


def test_bytecode_is_there_and_fits(installed):
    stale = f"""
import glob, importlib.util, os, struct
for path in glob.glob("{PACKAGES}/**/*.py", recursive=True):
    with open(importlib.util.cache_from_source(path), "rb") as file:
        head = struct.unpack("<4sIII", file.read(16))
    seen = os.stat(path)
    assert head == (importlib.util.MAGIC_NUMBER, 0, int(seen.st_mtime), seen.st_size), path
"""
    installed.write("/tmp/stale.py", stale)
    installed.run("/opt/tidegate/bin/python3 -I /tmp/stale.py")


@pytest.mark.parametrize("name", [*(f"tidegate-{command}.1" for command in COMMANDS), "tidegate.1", "tidegate.toml.5"])
def test_every_command_and_the_configuration_has_its_page(installed, name, tmp_path):
    packed = installed.root / f"usr/share/man/man{name[-1]}/{name}.gz"
    text = installed.run(f"gzip -dc /{packed.relative_to(installed.root)}")
    page = tmp_path / name
    page.write_text(text)
    done = subprocess.run(
        ["groff", "-Kutf8", "-man", "-Tutf8", "-ww", "-z", page],
        capture_output=True,
        text=True,
        check=False,
        errors="replace",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert text.count("\n.SH ") >= 3


def test_bash_completes_commands_and_options(installed):
    script = """
        . /usr/share/bash-completion/completions/tidegate
        COMP_WORDS=(tidegate "$@"); COMP_CWORD=$#; COMPREPLY=()
        _tidegate_completion tidegate; echo "${COMPREPLY[@]}"
    """
    installed.write("/tmp/complete.bash", script)
    assert "trigger" in installed.run("bash /tmp/complete.bash tri").split()
    assert "--wait" in installed.run("bash /tmp/complete.bash trigger --w").split()


def test_fish_completes_commands(installed):
    script = "source /usr/share/fish/vendor_completions.d/tidegate.fish; complete -C 'tidegate tri'"
    assert installed.run(f'fish --no-config -c "{script}"').split()[0] == "trigger"


def test_zsh_completes_commands(installed):
    # compinit needs a terminal; its two functions are enough to see what would be offered.
    script = """
        compdef() { }
        _describe() { print -r -- $completions_with_descriptions }
        words=(tidegate tri); CURRENT=2
        . /usr/share/zsh/vendor-completions/_tidegate
        _tidegate_completion
    """
    installed.write("/tmp/complete.zsh", script)
    assert "trigger" in installed.run("zsh -f /tmp/complete.zsh")


def test_purge_leaves_nothing(bare, package, fresh):
    fresh.install(package)
    # As after some time of use.
    fresh.run("mkdir -p /var/lib/tidegate/output/x /run/tidegate && touch /var/lib/tidegate/history.sqlite")
    wants = "/etc/systemd/system/multi-user.target.wants"
    fresh.run(f"mkdir -p {wants} && ln -s /usr/lib/systemd/system/tidegate.service {wants}/")
    fresh.write("/etc/tidegate/jobs.d/mine.toml", "[jobs.a]\ncommand = ['true']\nevery = '1h'\n")
    fresh.run("dpkg --remove tidegate")
    fresh.run("test -e /etc/tidegate/jobs.d/mine.toml -a -e /var/lib/tidegate/history.sqlite")
    fresh.run("dpkg --purge tidegate")
    backups = {"/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock"}
    assert fresh.files() - bare["files"] - backups <= {wants}
    assert fresh.run("getent passwd; getent group") == bare["users"]
    fresh.run("dpkg-query --status tidegate", code=1)


def test_an_upgrade_keeps_the_admins_files_and_restarts_the_daemon_but_not_the_keeper(package, later, fresh):
    fresh.install(package)
    fresh.write("/etc/tidegate/tidegate.toml", "[http]\nlisten = ''\n")
    fresh.run("rm /etc/tidegate/jobs.d/example.toml")
    fresh.stand_in_for_systemd("tidegate", "tidegate-keeper")
    said = fresh.install(later)
    assert fresh.asked() == ["restart tidegate.service"]
    assert "What runs goes on" in said
    assert fresh.run("cat /etc/tidegate/tidegate.toml") == "[http]\nlisten = ''\n"
    fresh.run("test ! -e /etc/tidegate/jobs.d/example.toml")


def test_an_upgrade_starts_nothing_that_did_not_run(package, later, fresh):
    fresh.install(package)
    fresh.stand_in_for_systemd()
    fresh.install(later)
    assert fresh.asked() == []


def test_a_daemon_is_not_restarted_into_a_configuration_that_the_new_version_refuses(package, later, fresh):
    fresh.install(package)
    fresh.stand_in_for_systemd("tidegate", "tidegate-keeper")
    fresh.write("/etc/tidegate/jobs.d/mine.toml", "[jobs.a]\ncommand = 7\n")
    said = fresh.install(later)
    assert fresh.asked() == []
    assert "jobs.a.command" in said
    assert "NOT restarted" in said


def test_a_daemon_that_does_not_come_up_again_is_told_and_the_package_is_installed(package, later, fresh):
    fresh.install(package)
    fresh.stand_in_for_systemd("tidegate")
    fresh.run("touch /tmp/fails")
    assert "did not come up again" in fresh.install(later)
    assert fresh.run("dpkg-query -W -f '${Status}' tidegate") == "install ok installed"


def test_a_downgrade_says_what_to_do_about_the_history(package, later, fresh):
    fresh.install(later)
    said = fresh.install(package)
    assert re.search(r"going back from 9\.0\.0-1 to .*install 9\.0\.0-1 again, or move", said, re.DOTALL)


def test_removing_stops_the_daemon_before_its_keeper(package, fresh):
    fresh.install(package)
    fresh.stand_in_for_systemd("tidegate", "tidegate-keeper")
    assert "jobs that still run are ended" in fresh.run("dpkg --remove tidegate")
    assert fresh.asked() == ["stop tidegate.service tidegate-unprivileged.service", "stop tidegate-keeper.service"]


def test_a_full_disk_leaves_nothing_half_done_and_room_mends_it(package, tmp_path):
    disk = Disk(tmp_path, "14m")
    try:
        assert "No space left on device" in disk.install(package, code=1)
        assert disk.run("find /opt/tidegate /etc/tidegate /usr/bin/tidegate", code=1).count("No such file") == 3
        assert disk.run("getent passwd tidegate", code=2) == ""
        disk.grow("300m")
        disk.install(package)
        disk.run("tidegate check")
    finally:
        disk.remove()


def test_nothing_in_it_depends_on_the_day_or_the_place_of_its_building(package, tmp_path):
    tree = tmp_path / "tree"
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    files = [path for path in tree.rglob("*") if path.is_file() and "DEBIAN" not in path.parts]
    assert len({int(path.lstat().st_mtime) for path in files}) == 1, "one date for all"
    assert not [path for path in files if path.name in ("direct_url.json", "RECORD")]
    log = gzip.decompress((tree / "usr/share/doc/tidegate/changelog.gz").read_bytes())
    assert log.startswith(b"# Changelog")
