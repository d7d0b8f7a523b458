"""What `tidegate check` says about python jobs, and what becomes of them."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tidegate.model.job import Executor, Job, Python
from tidegate.model.plan import changed_jobs
from tidegate.model.redact import redacted
from tidegate.settings.read import SettingsError, load

LINE = "[jobs.x]\npython = 'shop.jobs:run'\n"
INTERPRETER = f"interpreter = '{sys.executable}'\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def job_of(text: str, name: str = "x") -> Job:
    Path("shop.toml").write_text(text)
    return load(Path("shop.toml")).jobs[name]


def problems_of(text: str) -> list[str]:
    Path("shop.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(Path("shop.toml"))
    return [str(problem).removeprefix("shop.toml:") for problem in caught.value.problems]


def test_a_python_job_has_its_defaults() -> None:
    job = job_of(LINE + INTERPRETER)
    assert job.python == Python(target="shop.jobs:run", interpreter=sys.executable)
    assert (job.command, job.shell) == (None, None)


def test_all_of_its_keys_arrive() -> None:
    python = job_of(
        LINE + INTERPRETER + "args = [1, 'two', [3]]\nkwargs = { full = true, since = 2026-01-02, at = 10:30:00 }\n"
        "executor = 'async'\npython_path = ['/opt/shop', './lib', '~/lib']\nhost_runs = 5\nworker_runs = 7\n"
    ).python
    assert python == Python(
        target="shop.jobs:run", args=(1, "two", [3]), kwargs={"full": True, "since": "2026-01-02", "at": "10:30:00"},
        executor=Executor.ASYNC, interpreter=sys.executable, host_runs=5, worker_runs=7,
        python_path=("/opt/shop", str(Path.cwd() / "lib"), "~/lib"),
    )  # fmt: skip


def test_defaults_are_for_python_jobs_only() -> None:
    text = f"[defaults]\n{INTERPRETER}host_runs = 3\n{LINE}[jobs.y]\ncommand = ['true']\n"
    Path("tidegate.toml").write_text(text)
    jobs = load(Path("tidegate.toml")).jobs
    assert jobs["x"].python == Python(target="shop.jobs:run", interpreter=sys.executable, host_runs=3)
    assert jobs["y"].python is None


def test_an_interpreter_beside_the_file_is_found_there() -> None:
    Path("venv").mkdir()
    Path("venv/python").symlink_to(sys.executable)
    job = job_of(LINE + "interpreter = './venv/python'\n")
    assert job.python is not None and os.path.realpath(job.python.interpreter) == os.path.realpath(sys.executable)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[jobs.x]\npython = 'shop.jobs'\n", "2: jobs.x.python: must be module:function such as"),
        ("[jobs.x]\npython = 'a b:c'\n", "2: jobs.x.python: must be module:function such as"),
        ("[jobs.x]\npython = 'a:b:c'\n", "2: jobs.x.python: must be module:function such as"),
        (LINE + "command = ['true']\n", "2: jobs.x.python: only one of command, shell and python may be written"),
        ("[jobs.x]\nargs = [1]\n", "1: jobs.x: needs command, shell or python: what to run"),
        (
            "[jobs.x]\ncommand = ['true']\nkwargs = { a = 1 }\n",
            "3: jobs.x.kwargs: is only for python jobs; write python, or leave it out",
        ),
        (
            "[jobs.x]\ncommand = ['true']\nexecutor = 'thread'\n",
            "3: jobs.x.executor: is only for python jobs; write python, or leave it out",
        ),
        (LINE + "executor = 'fiber'\n", '3: jobs.x.executor: must be "process", "thread" or "async", got "fiber"'),
        (
            LINE + "interpreter = '/no/such/python'\n",
            '3: jobs.x.interpreter: "/no/such/python" is not there; make the virtual env',
        ),
        (LINE + "interpreter = '/etc'\n", '3: jobs.x.interpreter: "/etc" is a folder; write the program in it'),
        (LINE + "interpreter = '/etc/passwd'\n", '3: jobs.x.interpreter: "/etc/passwd" is not executable'),
        (LINE + "interpreter = 'python99'\n", '3: jobs.x.interpreter: "python99" was not found in PATH'),
        (LINE + "interpreter = 'bin/python'\n", '3: jobs.x.interpreter: must be a name such as "python3"'),
        (LINE + "args = 5\n", "3: jobs.x.args: must be a list, got 5"),
        (LINE + "args = [1.5, inf]\n", "3: jobs.x.args[1]: cannot be handed over: JSON has no inf"),
        (LINE + "kwargs = { a = [nan] }\n", "3: jobs.x.kwargs.a[0]: cannot be handed over: JSON has no nan"),
        (LINE + "kwargs = { 'not a name' = 1 }\n", "is no name that a function could have for an argument"),
        (LINE + "python_path = ['lib']\n", "3: jobs.x.python_path[0]: must be absolute or begin with"),
        (LINE + "host_runs = 0\n", "3: jobs.x.host_runs: must be a whole number from 1 to 10000, got 0"),
        (LINE + f"args = ['{'x' * 70000}']\n", "2: jobs.x.python: args and kwargs are 70009 bytes as JSON"),
        (
            LINE + "executor = 'thread'\nmemory_max = '1GiB'\n",
            "4: jobs.x.memory_max: memory_max is kept for a process, and threads share",
        ),
        (
            LINE + "executor = 'async'\npids_max = 5\n",
            "4: jobs.x.pids_max: pids_max is kept for a process, and coroutines",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, expected: str) -> None:
    assert any(expected in problem for problem in problems_of(text)), problems_of(text)


def test_limits_from_defaults_are_no_less_wrong_for_threads() -> None:
    Path("tidegate.toml").write_text(f"[defaults]\ncpu_max = 2\n{LINE}{INTERPRETER}executor = 'thread'\n")
    with pytest.raises(SettingsError, match=r"jobs.x.executor: cpu_max is kept for a process"):
        load(Path("tidegate.toml"))


def test_secrets_among_the_arguments_are_not_shown() -> None:
    python: dict[str, Any] = redacted(
        Job(
            name="x",
            python=Python(target="a:b", args=("postgres://me:secret@db/x",), kwargs={"api_key": "abc", "n": [1, "t"]}),
        )
    )["python"]
    assert "secret" not in str(python) and "abc" not in str(python)
    assert python["kwargs"]["n"] == [1, "t"]


def test_an_argument_of_another_kind_is_a_change_for_a_reload() -> None:
    jobs = [job_of(f"{LINE}{INTERPRETER}kwargs = {{ deep = [{value}], b = 2 }}\n") for value in ("1", "true", "1.0")]
    turned = job_of(f"\n{LINE}{INTERPRETER}kwargs = {{ b = 2, deep = [1] }}\n")  # elsewhere, and in another order
    assert [changed_jobs({"x": jobs[0]}, {"x": job}).changed for job in (*jobs, turned)] == [(), ("x",), ("x",), ()]
