"""Rules for python jobs: the function's name, its arguments, the interpreter, and what threads cannot have. It looks at
the interpreter's file and runs nothing."""

import os
import shutil
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from tidegate.model.job import Executor, Job, Python
from tidegate.model.limits import PYTHON_ARGS_BYTES_MAX
from tidegate.settings import rules
from tidegate.settings.desk import Desk
from tidegate.settings.problem import Keys, quoted
from tidegate.settings.raw import RawDefaults, RawJob

SURROUNDINGS: Final = ("executor", "interpreter", "python_path", "host_runs", "worker_runs")
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # a run's own, unless env says otherwise
BY_PROCESS: Final = ("memory_max", "cpu_max", "pids_max", "io_weight")


class Interpreters:
    """Verdicts on interpreters, each looked at once."""

    def __init__(self, looks_on: bool) -> None:
        self._looks_on = looks_on  # another machine, or another user, may have it
        self._verdicts: dict[tuple[str, str], str] = {}

    def wrong(self, interpreter: str, path: str) -> str:
        """What is wrong with it, "" if nothing. `path`: the run's PATH."""
        if self._looks_on or interpreter.startswith("~"):
            return ""
        verdict = self._verdicts.get((interpreter, path))
        if verdict is None:
            verdict = self._verdicts[interpreter, path] = judge_interpreter(interpreter, path)
        return verdict


def judge_interpreter(interpreter: str, path: str) -> str:
    """Whether there is such a program."""
    if "/" not in interpreter:
        found = shutil.which(interpreter, path=path)
        return "" if found else f"{quoted(interpreter)} was not found in PATH ({path}); write its full path"
    file = Path(interpreter)
    try:
        if not file.exists():
            return f"{quoted(interpreter)} is not there; make the virtual environment, or correct interpreter"
    except OSError as error:
        return f"{quoted(interpreter)} cannot be looked at: {error.strerror}"
    if file.is_dir():
        return (
            f"{quoted(interpreter)} is a folder; write the program in it, such as {quoted(f'{interpreter}/bin/python')}"
        )
    return "" if os.access(file, os.X_OK) else f"{quoted(interpreter)} is not executable"


def surroundings(raw: RawDefaults, base: Python | None, keys: Keys, desk: Desk) -> Python | None:
    """What [defaults] and jobs may say of where functions are called; as it was where nothing is said."""
    written: dict[str, Any] = {key: getattr(raw, key) for key in SURROUNDINGS if getattr(raw, key) is not UNSET}
    if not written:
        return base
    if "interpreter" in written:
        desk.take((*keys, "interpreter"), interpreter_name, written["interpreter"], None)
        written["interpreter"] = rules.beside(desk.folder, written["interpreter"])
    if "python_path" in written:
        for index, path in enumerate(written["python_path"]):
            desk.take((*keys, "python_path", index), rules.cwd, path, None)
            desk.take((*keys, "python_path", index), rules.plain, path, None)
        written["python_path"] = tuple(rules.beside(desk.folder, path) for path in written["python_path"])
    return replace(base or Python(), **written)


def call(raw: RawJob, base: Python | None, keys: Keys, desk: Desk) -> Python | None:
    """The function and its arguments; None where the job calls none."""
    if raw.python is UNSET:
        for key in (*SURROUNDINGS, "args", "kwargs"):
            if getattr(raw, key) is not UNSET and (*keys, "python") not in desk.bad:
                desk.report((*keys, key), "is only for python jobs; write python, or leave it out")
        return None
    desk.take((*keys, "python"), target_name, raw.python, None)
    args: Any = [] if raw.args is UNSET else plain(raw.args, (*keys, "args"), desk)
    kwargs: Any = {} if raw.kwargs is UNSET else plain(raw.kwargs, (*keys, "kwargs"), desk)
    for name in kwargs:
        if not name.isidentifier():
            desk.report((*keys, "kwargs", name), "is no name that a function could have for an argument")
    size = len(msgspec.json.encode([args, kwargs]))
    if size > PYTHON_ARGS_BYTES_MAX:
        more = f"args and kwargs are {size} bytes as JSON, and at most {PYTHON_ARGS_BYTES_MAX} can be; name a file"
        desk.report((*keys, "python"), more)
    return replace(base or Python(), target=raw.python, args=tuple(args), kwargs=kwargs)


def fits(job: Job, raw: RawJob, interpreters: Interpreters, keys: Keys, desk: Desk) -> None:
    """What only shows once the whole job is known."""
    python = job.python
    if python is None:
        return
    wrong = interpreters.wrong(python.interpreter, job.env.get("PATH", PATH))
    if wrong:
        desk.report((*keys, "interpreter" if raw.interpreter is not UNSET else "python"), wrong)
    if python.executor is Executor.PROCESS:
        return
    limits = job.limits
    kept = (limits.memory_bytes, limits.cpu_cores, limits.pids, limits.io_weight)
    for key, limit in zip(BY_PROCESS, kept, strict=True):
        if limit is not None:
            place = key if getattr(raw, key) is not UNSET else "executor" if raw.executor is not UNSET else "python"
            word = "threads" if python.executor is Executor.THREAD else "coroutines"
            desk.report((*keys, place), f'{key} is kept for a process, and {word} share one; set executor = "process"')


def target_name(text: str) -> None:
    """module:function, both may have dots."""
    module, colon, function = text.partition(":")
    parts = [*module.split("."), *function.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise ValueError(f'must be module:function such as "shop.jobs:reindex", got {quoted(text)}')


def interpreter_name(text: str) -> None:
    """A program: by its name, or by its path."""
    rules.plain(text)
    if not text or (not text.startswith(("/", "~/", "./", "../")) and "/" in text) or text.endswith("/"):
        raise ValueError(f'must be a name such as "python3", or a path that begins with "/", "~/", "./" or "../", got '
                         f"{quoted(text)}")  # fmt: skip


def plain(value: Any, keys: Keys, desk: Desk) -> Any:
    """As JSON would have it: dates and times become their ISO text; infinities are errors."""
    match value:
        case dict():
            return {key: plain(item, (*keys, key), desk) for key, item in value.items()}
        case list() | tuple():
            return [plain(item, (*keys, index), desk) for index, item in enumerate(value)]
        case datetime() | date() | time():
            return value.isoformat()
        case float() if not -1.7976931348623157e308 <= value <= 1.7976931348623157e308:
            desk.report(keys, f"cannot be handed over: JSON has no {value}")
            return None
        case _:
            return value
