"""The table from OnCalendar to cron: each row fires as systemd says that its timer would."""

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tidegate.cli.fires import next_fires
from tidegate.model.job import Cron, Job

pytestmark = pytest.mark.live

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "move-from-systemd-timers.md"
TABLE = PAGE.read_text(encoding="utf-8").partition("## OnCalendar")[2].partition("## The other keys")[0]
ROWS = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", TABLE, re.M)[1:]  # without the heads
FROM = datetime(2026, 2, 27, 12, 0, 30, tzinfo=UTC)
COUNT = 25


def elapses(expression: str) -> list[datetime]:
    """What systemd would do, in UTC."""
    command = [
        "systemd-analyze",
        "calendar",
        f"--iterations={COUNT}",
        f"--base-time={FROM:%Y-%m-%d %H:%M:%S}",
        expression,
    ]
    done = subprocess.run(command, env={"TZ": "UTC"}, capture_output=True, text=True, timeout=30, check=True)
    found = re.findall(r"(?:Next elapse|Iter\. #\d+): \w+ ([0-9-]+ [0-9:]+) UTC", done.stdout)
    return [datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) for text in found]


@pytest.mark.parametrize(("calendar", "cron"), ROWS)
def test_a_row_fires_as_its_timer(calendar: str, cron: str) -> None:
    job = Job(name="job", command=("true",), trigger=Cron(cron), timezone="UTC")
    expected = elapses(calendar)
    assert len(expected) == COUNT
    assert next_fires(job, FROM, COUNT) == expected


def test_the_table_was_found() -> None:
    assert len(ROWS) > 20
