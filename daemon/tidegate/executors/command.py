"""From a job and a run to what the keeper is asked to spawn: argv, environment, folder, output. It starts nothing.

The environment is built from empty: what the daemon itself was started with never reaches a job.
"""

import os
import pwd
import re
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct

from tidegate.model.job import Job, Output
from tidegate.model.run import Run

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENV_FILE_BYTES_MAX: Final = 1024 * 1024  # more does not fit an exec either
FIXED_JOBS_MAX: Final = 256  # 3 KB each, and 10 µs to work out again
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Identity(Struct, frozen=True):
    """Who runs the jobs: an entry of the user database."""

    name: str
    home: str
    lang: str = "C.UTF-8"


class StartFailure(Struct, frozen=True):
    """Nothing can be started; the reason is a sentence for a person."""

    reason: str


def own_identity(uid: int, lang: str | None = None) -> Identity | StartFailure:
    """Look the user up once. A user that is not there runs nothing: never another one instead."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return StartFailure(f"user {uid} is not in the user database; create it, or run tidegate as one that exists")
    return Identity(entry.pw_name, entry.pw_dir, lang or "C.UTF-8")


class _Fixed(Struct, frozen=True):
    """What is the same for all runs of a job."""

    job: Job
    request: dict[str, Any]
    env: dict[str, str]
    zone: ZoneInfo
    folder: str


class SpawnRequests:
    """Writes spawn requests. What is the same for all runs of a job is worked out once."""

    def __init__(self, identity: Identity | StartFailure, output_dir: Path) -> None:
        self._identity = identity
        self._output_dir = output_dir
        # One folder of TIDEGATE_OUTPUT files for all jobs: it must be there before a run starts, and one for each job
        # would have to be made first.
        self._values = output_dir.with_name("values")
        self._fixed: dict[str, _Fixed] = {}

    def write(self, run: Run, job: Job) -> dict[str, Any] | StartFailure:
        """The request for one attempt. `env_file` is read each time."""
        if isinstance(self._identity, StartFailure):
            return self._identity
        fixed = self._fixed.get(job.name)
        if fixed is None or fixed.job is not job:
            try:
                fixed = self._fix(job, self._identity)
            except (ZoneInfoNotFoundError, ValueError):
                return StartFailure(f"time zone {job.timezone!r} is unknown to this machine; install tzdata")
            if len(self._fixed) >= FIXED_JOBS_MAX:
                self._fixed.clear()
            self._fixed[job.name] = fixed
        env = fixed.env
        if job.env_file is not None:
            from_file = read_env_file(job.env_file)
            if isinstance(from_file, StartFailure):
                return from_file
            env = env | from_file | job.env
        return fixed.request | {
            "run_id": run.run_id,
            "attempt": run.attempt,
            "output_path": f"{fixed.folder}/{run.run_id}.log",
            "env": env
            | {
                "TIDEGATE_JOB": job.name,
                "TIDEGATE_TASK": run.task,
                "TIDEGATE_RUN_ID": run.run_id,
                "TIDEGATE_ATTEMPT": str(run.attempt),
                "TIDEGATE_SCHEDULED_AT": run.scheduled_at.astimezone(fixed.zone).isoformat(),
                "TIDEGATE_CATCH_UP": "1" if run.catch_up else "0",
                "TIDEGATE_OUTPUT": f"{self._values}/{run.run_id}.{run.attempt}",
            },
        }

    def _fix(self, job: Job, identity: Identity) -> _Fixed:
        argv = ["/bin/sh", "-c", job.shell] if job.shell is not None else list(job.command or ())
        folder = str(self._output_dir / job.name)
        request: dict[str, Any] = {
            "type": "spawn",
            "argv": argv,
            "cwd": _folder(job.cwd, identity.home),
            "umask": job.umask,
            "nice": job.nice,
            "output": job.output.value,
            "output_max_bytes": job.output_max_bytes,
            "timeout_s": job.timeout_s,
            "kill_grace_s": job.kill_grace_s,
            "leftovers": job.leftovers.value,
        }
        if job.output is Output.JOURNAL:
            request["identifier"] = f"tidegate-{job.name}"
        env = {
            "PATH": PATH,
            "HOME": identity.home,
            "USER": identity.name,
            "LOGNAME": identity.name,
            "SHELL": "/bin/sh",
            "LANG": identity.lang,
            **job.env,
        }
        return _Fixed(job, request, env, ZoneInfo(job.timezone), folder)


def _folder(cwd: str | None, home: str) -> str:
    """Where a run begins: the user's home unless told otherwise; `~` is that home too."""
    if cwd is None or cwd == "~":
        return home
    return home.rstrip("/") + cwd[1:] if cwd.startswith("~/") else cwd


