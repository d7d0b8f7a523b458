"""What runs printed, whole or in ranges. Opens files beneath <state>/output alone, and follows no link.

A path is made of nothing but the job and the id that the server itself has for the run.
"""

import asyncio
import io
import os
import re
import stat
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from pathlib import Path
from typing import BinaryIO, Final

from starlette.responses import Response

from tidegate.api.control import Control
from tidegate.api.journal import NoJournalError, journal_text
from tidegate.api.problem import problem
from tidegate.api.runs import Runs
from tidegate.api.streamed import Streamed
from tidegate.api.table import Call
from tidegate.model.job import Output
from tidegate.model.refusal import Refused
from tidegate.model.view import RunView

CHUNK_BYTES: Final = 64 * 1024
MEDIA_TYPE: Final = "text/plain; charset=utf-8"
ENDED_HEADER: Final = "tidegate-run-ended"
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class Outputs:
    """The handler, around what it reads."""

    def __init__(self, runs: Runs, control: Control, threads: Executor) -> None:
        self._runs = runs
        self._control = control
        self._threads = threads

    async def output(self, call: Call) -> Response:
        """GET /api/v1/runs/{id}/output."""
        run = await self._runs.find(call.part("id"))
        # Asked before the file's size: a client that reads "ended" has then seen all of it.
        ended = self._runs.ended(run)
        loop = asyncio.get_running_loop()
        job = self._control.definition(run.job)
        try:
            source = await loop.run_in_executor(
                self._threads, open_output, self._control.state_dir, run, job.output if job else Output.FILE
            )
        except NoJournalError:
            return problem(
                501,
                f"the output of {run.job} went to the journal, and reading that needs the extra systemd: "
                f"'pip install tidegate[systemd]', or 'journalctl SYSLOG_IDENTIFIER=tidegate-{run.job}'",
            )
        return self._answer(call, source, ended)

    def _answer(self, call: Call, source: BinaryIO, ended: bool) -> Response:
        size = source.seek(0, os.SEEK_END)
        headers = {"content-type": MEDIA_TYPE, "accept-ranges": "bytes", ENDED_HEADER: "true" if ended else "false"}
        span = span_of(call.request.headers.get("range"), size)
        if span is None:
            source.close()
            return problem(
                416,
                f"there are {size} bytes, and none in this range",
                {"content-range": f"bytes */{size}", ENDED_HEADER: headers[ENDED_HEADER]},
            )
        first, beyond = span
        status = 200
        if call.request.headers.get("range") and (first, beyond) != (0, size):
            status = 206
            headers["content-range"] = f"bytes {first}-{beyond - 1}/{size}"
        headers["content-length"] = str(beyond - first)
        return Streamed(self._chunks(source, first, beyond), status, headers, on_end=source.close)

    async def _chunks(self, source: BinaryIO, first: int, beyond: int) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        source.seek(first)
        while first < beyond:
            chunk = await loop.run_in_executor(self._threads, source.read, min(CHUNK_BYTES, beyond - first))
            if not chunk:
                return  # somebody cut the file; the connection ends short, which tells the client
            first += len(chunk)
            yield chunk


def span_of(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last. What is no single range of bytes means everything (RFC 9110, 14.2).

    None: no byte of it is there.
    """
    found = _RANGE.fullmatch((header or "").replace(" ", ""))
    if not found or not any(found.groups()):
        return 0, size
    first_text, last_text = found.groups()
    if not first_text:
        first, beyond = max(0, size - int(last_text)), size
    else:
        first = int(first_text)
        beyond = min(size, int(last_text) + 1) if last_text else size
        if last_text and int(last_text) < first:
            return 0, size
    return (first, beyond) if first < beyond else None


def open_output(state_dir: Path, run: RunView, kind: Output) -> BinaryIO:
    """What the run printed so far. Raises Refused, NoJournalError."""
    try:
        return open_beneath(state_dir, ("output", run.job, f"{run.run_id}.log"))
    except FileNotFoundError as error:
        match kind:
            case Output.FILE:
                return io.BytesIO()  # runs that were short and said nothing have no file
            case Output.DISCARD:
                raise Refused("not_found", f'{run.job} has output = "discard": what it prints is not kept') from error
            case Output.JOURNAL:
                return io.BytesIO(journal_text(run))
    except OSError as error:
        raise Refused("unavailable", f"the output cannot be opened: {error.strerror}") from error


def open_beneath(folder: Path, parts: tuple[str, ...]) -> BinaryIO:
    """A regular file below a folder, each step opened from the one before. Raises OSError."""
    here = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            step = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = step
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.fdopen(os.open(parts[-1], flags, dir_fd=here), "rb", buffering=0)
    finally:
        os.close(here)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(0, "it is not a regular file")
    return file
