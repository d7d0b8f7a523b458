"""`executor_contract_driver.py GROUP`: CPython's own tests of concurrent.futures, with AdaptivePool in the place of its
executors. Prints one JSON object: test → "ok", or what went wrong. Without GROUP: the groups.

The tests are those of the interpreter itself (`test.test_concurrent_futures`), or of Debian's libpython3-testsuite.
"""

import importlib
import io
import json
import re
import sys
import tempfile
import unittest
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

from tidegate import AdaptivePool

NAME = "test.test_concurrent_futures"
HERE = str(Path(__file__).resolve().parent)
KINDS = ("Thread", "Forkserver")  # fork and spawn differ in how a process begins; tests of our own begin one of each
PARTS = 4  # of each kind; they run at the same time, as most of these tests sleep
GROUPS = [f"{kind}:{part}" for kind in KINDS for part in range(PARTS)]


class ThreadPoolExecutor(AdaptivePool):
    """With the arguments of its namesake, always as wide as it may be, and those internals that its tests look at."""

    def __init__(self, max_workers: int | None = None, thread_name_prefix: str = "", **options: Any) -> None:
        import os

        width = min(32, (os.cpu_count() or 1) + 4) if max_workers is None else max_workers
        self._max_workers = width
        super().__init__(width, min_workers=max(1, width), thread_name_prefix=thread_name_prefix, **options)

    @property
    def _broken(self) -> object:
        return self._core.broken

    @property
    def _threads(self) -> list[Any]:
        return [worker.thread for worker in self._core.staff]


class ProcessPoolExecutor(AdaptivePool):
    """The same for processes."""

    def __init__(self, max_workers: int | None = None, **options: Any) -> None:
        import os

        width = (os.cpu_count() or 1) if max_workers is None else max_workers
        self._max_workers = width
        super().__init__(width, kind="process", min_workers=max(1, width), **options)

    @property
    def _broken(self) -> object:
        return self._core.broken

    @property
    def _processes(self) -> dict[int, Any]:
        """Once all that are starting have started: here it is a worker's thread that starts its process."""
        import time

        deadline_s = time.monotonic() + 60

        def starting() -> bool:
            with self._core.lock:
                awake = self._core.staff.difference(self._core.idle)
            return any(worker.process is None for worker in awake)

        while starting():
            assert time.monotonic() < deadline_s, "a process did not start"
            time.sleep(0.005)
        return {each.pid: each.process for each in list(self._family)}


def suite_folder() -> str | None:
    """Where the tests are found; None: where every module is."""
    try:
        importlib.import_module(NAME)
        return None
    except ModuleNotFoundError:
        pass
    own = f"python3.{sys.version_info.minor}"
    folders = [Path("/usr/lib") / own, *sorted(Path("/usr/lib").glob("python3.*"), reverse=True)]
    for folder in folders:
        if any((folder / "test" / name).exists() for name in ("test_concurrent_futures.py", "test_concurrent_futures")):
            return str(folder)
    raise SystemExit("CPython's own tests are not installed (Debian: apt install libpython3-testsuite)")


def install() -> Any:
    """Our executors in the place of CPython's, and its tests."""
    futures.ThreadPoolExecutor = ThreadPoolExecutor  # type: ignore[misc,assignment]
    futures.ProcessPoolExecutor = ProcessPoolExecutor  # type: ignore[misc,assignment]
    folder = suite_folder()
    if folder is not None:
        scratch = tempfile.mkdtemp(prefix="contract-")
        (Path(scratch) / "test").symlink_to(Path(folder) / "test")
        sys.path.insert(0, scratch)
        for name in [name for name in sys.modules if name == "test" or name.startswith("test.")]:
            del sys.modules[name]
    return importlib.import_module(NAME)


def parts_of(suite: Any) -> list[Any]:
    """The modules that hold its test cases: one up to Python 3.11, several from 3.12 on."""
    if not hasattr(suite, "__path__"):
        return [suite]
    names = sorted(path.stem for path in Path(suite.__path__[0]).glob("test_*.py"))
    return [importlib.import_module(f"{NAME}.{name}") for name in names]


def cases(kind: str) -> Iterator[tuple[type[unittest.TestCase], str]]:
    """Test cases of one kind of executor, whatever this version of the suite calls them."""
    seen = set()
    for module in parts_of(install_once()):
        for case in vars(module).values():
            if not (isinstance(case, type) and issubclass(case, unittest.TestCase)) or case in seen:
                continue
            seen.add(case)
            mixins = {base.__name__ for base in case.__mro__}
            wanted = "ThreadPoolMixin" if kind == "Thread" else f"ProcessPool{kind}Mixin"
            if wanted in mixins:
                for name in unittest.TestLoader().getTestCaseNames(case):
                    yield case, name


_installed: list[Any] = []


def install_once() -> Any:
    if not _installed:
        _installed.append(install())
    return _installed[0]


def in_subprocesses(suite: Any) -> None:
    """The interpreters that the tests start get our executors, too."""
    begin = f"import sys\nsys.path.insert(0, {HERE!r})\nimport executor_contract_driver as driver\ndriver.install()\n"
    for module in parts_of(suite):
        plain = getattr(module, "assert_python_ok", None)
        if plain is not None:

            def with_ours(*args: str, plain: Any = plain) -> Any:
                code = re.sub(r"^if (1|True):\n", r"if True:\n", args[-1])
                return plain(*args[:-1], begin + code)

            module.assert_python_ok = with_ours


def run(group: str, left_out: set[str]) -> dict[str, str]:
    kind, part = group.split(":")
    suite = install_once()
    in_subprocesses(suite)
    found: dict[str, str] = {}
    for index, (case, name) in enumerate(sorted(cases(kind), key=lambda each: (each[1], each[0].__name__))):
        if index % PARTS != int(part):
            continue
        if name in left_out:
            found[f"{case.__name__}.{name}"] = "left out"
            continue
        for base in case.__mro__:
            if "executor_type" in vars(base):
                base.executor_type = ThreadPoolExecutor if kind == "Thread" else ProcessPoolExecutor  # type: ignore[attr-defined]
        outcome = unittest.TextTestRunner(stream=io.StringIO()).run(case(name))
        trouble = [text for _, text in (*outcome.errors, *outcome.failures)]
        skipped = [f"skipped: {text}" for _, text in outcome.skipped]
        found[f"{case.__name__}.{name}"] = "\n".join([*trouble, *skipped]) or "ok"
    return found


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print("\n".join(GROUPS))
    else:
        print("\n" + json.dumps(run(sys.argv[1], set(json.loads(sys.argv[2])) if len(sys.argv) > 2 else set())))
