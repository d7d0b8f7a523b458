"""A configuration that was read in another process arrives whole, small and with its problems."""

import gc
import subprocess
import sys
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from tidegate.model.job import (
    At,
    Boot,
    During,
    Every,
    HookLists,
    Job,
    Limits,
    Ping,
    Python,
    Retries,
    RunAs,
    Window,
)
from tidegate.model.plan import Plan
from tidegate.settings import child, wire
from tidegate.settings.read import SettingsError, load

JOBS = """
[jobs.a]
command = ["run", "--quietly", "one thing"]
cron = "5 4 * * *"
env = { A = "1", B = "2" }
retries = { max = 2, on_exit_codes = [75] }
[jobs.b]
command = ["run", "--quietly", "one thing"]
every = "90s"
env = { B = "2", A = "1" }
[jobs.c]
shell = "x"
cron = "@reboot"
after = ["a", "b"]
[jobs.d]
shell = "y"
at = 2099-01-01T00:00:00Z
start_deadline = "1h"
[jobs.e]
shell = "by hand"
enabled = false
[jobs.f]
command = ["walk", "--quietly"]
"""


def test_a_plan_arrives_equal_and_in_order(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(JOBS)
    plan = load(file)
    arrived = child.decode(child.encode(file))
    assert arrived == plan
    assert list(arrived.jobs) == list("abcdef")
    assert list(arrived.jobs["b"].env) == ["B", "A"]


def test_equal_values_are_one_after_the_journey(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(JOBS)
    jobs = child.decode(child.encode(file)).jobs
    assert jobs["a"].command and jobs["f"].command
    assert jobs["a"].command is jobs["b"].command
    assert jobs["a"].env is not jobs["b"].env  # another order
    assert jobs["c"].retries is jobs["d"].retries
    assert jobs["a"].timezone is jobs["b"].timezone
    assert jobs["a"].command[1] is jobs["f"].command[1]


def test_every_field_of_a_job_travels() -> None:
    job = Job(
        name="x",
        command=("a", "b"),
        trigger=At(datetime(2030, 1, 1, tzinfo=UTC)),
        after=("y",),
        retries=Retries(max=1, on_exit_codes=(1, 2)),
        env={"A": "b"},
        source="x.toml:1",
    )
    plan = Plan(jobs={"x": job, "y": Job(name="y", trigger=Boot()), "z": Job(name="z", trigger=Every(1.5))})
    data = msgspec.msgpack.encode(wire.pack(plan))
    assert child.decode(data) == plan


def test_a_python_job_travels_with_its_nested_arguments(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(
        f"""[defaults]
interpreter = '{sys.executable}'
[jobs.bare]
python = "shop:run"
[jobs.nested]
python = "shop:run"
args = [1, [2, {{ a = [3] }}], 2026-01-02]
kwargs = {{ parts = {{ one = [1, {{ two = 2.5 }}] }}, names = ["x", "y"], full = true }}
executor = "thread"
python_path = ["/opt/shop", "./lib"]
"""
    )
    file = file.rename(tmp_path / "tidegate.toml")
    arrived = child.decode(child.encode(file))
    assert arrived == load(file)
    python = arrived.jobs["nested"].python
    assert python
    assert python.args == (1, [2, {"a": [3]}], "2026-01-02")
    assert python.kwargs == {"parts": {"one": [1, {"two": 2.5}]}, "names": ["x", "y"], "full": True}


def test_arguments_that_are_equal_and_not_the_same_stay_apart(tmp_path: Path) -> None:
    file = tmp_path / "tidegate.toml"
    written = ["1", "true", "1.0", "1"]
    file.write_text(
        f"[defaults]\ninterpreter = '{sys.executable}'\n"
        + "".join(f"[jobs.j{n}]\npython = 'm:f'\nargs = [{value}]\n" for n, value in enumerate(written))
    )
    jobs = child.decode(child.encode(file)).jobs
    assert [repr(job.python.args[0]) for job in jobs.values() if job.python] == ["1", "True", "1.0", "1"]
    assert jobs["j0"].python is jobs["j3"].python


def test_a_job_with_every_kind_of_value_travels() -> None:
    """Every field that is more than a plain value, filled."""
    window = Window("shop", During.DEFER)
    full = Job(
        name="x",
        command=("a",),
        python=Python(target="m:f", args=([{}],), kwargs={"a": {"b": [{}]}}, python_path=("/a",)),
        trigger=Every(1.5),
        after=("y",),
        retries=Retries(on_exit_codes=(1,)),
        success_exit_codes=(0, 1),
        env={"A": "b"},
        uses={"db": 1},
        only_during=(window,),
        not_during=(window,),
        hooks=HookLists(failure=("mail",)),
        ping=Ping("https://a.example"),
        run_as=RunAs("u", "g", ("h",)),
        limits=Limits(1, 1.5, 2, 3),
    )
    assert child.decode(msgspec.msgpack.encode(wire.pack(Plan(jobs={"x": full})))).jobs == {"x": full}


def test_a_plan_without_jobs_travels() -> None:
    assert child.decode(msgspec.msgpack.encode(wire.pack(Plan(warnings=("w",))))) == Plan(warnings=("w",))


def test_problems_arrive_as_the_same_error(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text("[jobs.a]\n[jobs.b]\n")
    with pytest.raises(SettingsError) as here:
        load(file)
    with pytest.raises(SettingsError) as there:
        child.decode(child.encode(file))
    assert there.value.problems == here.value.problems
    assert len(there.value.problems) == 2


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", b"Traceback"])
def test_what_is_no_answer_is_an_error_of_its_own(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        child.decode(data)
    assert gc.isenabled()


@pytest.mark.parametrize("text", [JOBS, "[jobs.a]\n"])
def test_the_process_answers_on_stdout_with_status_0(text: str, tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "tidegate.settings.child", str(file)], capture_output=True, check=True, timeout=60
    )
    assert done.stdout == child.encode(file)
    assert done.stderr == b""


def test_a_job_costs_little_memory(tmp_path: Path) -> None:
    count = 2000
    job = """[jobs.job-{0}]
command = ["/usr/bin/env", "python3", "/srv/shop/bin/task.py", "--number", "{0}"]
cron = "{1} * * * *"
timeout = "{1}m"
retries = {{ max = 3, delay = "30s" }}
env = {{ SHOP = "main", REGION = "eu-1" }}
"""
    file = tmp_path / "shop.toml"
    file.write_text("".join(job.format(number, number % 50 + 1) for number in range(count)))
    data = child.encode(file)
    child.decode(data)
    tracemalloc.start()
    try:
        plan = child.decode(data)
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(plan.jobs) == count
    assert kept_bytes / count < 900  # unshared it is 1,800
