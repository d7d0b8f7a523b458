"""Rivals that fire on the minute only: Debian cron and yacron, each with a configuration of its own."""

import json
import subprocess
from pathlib import Path

from tests.bench.ground import Ground

# cron reads fixed paths. In a mount namespace of its own it gets empty ones, and the machine's stay untouched.
CRON_SCRIPT = """
set -e
mount -t tmpfs -o mode=755 none /var/spool
mkdir -m 755 /var/spool/cron
mkdir -m 1730 /var/spool/cron/crontabs
mount -t tmpfs -o mode=755 none /run
if [ -d /etc/cron.d ]; then mount -t tmpfs none /etc/cron.d; fi
if [ -e /etc/crontab ]; then mount --bind /dev/null /etc/crontab; fi
cp "$1" /var/spool/cron/crontabs/root
chmod 600 /var/spool/cron/crontabs/root
exec "$2" -f
"""


def start_crontab(ground: Ground, program: str, crontab: Path) -> "subprocess.Popen[bytes]":
    """Debian cron in the foreground with this file as root's crontab."""
    argv = ["unshare", "-m", "sh", "-c", CRON_SCRIPT, "sh", str(crontab), program]
    return ground.start(argv, stderr=crontab.with_name("stderr"))


def start_cron(ground: Ground, program: str, commands: list[str], when: str) -> "subprocess.Popen[bytes]":
    """One crontab line a command. They go through /bin/sh, as always with cron."""
    crontab = ground.folder("cron") / "crontab"
    crontab.write_text('MAILTO=""\n' + "".join(f"{when} {command}\n" for command in commands))
    return start_crontab(ground, program, crontab)


def write_yacron(path: Path, jobs: dict[str, tuple[list[str], str]]) -> None:
    """Jobs (name: argv, five-field cron) as yacron's YAML. JSON is YAML; its strict parser wants block style around."""
    lines = ["jobs:"]
    for name, (argv, when) in jobs.items():
        lines.append(f"  - name: {name}")
        lines.append("    command:")
        lines.extend(f"      - {json.dumps(word)}" for word in argv)
        lines.append(f"    schedule: {json.dumps(when)}")
        lines.append("    captureStdout: false")
        lines.append("    captureStderr: false")
        lines.append("    utc: true")
    path.write_text("\n".join(lines) + "\n")


def start_yacron(ground: Ground, program: str, jobs: dict[str, tuple[list[str], str]]) -> "subprocess.Popen[bytes]":
    folder = ground.folder("yacron")
    write_yacron(folder / "jobs.yaml", jobs)
    return ground.start([program, "-c", str(folder / "jobs.yaml")], stderr=folder / "stderr")
