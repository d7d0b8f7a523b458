"""Installs packages, each on a disk of its own. Where that is impossible these tests are left out, which is said."""

import os
import shutil

import pytest

TOOLS = ("dpkg-deb", "lintian", "rpmbuild", "unshare", "nsenter")
MISSING = [tool for tool in TOOLS if not shutil.which(tool)] + (["root"] if os.geteuid() else [])
collect_ignore_glob = ["test_*.py"] if MISSING and not os.environ.get("CI") else []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Not in the header: that is not shown to those who ask for little (-q)."""
    if collect_ignore_glob:
        terminalreporter.write_line(f"tests/packaging left out, for want of {', '.join(MISSING)}", yellow=True)
