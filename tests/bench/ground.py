"""The ground a benchmark stands on: a work folder, and every process started in it. Both end with it, whatever fails.

Bans: it ends only what was started here, by pid; it never touches a process by name.
"""

import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

MARK = "TIDEGATE_BENCH_GROUND"  # in the environment of everything started here: how strays are known as ours
STOP_S = 10.0  # a rival gets this long to end by itself before KILL
POLL_S = 0.005


class Missed(Exception):
    """A fact that a benchmark waited for did not come in time."""


def until(fact: Callable[[], object], within_s: float, what: str, poll_s: float = POLL_S) -> float:
    """Wait until `fact()` is true; give back the monotonic time at which it was seen to be."""
    deadline_s = time.monotonic() + within_s
    while not fact():
        if time.monotonic() > deadline_s:
            raise Missed(f"{what}: not within {within_s:g} s")
        time.sleep(poll_s)
    return time.monotonic()


def sleep_until(wall_s: float) -> None:
    while (left_s := wall_s - time.time()) > 0:
        time.sleep(left_s)


class Ready:
    """A NOTIFY_SOCKET of our own, to hear READY=1 as systemd would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def wait(self, within_s: float, child: "subprocess.Popen[bytes]") -> float:
        """The monotonic time at which READY=1 was heard."""
        deadline_s = time.monotonic() + within_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            readable, _, _ = select.select([self._socket], [], [], min(left_s, 0.5))
            if readable and b"READY=1" in self._socket.recv(65536):
                return time.monotonic()
            if child.poll() is not None:
                raise Missed(f"{child.args!r} ended with {child.returncode} before it was ready")
        raise Missed(f"{child.args!r} was not ready within {within_s:g} s")

    def close(self) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)


class Ground:
    """A context: `folder()` makes work folders, `start()` starts processes, leaving ends and removes them all."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        self.root = Path(tempfile.mkdtemp(prefix="ground-", dir=parent))
        # Unix socket paths are at most 107 bytes long: these stand elsewhere
        self.sockets = Path(tempfile.mkdtemp(prefix="tgb-"))
        self._children: list[subprocess.Popen[bytes]] = []
        self._folders = 0

    def __enter__(self) -> "Ground":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for child in reversed(self._children):
            self.stop(child, signal.SIGKILL)
        for pid in self.strays():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.rmtree(self.sockets, ignore_errors=True)

    def folder(self, name: str) -> Path:
        self._folders += 1
        path = self.root / f"{self._folders:03d}-{name}"
        path.mkdir()
        return path

    def ready(self) -> Ready:
        self._folders += 1
        return Ready(self.sockets / f"{self._folders:03d}.notify")

    def start(
        self,
        argv: list[str],
        *,
        env: Mapping[str, str] | None = None,
        stdout: Path | None = None,
        stderr: Path | None = None,
        cwd: Path | None = None,
    ) -> "subprocess.Popen[bytes]":
        """Start a process whose end is ours to see to. Output goes to the files given, else nowhere."""
        marked = {**(os.environ if env is None else env), MARK: str(self.root)}
        with open(stdout or os.devnull, "ab") as out, open(stderr or os.devnull, "ab") as err:
            child = subprocess.Popen(argv, env=marked, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=cwd)
        self._children.append(child)
        return child

    def stranger(self, argv: list[str]) -> int:
        """Start a process that is nobody's child here, as those of others are; its pid. It ends with the ground, or is
        to be killed."""
        adopted = ["sh", "-c", '"$@" >/dev/null 2>&1 & echo $!', "sh", *argv]
        marked = {**os.environ, MARK: str(self.root)}
        return int(subprocess.check_output(adopted, env=marked, stdin=subprocess.DEVNULL))

    def stop(self, child: "subprocess.Popen[bytes]", number: int = signal.SIGTERM, within_s: float = STOP_S) -> None:
        if child in self._children:
            self._children.remove(child)
        if child.poll() is None:
            child.send_signal(number)
            try:
                child.wait(within_s)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def finish(self, child: "subprocess.Popen[bytes]", within_s: float) -> None:
        """Wait for a process that ends by itself; anything but exit 0 is a failed benchmark."""
        try:
            code = child.wait(within_s)
        except subprocess.TimeoutExpired:
            raise Missed(f"{child.args!r} did not end within {within_s:g} s") from None
        self._children.remove(child)
        if code != 0:
            raise Missed(f"{child.args!r} ended with {code}")

    def strays(self) -> list[int]:
        """Processes started on this ground, or by what was, that still run."""
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and self._is_ours(entry)]

    def _is_ours(self, process: Path) -> bool:
        """Its environment carries our mark; or it is a run or a keeper of a tidegate here, built from an empty one."""
        if int(process.name) == os.getpid():
            return False
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:  # ended meanwhile, or another user's
            return False
        root, sockets = bytes(self.root), bytes(self.sockets)
        return (
            MARK.encode() + b"=" + root in environment
            or any(entry.startswith(b"TIDEGATE_OUTPUT=" + root + b"/") for entry in environment)
            or (any(b"keeper" in word for word in words) and any(word.startswith(sockets + b"/") for word in words))
        )
