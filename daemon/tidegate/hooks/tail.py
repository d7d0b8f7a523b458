"""The last lines that a run wrote, safe to show. Reads a bounded piece of a regular file, follows no link."""

import os
import stat
from pathlib import Path
from typing import Final

from tidegate.model.text import escape

LINES_MAX: Final = 40
BYTES_MAX: Final = 32 * 1024
LINE_CHARS_MAX: Final = 500


def last_lines(path: Path) -> list[str]:
    """Oldest first; none where there is no such file (a short run that said nothing has none)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return []
        start = max(found.st_size - BYTES_MAX, 0)
        data = os.pread(fd, BYTES_MAX, start)
    except OSError:
        return []
    finally:
        os.close(fd)
    lines = data.decode(errors="replace").split("\n")
    if start and len(lines) > 1:
        del lines[0]  # its beginning is not among what was read
    if lines and not lines[-1]:
        del lines[-1]
    return [_shown(line) for line in lines[-LINES_MAX:]]


def _shown(line: str) -> str:
    text = escape(line.removesuffix("\r").expandtabs())
    return text if len(text) <= LINE_CHARS_MAX else f"{text[:LINE_CHARS_MAX]}…"
