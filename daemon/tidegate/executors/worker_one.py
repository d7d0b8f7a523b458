"""executor = "process": one run at a time, in the main thread. Part of the worker, in the user's interpreter: standard
library only, nothing that Python 3.8 does not have."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading

from tidegate.executors.worker_call import (
    PAGE_BYTES,
    Caught,
    Ended,
    Link,
    Refused,
    Run,
    Sources,
    current,
    flush,
    judge_call,
    judged,
    load,
    message_of,
)

_PR_SET_CHILD_SUBREAPER = 36


class OneByOne:
    """executor = "process": one run at a time; between two the process is as it was."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._sources = Sources()
        self._pid = os.getpid()
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._base_bytes = 0  # once the first function is loaded
        try:
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # then what a run leaves behind is seen
        except (ImportError, OSError, AttributeError):
            pass

    def serve(self) -> None:
        while True:
            received = self._link.receive()
            if received is None:
                return
            message, fd = received
            if self._sources.changed():
                self._link.told({"stale": message["run"]})
                return
            run = Run(message, fd)
            self._link.told({"began": run.number})
            self._one(run)

    def _one(self, run: Run) -> None:
        self._begin(run)
        token = current.set(run)
        ended = self._call(run)
        if os.getpid() != self._pid:  # a child that the function forked, and that came back from it
            flush()
            os._exit(ended.code & 0xFF)
        current.reset(token)
        self._sources.note()
        flush()
        reuse = not _has_children() and not _has_threads()
        if reuse:
            os.dup2(self._null, 1)
            os.dup2(self._null, 2)
        own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        self._link.told(
            {
                **message_of(run, ended),
                "reuse": reuse,
                "cpu_s": own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime,
                "read_blocks": own.ru_inblock + others.ru_inblock,
                "written_blocks": own.ru_oublock + others.ru_oublock,
                "grown_bytes": _anonymous_bytes() - self._base_bytes,
            }
        )
        if not reuse:
            sys.exit(ended.code & 0xFF)  # as a program would end: threads are waited for, children are its leftovers

    def _begin(self, run: Run) -> None:
        os.dup2(run.fd, 1)
        os.dup2(run.fd, 2)
        os.close(run.fd)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        sys.argv = [run.target]
        os.environ.clear()
        os.environ.update(run.env)
        assert isinstance(run.umask, int)
        os.umask(run.umask)
        signal.alarm(0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _call(self, run: Run) -> Ended:
        value: object = None
        caught = Caught()
        with caught:
            try:
                os.chdir(run.cwd)
            except OSError as error:
                raise Refused(f"cwd {run.cwd!r} cannot be entered: {error.strerror}; correct cwd") from None
            function = load(run.target)
            judge_call(function, run, False)
            self._base_bytes = self._base_bytes or _anonymous_bytes()
            assert isinstance(run.args, list) and isinstance(run.kwargs, dict)
            value = function(*run.args, **run.kwargs)
        return judged(caught, value)


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _has_threads() -> bool:
    return any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate())


def _anonymous_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        _, resident, shared, _ = file.read().split(b" ", 3)
    return (int(resident) - int(shared)) * PAGE_BYTES
