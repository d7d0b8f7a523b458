"""Makes the n-th system call of a kind fail in the real daemon, by strace. It looks at nothing but whether that has
happened.
"""

import os
import re
import signal
import subprocess
from collections import Counter
from pathlib import Path

from daemon_process import until
from msgspec import Struct

# A daemon leaves its children alone (-b execve): what jobs and the keeper meet is asked for apart.
FOLLOW = ("-f", "-b", "execve")


class Fault(Struct, frozen=True):
    """One kind of call and how it fails."""

    syscalls: str  # as strace names them, with commas
    error: str

    def at(self, n: int) -> str:
        """The option that makes the n-th fail. The count is that of each thread."""
        return f"inject={self.syscalls}:error={self.error}:when={n}"


FAULTS = (
    Fault("openat", "EMFILE"),
    Fault("openat", "EIO"),
    Fault("write,pwrite64", "ENOSPC"),
    Fault("write,pwrite64", "EIO"),
    Fault("fsync,fdatasync", "EIO"),
    Fault("clone,clone3,vfork", "EAGAIN"),
)


def under(fault: Fault, n: int, trace: Path) -> tuple[str, ...]:
    """A command to put before another one: there, the n-th call fails."""
    return ("strace", "-qq", *FOLLOW, "-o", str(trace), "-e", f"trace={fault.syscalls}", "-e", fault.at(n))


def counted(syscalls: str, trace: Path) -> tuple[str, ...]:
    """A command to put before another one: its calls are written down, none fails."""
    return ("strace", "-qq", *FOLLOW, "-o", str(trace), "-e", f"trace={syscalls}")


def injected(trace: Path) -> bool:
    """Whether the call has failed."""
    return trace.exists() and "(INJECTED)" in trace.read_text(errors="replace")


def span(trace: Path, syscalls: str, marker: str) -> tuple[int, int]:
    """Of a trace: which of the main thread's calls of this kind first named `marker`, and the most calls of any thread.

    What comes before the marker is the interpreter's own start, which is not ours to make graceful.
    """
    counts: Counter[str] = Counter()
    first = 0 if marker else 1
    main = ""  # the first thread that there was
    for line in trace.read_text(errors="replace").splitlines():
        found = re.match(r"(\d+) +(\w+)\(", line)
        main = main or line.split(" ")[0]
        if not found or found[2] not in syscalls.split(","):
            continue
        counts[found[1]] += 1
        if not first and found[1] == main and marker in line:
            first = counts[main]
    return first, max(counts.values(), default=0)


class Attached:
    """strace on a process that is at work already; `with` ends it, and the process goes on."""

    def __init__(self, pid: int, fault: Fault, n: int, trace: Path, *, threads: bool = True) -> None:
        self._trace = trace
        trace.unlink(missing_ok=True)
        follow = FOLLOW if threads else ()
        self._strace = subprocess.Popen(
            ["strace", *follow, "-o", str(trace), "-e", f"trace={fault.syscalls}", "-e", fault.at(n), "-p", str(pid)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert self._strace.stderr is not None
        os.set_blocking(self._strace.stderr.fileno(), False)
        self._said = b""

    def __enter__(self) -> "Attached":
        until(lambda: b" attached" in self._listen() or self._strace.poll() is not None, 10, "attached")
        assert self._strace.poll() is None, self._said.decode()
        return self

    def __exit__(self, *error: object) -> None:
        self._strace.send_signal(signal.SIGINT)  # it lets go of the process and ends
        self._strace.wait(20)

    def injected(self) -> bool:
        """Whether the call has failed."""
        return injected(self._trace)

    def lost_signal(self) -> bool:
        """Whether the call was a process noting a signal for itself, in a socket of its own: no kernel refuses that."""
        return re.search(r'write\(\d+, "[^"]+", 1\) .*INJECTED', self._trace.read_text(errors="replace")) is not None

    def _listen(self) -> bytes:
        assert self._strace.stderr is not None
        self._said += self._strace.stderr.read() or b""
        return self._said
