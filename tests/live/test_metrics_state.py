"""What the metrics of a real daemon say of its state: the history, and how jobs ended last, across a restart."""

import signal
import sqlite3
from pathlib import Path

import pytest
from daemon_process import Daemon, until

pytestmark = pytest.mark.live

JOBS = """
[jobs.bad]
command = ["false"]
every = "1s"
[jobs.good]
command = ["true"]
every = "1s"
"""


def last_failed(daemon: Daemon) -> list[float]:
    return [daemon.metric(f'tidegate_last_run_failed{{job_name="{job}"}}') for job in ("bad", "good")]


def test_a_history_that_fails_and_how_jobs_ended_are_seen(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "d", JOBS, '[daemon]\nlog_format = "json"\n')
    try:
        daemon.start()
        for job in ("bad", "good"):
            daemon.wait_for("run.finished", job=job)
        assert last_failed(daemon) == [1, 0]
        other = sqlite3.connect(next(daemon.state.glob("*.sqlite")), isolation_level=None)
        other.execute("begin immediate")
        until(lambda: daemon.metric("tidegate_history_failing") == 1)
        assert daemon.metric("tidegate_history_write_errors_total") == 1
        other.close()
        until(lambda: daemon.metric("tidegate_history_failing") == 0 and daemon.metric("tidegate_starts_held") == 0)
        daemon.jobs_file.write_text(JOBS.replace('"1s"', '"1h"'))
        daemon.end(signal.SIGTERM)
        daemon.start()
        assert last_failed(daemon) == [1, 0]
    finally:
        daemon.clean_up()
