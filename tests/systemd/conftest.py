"""These tests boot machines. Where that is impossible they are left out, and that is said."""

import os
import shutil
from pathlib import Path

import pytest

MISSING = [
    reason
    for reason, missing in (
        ("no root", os.geteuid() != 0),
        ("no systemd", not Path("/lib/systemd/systemd").exists()),
        ("no nsenter, unshare, setpriv", not all(map(shutil.which, ("nsenter", "unshare", "setpriv")))),
        ("no /usr/bin/python3", not Path("/usr/bin/python3").exists()),
        ("no dpkg", not shutil.which("dpkg-deb")),
    )
    if missing
]
collect_ignore_glob = ["test_*.py"] if MISSING and not os.environ.get("CI") else []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Not in the header: that is not shown to those who ask for little (-q)."""
    if collect_ignore_glob:
        terminalreporter.write_line(f"tests/systemd left out: {', '.join(MISSING)}", yellow=True)
