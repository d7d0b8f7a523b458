"""The journal as its reader sees it: a real journald, filled by the real daemon, read with systemd-python."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from daemon_process import TIDEGATE

pytestmark = pytest.mark.live


@pytest.fixture
def held(tmp_path):
    (tmp_path / "tidegate.toml").write_text(
        '[daemon]\nlog_format = "journal"\n[http]\nlisten = ""\n'
        '[jobs.talker]\nshell = "echo to the journal; echo two >&2; exit 3"\ncron = "@reboot"\noutput = "journal"\n'
    )
    machine_id = Path("/etc/machine-id")
    if not machine_id.exists() or not machine_id.read_text().strip():
        subprocess.run(["systemd-machine-id-setup"], check=True, capture_output=True)
    script = (
        "mount -t tmpfs t /run && mount -t tmpfs t /var/log && "
        f'exec "{sys.executable}" "{Path(__file__).with_name("journald_driver.py")}" "{tmp_path}" "{TIDEGATE}"'
    )
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_journal_holds_native_fields_and_the_jobs_own_lines(held):
    finished = next(entry for entry in held if entry.get("TIDEGATE_EVENT") == "run.finished")
    assert finished["SYSLOG_IDENTIFIER"] == "tidegate"
    assert finished["PRIORITY"] == "3"
    assert (finished["TIDEGATE_JOB"], finished["TIDEGATE_OUTCOME"], finished["TIDEGATE_EXIT_CODE"]) == (
        "talker",
        "failed",
        "3",
    )
    assert finished["MESSAGE"].startswith("talker: failed")
    lines = [entry["MESSAGE"] for entry in held if entry.get("SYSLOG_IDENTIFIER") == "tidegate-talker"]
    assert sorted(lines) == ["to the journal", "two"]
