"""Tells by running a command. It lives in a session of its own, with an environment that is built from empty, and is
killed with its whole group when its time is over. Not for jobs: those belong to the keeper."""

import asyncio
import os
import pwd
import signal
from contextlib import suppress
from typing import Final

from tidegate.hooks.notice import Notice, run_json_of, variables_of
from tidegate.hooks.sending import Sent

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # as jobs get it
SAID_BYTES_MAX: Final = 300  # of what it wrote to standard error, for the log
SAID_S: Final = 0.5  # standard error may be held open by what it left running


class Command:
    """A program and its arguments."""

    def __init__(self, argv: tuple[str, ...]) -> None:
        self._argv = argv

    async def send(self, notice: Notice) -> Sent:
        """Run it once. The run as JSON is on standard input, the rest in variables."""
        home = _home()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=_own_variables(home) | variables_of(notice),
                cwd=home if os.access(home, os.X_OK) else "/",  # the service's sandbox shuts all homes
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            return Sent(False, f"{self._argv[0]} cannot be started: {why}; check the path and its permissions")
        assert process.stdin is not None and process.stderr is not None
        said = asyncio.ensure_future(_said(process.stderr))
        try:
            process.stdin.write(run_json_of(notice))
            process.stdin.close()
            code = await process.wait()
            await asyncio.wait([said], timeout=SAID_S)
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            said.cancel()
        text = said.result() if said.done() and not said.cancelled() else ""
        if code == 0:
            return Sent(True)
        how = f"exit code {code}" if code > 0 else f"killed by signal {-code}"
        return Sent(False, f"{self._argv[0]}: {how}" + (f": {text}" if text else "; run it by hand to see why"))


async def _said(stream: asyncio.StreamReader) -> str:
    """The beginning of what it writes; the rest is read and let go, so that it never waits for a reader."""
    kept = b""
    while data := await stream.read(4096):
        kept = (kept + data)[:SAID_BYTES_MAX]
    return kept.decode(errors="replace").strip()


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/"


def _own_variables(home: str) -> dict[str, str]:
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = str(os.geteuid())
    lang = os.environ.get("LC_ALL") or os.environ.get("LANG") or "C.UTF-8"
    return {"PATH": PATH, "HOME": home, "USER": name, "LOGNAME": name, "SHELL": "/bin/sh", "LANG": lang}
