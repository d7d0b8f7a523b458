"""CPython's own tests of concurrent.futures, run with AdaptivePool in the place of both executors. All that apply pass;
those that do not are named here, each with the reason."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.live

DRIVER = Path(__file__).parent / "executor_contract_driver.py"
WITHIN_S = 110.0

NOT_APPLICABLE = {
    "test_thread_names_default": "the name of the class is another: AdaptivePool-1_0",
    "test_hang_global_shutdown_lock": "fifty forks beside a busy thread take a minute. "
    "See test_a_forked_child_cannot_use_the_pool_and_ends",
    "test_killed_child": "a killed process fails one task and not the pool: the opposite is what this wants",
    "test_shutdown_deadlock_pickle": "it asks for a thread that only ProcessPoolExecutor has",
    "test_del_shutdown": "the same; see test_a_pool_that_nobody_holds_does_its_work_and_ends",
    "test_shutdown_no_wait": "the same; see test_shutdown_without_waiting_returns_at_once_and_the_work_is_done",
    "test_error_at_task_unpickle": "the error itself is what the task raises, not BrokenProcessPool: nothing is broken",
    "test_exit_at_task_unpickle": "the same of SystemExit",
    "test_error_during_result_unpickle_in_result_handler": "such a result is a RemoteError of its task",
    "test_exit_during_result_unpickle_in_result_handler": "what a result does when it is read here is done here",
    "test_saturation": "its calls cannot be pickled, and for such a call no process begins here",
    "test_processes_terminate": "the same",
    "test_max_tasks_per_child_defaults_to_spawn_context": "ours is forkserver, whatever else is asked for",
}
ONLY_FOR_PROCESSES = {"test_del_shutdown", "test_shutdown_no_wait", "test_saturation"}


def left_out(group: str) -> list[str]:
    return [name for name in NOT_APPLICABLE if not (group.startswith("Thread") and name in ONLY_FOR_PROCESSES)]


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, str]]:
    """Test → "ok" or what went wrong, from all groups at once: they mostly sleep."""
    listing = subprocess.run([sys.executable, DRIVER], capture_output=True, text=True, check=True, timeout=60)
    children = {}
    for group in listing.stdout.split():
        command = [sys.executable, str(DRIVER), group, json.dumps(left_out(group))]
        children[group] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    results: dict[str, str] = {}
    try:
        for group, child in children.items():
            out, err = child.communicate(timeout=WITHIN_S)
            lines = [line for line in out.splitlines() if line.startswith("{")]
            results |= json.loads(lines[-1]) if lines else {group: f"no result: {out[-2000:]}{err[-2000:]}"}
        yield results
    finally:
        for child in children.values():
            child.kill()


def test_what_applies_of_cpythons_own_executor_tests_passes(found: dict[str, str]) -> None:
    wrong = {name: text for name, text in found.items() if text not in ("ok", "left out") and "skipped:" not in text}
    assert not wrong, "\n\n".join(f"{name}:\n{text}" for name, text in wrong.items())


def test_most_of_them_apply_to_threads_and_to_processes(found: dict[str, str]) -> None:
    passed = [name for name, text in found.items() if text == "ok"]
    assert len([name for name in passed if name.startswith("ThreadPool")]) >= 35
    assert len([name for name in passed if name.startswith("ProcessPool")]) >= 35


def test_every_test_that_is_left_out_exists(found: dict[str, str]) -> None:
    names = {name.rpartition(".")[2] for name, text in found.items() if text == "left out"}
    assert set(NOT_APPLICABLE) == names
