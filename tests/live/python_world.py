"""A real keeper with jobs that call functions of a module written for the test."""

import sys
from pathlib import Path
from typing import Any

from keeper_world import World

from tidegate.model.job import Executor, Job, Python

CODE = """
import asyncio, json, os, subprocess, sys, threading, time
from pathlib import Path

def add(a, b=2, **more):
    print("adding")
    return {"sum": a + b, **more}

def pid():
    return os.getpid()

def fail():
    raise ValueError("bad number")

def leave(code):
    sys.exit(code)

def vanish(code):
    os._exit(code)

def give(value):
    return value

def big():
    return "x" * 100_000

def strange():
    return object()

def look():
    from tidegate_context import tidegate_context
    context = tidegate_context()
    at = context.scheduled_at.isoformat()
    return [context.job, context.run_id, context.attempt, at, os.environ.get("TIDEGATE_RUN_ID"), os.getcwd(), sys.argv]

def wait(folder, name="go"):
    print("waiting", flush=True)
    Path(folder, name + ".here").touch()
    while not Path(folder, name).exists():
        time.sleep(0.005)
    print("went on")
    return name

def hang():
    print(os.getpid())
    subprocess.Popen(["sleep", "1000"])
    time.sleep(1000)

def leftover():
    return subprocess.Popen(["sleep", "1000"]).pid

def orphan():
    return int(subprocess.check_output(["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!"]))

def grow():
    keep.append(b"x" * 300_000_000)
    return os.getpid()
keep = []

def obedient():
    from tidegate_context import tidegate_context
    print("begun")
    while not tidegate_context().stopping:
        time.sleep(0.005)
    return "stopped"

def chatter(name, folder):
    for number in range(200):
        print(name, number)
        if number == 100:
            Path(folder, name + ".half").touch()
            while len(list(Path(folder).glob("*.half"))) < 3:
                time.sleep(0.001)
    subprocess.run(["echo", name, "child"], stdout=sys.stdout)
    print(name, "err", file=sys.stderr)

async def achatter(name, folder):
    for number in range(200):
        print(name, number)
        if number % 10 == 0:
            await asyncio.sleep(0)
    return os.getpid()

async def asleep():
    print("asleep")
    try:
        await asyncio.sleep(1000)
    finally:
        print("woken")

async def stubborn():
    print("begun")
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            print("never")

number = 5
"""


class PythonWorld(World):
    """`code` is a folder in which the module `mod` is."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.code = folder / "code"
        self.code.mkdir()
        self.write(CODE)

    def write(self, text: str) -> None:
        (self.code / "mod.py").write_text(text)

    def call(self, target: str, *args: Any, name: str = "job", attempt: int = 1, **settings: Any) -> str:
        """A run of a job that calls this."""
        python = {"interpreter": sys.executable, "python_path": (str(self.code),), "args": args}
        python |= {key: settings.pop(key) for key in Python.__struct_fields__ if key in settings}
        if isinstance(python.get("executor"), str):
            python["executor"] = Executor(python["executor"])
        target = target if ":" in target else f"mod:{target}"
        run_args = settings.pop("run_args", None)
        settings = {"name": name, "cwd": "/", "kill_grace_s": 0.3, "nice": 0} | settings
        return self.start(Job(python=Python(target=target, **python), **settings), attempt=attempt, args=run_args)

    def result(self, run_id: str) -> Any:
        """What a run returned, once it has ended."""
        ended = self.exited(run_id)
        assert ended.exit_code == 0, ended
        return ended.result
