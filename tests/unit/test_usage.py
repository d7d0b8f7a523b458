"""What is shown of running runs: a few processes in files, and a dispatcher of which only two questions are asked."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from engine_bench import job

from tidegate.model.job import Python
from tidegate.model.run import Cause, Run, State
from tidegate.supervisor import usage

NOW = datetime(2026, 3, 27, 12, 0, tzinfo=UTC)


def process(proc: Path, pid: int, ticks: int, children: tuple[int, ...] = ()) -> None:
    thread = proc / str(pid) / "task" / str(pid)
    thread.mkdir(parents=True)
    (thread / "children").write_text(" ".join(map(str, children)))
    (proc / str(pid) / "stat").write_text(f"{pid} (sh) S 1 " + "0 " * 9 + f"{ticks} 0 0 0 20 0 1 0 1 0 0 0\n")


def a_run(name: str, pid: int | None, state: State = State.RUNNING) -> Run:
    return Run(
        run_id=name, job=name, cause=Cause.SCHEDULE, scheduled_at=NOW, queued_at=NOW, state=state, started_at=NOW,
        pid=pid,
    )  # fmt: skip


def shown(proc: Path, *runs: Run, **held: tuple[int | None, bool]) -> dict[str, Any]:
    jobs = {"tree": job("tree"), "other": job("other"), "python": job("python", python=Python(target="a:b"))}
    dispatcher: Any = SimpleNamespace(
        pressure=SimpleNamespace(held_by=lambda run_id: held.get(run_id, (None, False))), job_of=jobs.get
    )
    return {view.run_id: view for view in usage.running(dispatcher, runs, str(proc))}


def test_the_cpu_of_a_whole_tree_is_counted_and_memory_and_frozen_come_from_the_engine(tmp_path: Path) -> None:
    process(tmp_path, 10, 100, (11,))
    process(tmp_path, 11, 150)
    views = shown(tmp_path, a_run("tree", 10), a_run("other", 99), tree=(5 << 20, True))
    assert (views["tree"].cpu_s, views["tree"].memory_bytes, views["tree"].frozen) == (2.5, 5 << 20, True)
    assert (views["other"].cpu_s, views["other"].memory_bytes, views["other"].frozen) == (None, None, False)


def test_of_a_warm_worker_and_of_what_has_not_begun_no_cpu_is_told(tmp_path: Path) -> None:
    process(tmp_path, 10, 100)
    views = shown(tmp_path, a_run("python", 10), a_run("tree", 10, State.STARTING))
    assert (views["python"].cpu_s, views["tree"].cpu_s) == (None, None)


def test_no_more_processes_are_looked_at_than_one_answer_may_take(tmp_path: Path) -> None:
    many = range(1000, 1000 + usage.PROCESSES_MAX + 5)
    process(tmp_path, 10, 100, tuple(many))
    process(tmp_path, 12, 100)
    for pid in many:
        process(tmp_path, pid, 1)
    views = shown(tmp_path, a_run("other", 12), a_run("tree", 10))
    assert (views["other"].cpu_s, views["tree"].cpu_s) == (1.0, None)
