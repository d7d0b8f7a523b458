"""A bare APScheduler script, as a person would write it without tidegate. Run by the benchmarks, never imported.

    bare_apscheduler.py burst KIND INSTANT_NS COUNT PROGRAM [ARG...]
    bare_apscheduler.py each  KIND FIRST_S COUNT PROGRAM [ARG...]
    bare_apscheduler.py queue KIND INSTANT_NS COUNT IN_FLIGHT RECORDS PROGRAM [ARG...]
    bare_apscheduler.py load  KIND JOBS.toml            schedules every job of tidegate's own file, and stays

KIND is `threads` (BackgroundScheduler, subprocess.run) or `async` (AsyncIOScheduler, asyncio's subprocess).
Says READY=1 on $NOTIFY_SOCKET when its scheduler runs; ends after the last run.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import tomli
from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger

# A fire is never dropped and never merged, as in tidegate; otherwise this script would win by not doing the work.
DEFAULTS = {"misfire_grace_time": None, "coalesce": False, "max_instances": 10_000}
NULL = subprocess.DEVNULL


def say_ready() -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(b"READY=1", address)


class Work:
    """What each job does: run the program, keep its record if asked, and count down to the end."""

    def __init__(self, argv: list[str], count: int, records: str | None, in_flight: int) -> None:
        self.argv = argv
        self.left = count
        self.records = open(records, "w", buffering=1) if records else None  # noqa: SIM115 (closed by the process's end)
        self.gate = asyncio.Semaphore(in_flight)
        self.lock = threading.Lock()
        self.ended: Callable[[], object] = lambda: None

    def done(self, code: int | None) -> None:
        with self.lock:
            if self.records:
                self.records.write(json.dumps({"exit_code": code, "ended_s": time.time()}) + "\n")
            self.left -= 1
            if self.left == 0:
                self.ended()

    def run(self) -> None:
        self.done(subprocess.run(self.argv, stdin=NULL, stdout=NULL, stderr=NULL, check=False).returncode)

    async def arun(self) -> None:
        async with self.gate:
            process = await asyncio.create_subprocess_exec(*self.argv, stdin=NULL, stdout=NULL, stderr=NULL)
            code = await process.wait()
        self.done(code)


def with_threads(fill: Callable[[BaseScheduler, object], None], work: Work, threads: int) -> None:
    scheduler = BackgroundScheduler(
        timezone=UTC, job_defaults=DEFAULTS, executors={"default": ThreadPoolExecutor(threads)}
    )
    over = threading.Event()
    work.ended = over.set
    fill(scheduler, work.run)
    scheduler.start()
    say_ready()
    over.wait()
    scheduler.shutdown()


async def with_asyncio(fill: Callable[[BaseScheduler, object], None], work: Work) -> None:
    scheduler = AsyncIOScheduler(timezone=UTC, job_defaults=DEFAULTS, executors={"default": AsyncIOExecutor()})
    over = asyncio.Event()
    work.ended = over.set
    fill(scheduler, work.arun)
    scheduler.start()
    say_ready()
    await over.wait()
    scheduler.shutdown()


def main() -> None:
    mode, kind, *rest = sys.argv[1:]
    in_flight, records, source = 1000, None, ""
    match mode, rest:
        case "burst" | "each", [when, count, *argv]:
            pass
        case "queue", [when, count, flight, records, *argv]:
            in_flight = int(flight)
        case "load", [source]:
            when, count, argv = "0", "1", ["/bin/true"]
        case _:
            sys.exit(__doc__)

    def fill(scheduler: BaseScheduler, do: object) -> None:
        if mode == "load":
            for name, job in tomli.loads(Path(source).read_text())["jobs"].items():
                trigger = CronTrigger.from_crontab(job["cron"], timezone=UTC)
                scheduler.add_job(do, trigger, id=name, name=name, args=[])
        elif mode == "each":
            first = datetime.fromtimestamp(int(when) - 0.5, UTC)
            scheduler.add_job(do, CronTrigger(second="*", start_date=first, timezone=UTC))
        else:
            instant = datetime.fromtimestamp(int(when) / 1e9, UTC)
            for number in range(int(count)):
                scheduler.add_job(do, DateTrigger(instant), id=f"job-{number}")

    work = Work(argv, int(count), records, in_flight)
    if kind == "threads":
        with_threads(fill, work, threads=min(in_flight, int(count) if mode == "burst" else in_flight, 200))
    else:
        asyncio.run(with_asyncio(fill, work))


if __name__ == "__main__":
    main()
