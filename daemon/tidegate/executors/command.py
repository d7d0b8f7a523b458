"""From a job and a run to what the keeper is asked to spawn: argv, environment, folder, output. It starts nothing.

The environment is built from empty: what the daemon itself was started with never reaches a job.
"""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct, structs

from tidegate.executors.credentials import Credentials, Identity, StartFailure, is_own, look_up
from tidegate.model.job import Job, Limits, Output, RunAs
from tidegate.model.limits import NAME_CHARS_MAX
from tidegate.model.run import Run

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENV_FILE_BYTES_MAX: Final = 1024 * 1024  # more does not fit an exec either
FIXED_JOBS_MAX: Final = 256  # 3 KB each, and 10 µs to work out again
OWN: Final = RunAs()
UNLIMITED: Final = Limits()
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class _Fixed(Struct, frozen=True):
    """What is the same for all runs of a job."""

    job: Job
    request: dict[str, Any]
    env: dict[str, str]
    zone: ZoneInfo
    folder: str  # of its output


class SpawnRequests:
    """Writes spawn requests. What is the same for all runs of a job is worked out once."""

    def __init__(
        self,
        identity: Identity | StartFailure,
        output_dir: Path,
        values_of_others: Path | None = None,
        ask_again: Callable[[], Identity | StartFailure] | None = None,
    ) -> None:
        """`values_of_others`: a folder that every user may pass through, for runs as somebody else. `ask_again`: who
        runs the jobs, where nobody could tell so far."""
        self._identity = identity
        self._ask_again = ask_again
        self._output_dir = str(output_dir)
        # One folder of TIDEGATE_OUTPUT files for all jobs: it must be there before a run starts, and one for each job
        # would have to be made first.
        self._values = str(output_dir.with_name("values"))
        self._values_of_others = values_of_others
        self._fixed: dict[str, _Fixed] = {}

    def write(self, run: Run, job: Job) -> dict[str, Any] | StartFailure:
        """The request for one attempt. `env_file` is read each time, and whom it runs as is looked up."""
        if isinstance(self._identity, StartFailure) and self._ask_again is not None:
            # The user database may have been out of reach for an instant: that must not outlast it.
            self._identity = self._ask_again()
        if isinstance(self._identity, StartFailure):
            return self._identity
        if job.run_as != OWN:
            who = look_up(job.run_as, self._identity.lang)
            if isinstance(who, StartFailure):
                return who
            return self._write_as(run, job, who)
        fixed = self._fixed.get(job.name)
        if fixed is None or fixed.job is not job:
            try:
                fixed = self._fix(job, self._identity)
            except (ZoneInfoNotFoundError, ValueError):
                return StartFailure(f"time zone {job.timezone!r} is unknown to this machine; install tzdata")
            if len(self._fixed) >= FIXED_JOBS_MAX:
                self._fixed.clear()
            self._fixed[job.name] = fixed
        return _fill(fixed, run, job, self._values)

    def _write_as(self, run: Run, job: Job, who: Credentials) -> dict[str, Any] | StartFailure:
        """As somebody else, who may be another one each time."""
        try:
            fixed = self._fix(job, who.identity)
        except (ZoneInfoNotFoundError, ValueError):
            return StartFailure(f"time zone {job.timezone!r} is unknown to this machine; install tzdata")
        if is_own(who):
            return _fill(fixed, run, job, self._values)
        if os.geteuid() != 0:
            reason = f"it is to run as {_named(who)}, and only root can start it; tidegate runs as {self._named_own()}"
            return StartFailure(reason)
        values = self._values_of_others or Path(self._values)
        request = _fill(fixed, run, job, str(values))
        if isinstance(request, StartFailure):
            return request
        birth = request.get("birth", {}) | {
            "uid": who.uid,
            "gid": who.gid,
            "groups": list(who.groups),
            "values_path": request["env"]["TIDEGATE_OUTPUT"],
        }
        if who.uid != 0 and not _may_be_passed(values):
            birth["note"] = (
                f"TIDEGATE_OUTPUT is out of reach for user {who.identity.name}, as {values.parent} is private"
            )
        return request | {"birth": birth, "job": job.name}

    def _named_own(self) -> str:
        return self._identity.name if isinstance(self._identity, Identity) else str(os.geteuid())

    def _fix(self, job: Job, identity: Identity) -> _Fixed:
        argv = ["/bin/sh", "-c", job.shell] if job.shell is not None else list(job.command or ())
        if job.python is not None:
            argv = [_folder(job.python.interpreter, identity.home)]
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
        if job.python is not None:
            fields = structs.asdict(job.python) | {"executor": job.python.executor.value}
            request["python"] = fields | {
                "python_path": [_folder(path, identity.home) for path in job.python.python_path]
            }
        if job.output is Output.JOURNAL:
            request["identifier"] = f"tidegate-{job.name}"
        if job.limits != UNLIMITED or job.oom_score_adj is not None:
            limits = {name: value for name, value in structs.asdict(job.limits).items() if value is not None}
            request["birth"] = {"limits": limits, "oom_score_adj": job.oom_score_adj}
            request["job"] = job.name
        env = {
            "PATH": PATH,
            "HOME": identity.home,
            "USER": identity.name,
            "LOGNAME": identity.name,
            "SHELL": "/bin/sh",
            "LANG": identity.lang,
            **job.env,
        }
        return _Fixed(job, request, env, ZoneInfo(job.timezone), f"{self._output_dir}/{job.name}")


def _fill(fixed: _Fixed, run: Run, job: Job, values: str) -> dict[str, Any] | StartFailure:
    """What is this attempt's alone."""
    env = fixed.env.copy()
    if job.env_file is not None:
        from_file = read_env_file(job.env_file)
        if isinstance(from_file, StartFailure):
            return from_file
        env |= from_file | job.env
    for name, value in run.args.items():
        if not _NAME.fullmatch(name) or "\0" in value:
            return StartFailure(f"argument {name[:NAME_CHARS_MAX]!r} is no name, or its value holds a NUL")
        env[f"TIDEGATE_ARG_{name}"] = value
    env["TIDEGATE_JOB"] = job.name
    env["TIDEGATE_TASK"] = run.task
    env["TIDEGATE_RUN_ID"] = run.run_id
    env["TIDEGATE_ATTEMPT"] = str(run.attempt)
    env["TIDEGATE_SCHEDULED_AT"] = run.scheduled_at.astimezone(fixed.zone).isoformat()
    env["TIDEGATE_CATCH_UP"] = "1" if run.catch_up else "0"
    env["TIDEGATE_OUTPUT"] = f"{values}/{run.run_id}.{run.attempt}"
    request = fixed.request.copy()
    if job.python is not None and run.args:
        request["python"] = request["python"] | {"kwargs": job.python.kwargs | run.args}
    request["run_id"] = run.run_id
    request["attempt"] = run.attempt
    request["output_path"] = f"{fixed.folder}/{run.run_id}.log"
    request["env"] = env
    return request


def _named(who: Credentials) -> str:
    return f"user {who.identity.name}, group {who.gid}"


def _may_be_passed(values: Path) -> bool:
    """Whether any user may go through the folder above to the values in it."""
    try:
        return bool(values.parent.stat().st_mode & stat.S_IXOTH)
    except OSError:
        return False


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
            # What stands there is not said: it may be a secret, or the end of one.
            return StartFailure(
                f"{path}:{line_number}: expected NAME=value: no export, no blank or other sign in a name"
            )
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
