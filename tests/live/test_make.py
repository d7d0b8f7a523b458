"""The Makefile and .ci/run, with stand-ins for what they start."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tidegate.settings.read import load

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = '#!/bin/sh\necho "$0 $*"\necho "$STATE_DIRECTORY $RUNTIME_DIRECTORY"\nexit 3\n'


@pytest.fixture
def clone(tmp_path):
    """A working copy that thinks it is installed; its `tidegate` only says how it was called."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy2(ROOT / name, tmp_path / name)
    for name in ("config", "packaging", ".ci"):
        shutil.copytree(ROOT / name, tmp_path / name)
    programs = tmp_path / ".venv/bin"
    programs.mkdir(parents=True)
    for name in ("python", "tidegate"):
        (programs / name).write_text(STAND_IN)
        (programs / name).chmod(0o755)
    (tmp_path / ".venv/.runtime").touch()
    return tmp_path


def make(clone: Path, *arguments: str, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    # Not the variables of a make that runs us.
    environment = {"PATH": path, "HOME": str(clone)}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_make_alone_tells_what_there_is(clone):
    done = make(clone)
    assert done.returncode == 0
    for target in ("run", "test", "check", "bench", "fuzz"):
        assert f"make {target} " in done.stdout


def test_make_run_keeps_its_state_in_the_working_copy(clone):
    done = make(clone, "run")
    assert done.stdout.splitlines()[-1] == f"{clone}/.state {clone}/.state/run"
    assert "tidegate run --config" in done.stdout
    assert (clone / ".state/jobs").is_dir(), "the cwd of the jobs in config/"


def test_make_run_lends_jobs_a_python_where_the_machine_has_none_for_them(clone):
    done = make(clone, "run", "JOB_PATH=/nonexistent")
    assert f"run --config {clone}/.state/tidegate.toml" in done.stdout
    lent = load(clone / ".state/tidegate.toml")
    assert lent.warnings == ()
    assert lent.jobs.keys() == load(clone / "config/tidegate.toml").jobs.keys()
    for job in lent.jobs.values():
        assert job.env["PATH"] == f"{clone}/.venv/bin:/nonexistent"
        assert job.cwd == f"{clone}/.state/jobs"
        assert job.command is not None
        assert Path(job.command[0]).parent == clone / "config/bin"


def test_make_says_what_to_do_without_a_python(clone):
    shutil.rmtree(clone / ".venv")
    done = make(clone, "run", "PYTHONS=/nonexistent/python3")
    assert done.returncode == 2
    assert "needs Python 3.11 or newer" in done.stderr
    assert not (clone / ".venv").exists()


def test_make_installs_again_only_when_what_it_depends_on_changed(clone):
    before = "Installing tidegate"
    assert before not in make(clone, "run", "-n").stdout
    for name in ("pyproject.toml", "constraints.txt"):
        later_s = (clone / ".venv/.runtime").stat().st_mtime + 10
        os.utime(clone / name, (later_s, later_s))
        assert before in make(clone, "run", "-n").stdout, name
        os.utime(clone / ".venv/.runtime", (later_s, later_s))


@pytest.mark.parametrize("exit_code", [0, 7])
def test_ci_run_is_make_test_and_keeps_its_exit_code(clone, exit_code):
    stand_ins = clone / "stand-ins"
    stand_ins.mkdir()
    (stand_ins / "make").write_text(f'#!/bin/sh\necho "make $* in $(pwd -P)"\nexit {exit_code}\n')
    (stand_ins / "make").chmod(0o755)
    environment = {"PATH": f"{stand_ins}:{os.environ['PATH']}"}
    done = subprocess.run([clone / ".ci/run"], cwd="/", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == exit_code
    assert done.stdout == f"make test in {clone.resolve()}\n"