def read_env_file(path: str) -> dict[str, str] | StartFailure:
    """KEY=value lines as systemd's EnvironmentFile= reads them. A path that begins with "-" may be missing."""
    optional, path = path.startswith("-"), path.removeprefix("-")
    try:
        with open(path, "rb") as file:
            data = file.read(ENV_FILE_BYTES_MAX + 1)
        text = data.decode()
    except FileNotFoundError:
        return (
            {} if optional else StartFailure(f"env_file {path!r} is not there; make it, or write -{path} if it may be")
        )
    except OSError as error:
        return StartFailure(f"env_file {path!r} cannot be read: {error.strerror}; check its permissions")
    except UnicodeDecodeError as error:
        return StartFailure(f"env_file {path!r} is not UTF-8: byte {error.start}; save it as UTF-8")
    if len(data) > ENV_FILE_BYTES_MAX:
        return StartFailure(f"env_file {path!r} is larger than {ENV_FILE_BYTES_MAX} bytes; is it the right file?")
    return _parse_env(path, text)


def _parse_env(path: str, text: str) -> dict[str, str] | StartFailure:
    found: dict[str, str] = {}
    at, line_number = 0, 1
    while at < len(text):
        line_end = text.find("\n", at)
        line_end = len(text) if line_end < 0 else line_end
        line = text[at:line_end].lstrip()
        if not line or line[0] in "#;":
            at, line_number = line_end + 1, line_number + 1
            continue
        name, equals, _ = line.partition("=")
        name = name.rstrip()
        if not equals or not _NAME.fullmatch(name):
            return StartFailure(f"{path}:{line_number}: expected NAME=value, got {line[:60]!r}")
        value, end = _parse_value(text, text.index("=", at) + 1)
        if "\0" in value:
            return StartFailure(f"{path}:{line_number}: {name}: a value cannot hold a NUL")
        found[name] = value
        line_number += text.count("\n", at, end)
        at = end
    return found


def _parse_value(text: str, at: int) -> tuple[str, int]:
    """The value that begins here, and where the next line begins. Quotes may span lines; pieces join, as in a shell."""
    out: list[str] = []
    kept = 0  # blanks outside quotes are dropped at the end, those inside are not
    while at < len(text) and text[at] in " \t":
        at += 1
    while at < len(text) and text[at] != "\n":
        sign = text[at]
        if sign == "'":
            end = text.find("'", at + 1)
            end = len(text) if end < 0 else end
            out.append(text[at + 1 : end])
            at, kept = end + 1, len(out)
        elif sign == '"':
            piece, at = _parse_double(text, at + 1)
            out.append(piece)
            kept = len(out)
        elif sign == "\\":
            if text[at + 1 : at + 2] != "\n":
                out.append(text[at + 1 : at + 2])
            at, kept = at + 2, len(out)
        else:
            out.append(sign)
            at += 1
            if not sign.isspace():
                kept = len(out)
    return "".join(out[:kept]), at + 1


def _parse_double(text: str, at: int) -> tuple[str, int]:
    """Inside double quotes a backslash keeps $, `, ", \\ and joins lines; before anything else it stays."""
    out: list[str] = []
    while at < len(text) and text[at] != '"':
        if text[at] == "\\" and at + 1 < len(text):
            follows = text[at + 1]
            if follows in '"\\`$':
                out.append(follows)
            elif follows != "\n":
                out.append("\\" + follows)
            at += 2
        else:
            out.append(text[at])
            at += 1
    return "".join(out), at + 1


def daemon_lang() -> str | None:
    """The locale the daemon itself was started with."""
    return os.environ.get("LC_ALL") or os.environ.get("LANG")
