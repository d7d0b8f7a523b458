"""The RPM's spec, built by Debian's rpmbuild from the tree of the Debian package, which is tested by installing it."""

import subprocess

import pytest
from spare_disk import ROOT, build

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]


def asked(*command: object) -> str:
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def rpm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rpm")
    tree = folder / "tree"
    asked("dpkg-deb", "-x", build(), tree)
    asked("rm", "-r", tree / "usr/share/lintian")
    defined = {"_topdir": folder / "top", "source": ROOT, "tree": tree, "_binary_payload": "w1.gzdio"}
    options = [word for name, value in defined.items() for word in ("--define", f"{name} {value}")]
    asked("rpmbuild", "-bb", "--quiet", *options, ROOT / "packaging/rpm/tidegate.spec")
    (made,) = (folder / "top/RPMS").rglob("*.rpm")
    return made


def test_it_holds_every_file_of_the_other_package(rpm):
    names = asked("rpm", "-qlp", rpm).splitlines()
    for name in ("/usr/bin/tidegate", "/opt/tidegate/bin/tidegate", "/usr/lib/systemd/system/tidegate-keeper.service"):
        assert name in names
    assert not [name for name in names if "vendor-completions" in name]


def test_the_admins_files_are_kept_over_upgrades(rpm):
    assert asked("rpm", "-qcp", rpm).split() == ["/etc/tidegate/jobs.d/example.toml", "/etc/tidegate/tidegate.toml"]


def test_it_requires_the_python_that_it_was_built_for_and_nothing_of_its_own(rpm):
    wanted = asked("rpm", "-qRp", rpm)
    assert "python(abi) = 3." in wanted
    assert "/opt" not in wanted
    assert "python3dist" not in wanted


def test_no_script_of_it_starts_or_restarts_a_keeper(rpm):
    for line in asked("rpm", "-qp", "--scripts", rpm).splitlines():
        assert "keeper" not in line or "stop" in line, line
        assert "enable " not in line, line
