"""Run inside a mount namespace of its own by test_journald.py: a real journald, a real daemon, and what the journal
then holds, read with systemd-python and printed as JSON.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from systemd import journal

folder, tidegate = Path(sys.argv[1]), sys.argv[2]
Path("/run/systemd/journal").mkdir(parents=True)
journald = subprocess.Popen(["/lib/systemd/systemd-journald"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
END_S = time.monotonic() + 30


def wait_for(what):
    while not (value := what()):
        if time.monotonic() > END_S:
            sys.exit("not in time: " + what.__name__)
        os.sched_yield()
    return value


def journal_listens():
    return Path("/run/systemd/journal/socket").exists() and Path("/run/systemd/journal/stdout").exists()


def entries():
    reader = journal.Reader(path="/run/log/journal/" + Path("/etc/machine-id").read_text().strip())
    return [{key: str(value) for key, value in entry.items()} for entry in reader]


def both_are_there():
    found = entries()
    own = any(entry.get("TIDEGATE_EVENT") == "run.finished" for entry in found)
    job = any(entry.get("SYSLOG_IDENTIFIER") == "tidegate-talker" for entry in found)
    return found if own and job else None


wait_for(journal_listens)
daemon = subprocess.Popen(
    [tidegate, "run", "--config", str(folder / "tidegate.toml")],
    env={**os.environ, "STATE_DIRECTORY": str(folder / "state"), "RUNTIME_DIRECTORY": str(folder / "run")},
)
try:
    while not Path("/run/log/journal").exists():
        os.sched_yield()
    print(json.dumps(wait_for(both_are_there)))
finally:
    daemon.send_signal(signal.SIGTERM)
    daemon.wait(10)
    journald.terminate()
    journald.wait(10)
