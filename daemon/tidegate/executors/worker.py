"""The worker: calls functions of python jobs. It runs in the user's interpreter, not in the daemon's: standard library
only, no syntax or function that Python 3.8 does not have. It decides nothing: the keeper says what to call.

Its parts, `worker*.py`, come over the socket (keeper_worker.py): that interpreter need not be able to reach our files.
Packets of JSON both ways; a run comes with a descriptor for what it prints.
"""

from __future__ import annotations

import io
import os
import sys

from tidegate.executors.worker_call import Link, flush
from tidegate.executors.worker_many import Coroutines, Threads
from tidegate.executors.worker_one import OneByOne


def main(fd: int) -> None:
    """Serve until the keeper wants nothing more."""
    link = Link(fd)
    received = link.receive()
    if received is None:
        return
    setup, _ = received
    python_path = setup["python_path"]
    assert isinstance(python_path, list)
    sys.path[:1] = python_path  # the first is the folder it was started in, which is nobody's wish
    os.environ.pop("TIDEGATE_RUN_ID", None)
    if setup["executor"] == "process":
        for stream in (sys.stdout, sys.stderr):
            assert isinstance(stream, io.TextIOWrapper)
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
        OneByOne(link).serve()
        return
    if setup["executor"] == "thread":
        Threads(link).serve()
    else:
        Coroutines(link).run()
    flush()
    os._exit(0)  # threads that were given up are not waited for
