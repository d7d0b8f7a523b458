"""tidegate import-crontab as people call it; and what it makes of a line does in a real shell what cron made of it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tidegate.model.job import Job
from tidegate.settings.read import load

pytestmark = pytest.mark.live

TIDEGATE = [sys.executable, "-c", "from tidegate.cli.main import main; main()"]

# What a file held after Debian's own cron 3.0pl1-162 had run the line.
SEEN = {
    r"echo 'a\%b' > out": "a%b\n",
    r"printf '%s' 'a\\b' > out": None,  # cut at the first %: the shell finds no closing quote
    r"printf \%s 'a\\b' > out": r"a\b",
    r"cat > out%one%two\%x%\\y\z": "one\ntwo%x\n\\\\y\\z\n",
    r"{ echo x; cat; } > out%": "x\n",
    r"{ echo x; cat; } > out # a comment%y": "x\ny\n",
    r"cat > first; cat > out%a": "",
    r"(cat; cat) | tr a-z A-Z > out%end%END_OF_INPUT%$HOME `x`": "END\nEND_OF_INPUT\n$HOME `X`\n",
    r"echo $PATH > out": "/usr/bin:/bin\n",
    r"pwd > out": "{folder}\n",
}


def tidegate(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"TIDEGATE_CONFIG": str(folder / "tidegate.toml"), "TZ": "Europe/Berlin"}
    return subprocess.run(
        [*TIDEGATE, *args], env=env, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    """Each line as the daemon would have it."""
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "tidegate.toml").write_text("")
    lines = [f"0 5 * * * {command}\n" for command in SEEN]
    lines += ["SHELL=/usr/bin/python3\n", "0 6 * * * import sys; open('out', 'w').write(sys.stdin.read())%it's\n"]
    (folder / "tab").write_text("".join(lines))
    done = tidegate(folder, "import-crontab", "tab")
    assert done.returncode == 0, done.stderr
    found = load(folder).jobs
    return dict(zip([*SEEN, "python"], found.values(), strict=True))


def ran(job: Job, folder: Path) -> str | None:
    """What the command wrote, run as the keeper does: no shell but its own, stdin from /dev/null."""
    argv = ["/bin/sh", "-c", job.shell] if job.shell is not None else list(job.command or ())
    env = {"HOME": str(folder / "nowhere"), **job.env}
    subprocess.run(argv, env=env, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
    return (folder / "out").read_text() if (folder / "out").exists() else None


@pytest.mark.parametrize("command", SEEN)
def test_a_line_does_what_debians_cron_did(command: str, jobs: dict[str, Job], tmp_path: Path) -> None:
    seen = SEEN[command]
    assert ran(jobs[command], tmp_path) == (seen and seen.replace("{folder}", str(tmp_path)))


def test_another_interpreter_reads_the_same_text(jobs: dict[str, Job], tmp_path: Path) -> None:
    assert ran(jobs["python"], tmp_path) == "it's\n"


def test_what_is_written_is_good_at_once_and_nobody_elses_to_change(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text("")
    (tmp_path / "tab").write_text("MAILTO=ops@example.org\n# Nightly\n15 2 * * * /usr/bin/true\n30 4 1 * * nice\n")
    done = tidegate(tmp_path, "import-crontab", "tab", "--timezone", "Europe/Berlin")
    assert done.returncode == 0, done.stderr
    assert "all as cron" in done.stdout
    assert "tab:3: note: MAILTO=ops@example.org: cron mails whatever it prints" in done.stderr
    written = tmp_path / "jobs.d" / "tab.toml"
    assert stat.S_IMODE(written.stat().st_mode) & 0o022 == 0
    checked = tidegate(tmp_path, "check")
    assert (checked.returncode, checked.stdout) == (0, "OK: 2 jobs in 2 files\n")
    assert tidegate(tmp_path, "import-crontab", "tab").returncode == 1
    assert tidegate(tmp_path, "import-crontab").returncode == 2
    assert tidegate(tmp_path, "import-crontab", "none").returncode == 1


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "tab").write_text("15 2 * * * /usr/bin/true\n")
    (tmp_path / "file").write_text("")
    done = tidegate(tmp_path, "import-crontab", "tab", "--output", "file/below")
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
