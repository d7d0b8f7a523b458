"""One process that calls functions of python jobs: how it begins, what it is told, what it says. Part of the keeper's
process from the first python job on: standard library only; which run goes where is keeper_workers.py's.

What it says comes from a process in which user code runs: nothing of it is believed beyond the run that it is about.
"""

import array
import json
import os
import signal
import socket
from collections.abc import Callable

from tidegate.executors.keeper_attempt import Attempt, Host
from tidegate.executors.keeper_fork import Birth, make_values
from tidegate.executors.keeper_refusal import SpawnRefused, enter
from tidegate.executors.keeper_spawn import begin

PACKET_BYTES_MAX = 256 * 1024  # of what a worker says: result and traceback are bounded far below
GROWN_BYTES_MAX = 256 * 1024 * 1024  # since its first function was loaded, or half of what a run is taken to need
SEND_BYTES = 1024 * 1024  # asked for; the kernel may give less
RESULT_CHARS_MAX = 20_000  # a little more than worker.py keeps
ERROR_CHARS_MAX = 5000
RUN_PREFIX = "TIDEGATE_"  # of variables that are one run's alone

# In the user's interpreter these are modules, by these names, without their package: our files may be out of its reach.
PARTS = ("worker_call", "worker_one", "worker_many", "worker")
BOOT = (
    "import json,os,sys\n"
    "if sys.version_info<(3,8): sys.exit('python jobs need Python 3.8 or later, and %s is %s; correct interpreter'"
    " % (sys.executable, sys.version.split()[0]))\n"
    "fd=int(sys.argv[1])\n"
    "for n,t in json.loads(os.read(fd,1<<20)).items():\n"
    " m=sys.modules['tidegate.executors.'+n]=type(sys)(n)\n"
    " exec(compile(t,'<tidegate '+n+'>','exec'),m.__dict__)\n"
    "sys.modules['tidegate_context']=sys.modules['tidegate.executors.worker_call']\n"
    "m.main(fd)\n"
)


def read_source() -> bytes:
    """What a worker runs: the files beside this one."""
    folder = os.path.dirname(os.path.abspath(__file__))
    found = {}
    for name in PARTS:
        with open(os.path.join(folder, f"{name}.py"), encoding="utf-8") as file:
            found[name] = file.read()
    return json.dumps(found).encode()


class Call:
    """What a spawn request asks for, where that is a python job."""

    def __init__(self, message: dict[str, object]) -> None:
        wanted, argv, env = message["python"], message["argv"], message["env"]
        assert isinstance(wanted, dict) and isinstance(argv, list) and isinstance(env, dict)
        self.message = message
        self.birth = Birth.of(message)
        self.executor = str(wanted["executor"])
        self.interpreter = str(argv[0])
        self.python_path = wanted["python_path"]
        self.host_runs, self.worker_runs = int(wanted["host_runs"]), int(wanted["worker_runs"])
        self.grown_bytes_max = max(GROWN_BYTES_MAX, number_of(message, "memory_bytes") / 2)
        self.env = env
        self.shared = self.executor != "process"
        self.run = {
            "target": wanted["target"], "args": wanted["args"], "kwargs": wanted["kwargs"],
            "env": env, "cwd": message["cwd"], "umask": message.get("umask", 0o022),
        }  # fmt: skip
        birth = message.get("birth")
        surroundings = dict(birth) if isinstance(birth, dict) else {}
        surroundings.pop("values_path", None)  # one run's alone
        own = {name: value for name, value in env.items() if not name.startswith(RUN_PREFIX)}
        self.key = json.dumps(
            [self.executor, argv, self.python_path, own, message["cwd"], message.get("umask"), message.get("nice"),
             surroundings], sort_keys=True,
        )  # fmt: skip


class Worker(Host):
    """One process and its socket."""

    def __init__(
        self,
        call: Call,
        pid: int,
        connection: socket.socket,
        resident: Attempt,
        given_up: "Callable[[Worker, Attempt], None]",
    ) -> None:
        """`resident` stands for it where no attempt does."""
        self._given_up = given_up
        self.key, self.shared = call.key, call.shared
        self.worker_runs = call.worker_runs
        self.pid, self.connection, self.resident = pid, connection, resident
        self.fd = connection.fileno()
        self.note = call.birth.note if call.birth is not None else ""
        self.runs: dict[int, Attempt] = {}
        self.calls: dict[int, Call] = {}  # of those that have not begun
        self.returned: set[int] = set()  # its function came back, and the process is about to end
        self.served = 0
        self.closed = False  # takes nothing more
        self.gone = False  # its end of the socket is closed
        self.since_mono_s = 0.0  # since when it is idle
        self.cpu_s, self.read_blocks, self.written_blocks = 0.0, 0, 0  # told at the end of its last run
        self.grown_bytes, self.grown_bytes_max = 0, 0.0  # … what it holds still, and may hold at most

    def stop(self, attempt: Attempt) -> None:
        self._tell_about(attempt, "stop")

    def give_up(self, attempt: Attempt) -> None:
        if attempt.exit is None and not attempt.killing:
            attempt.killing = True
            self._tell_about(attempt, "drop")
            self.closed = True  # what was given up goes on in there
            self._given_up(self, attempt)

    def _tell_about(self, attempt: Attempt, word: str) -> None:
        number = next((number for number, one in self.runs.items() if one is attempt), None)
        if number is not None:
            self._send({word: number}, None)

    def hand_over(self, number: int, call: Call, fd: int) -> bool:
        """Give it a run; `fd` is for what that prints. False where its queue is full, or it is gone. Raises
        SpawnRefused."""
        try:
            return self._send({"run": number, **call.run}, fd)
        except OSError as error:
            raise SpawnRefused(
                f"its args and environment are more than can be handed over ({error.strerror}); pass the data in a file"
            ) from None

    def _send(self, message: dict[str, object], fd: int | None) -> bool:
        with_it = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd is not None else []
        try:
            self.connection.sendmsg([json.dumps(message).encode()], with_it, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            self.gone = True  # why is told when it is reaped
            return False
        return True

    def heard(self) -> dict[str, object] | None:
        """The next thing that it said; None: nothing more now. ValueError where that is no sense, EOFError where
        nothing more will come."""
        try:
            data = self.connection.recv(PACKET_BYTES_MAX)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            raise EOFError
        message = json.loads(data)
        if not isinstance(message, dict):
            raise ValueError("not an object")
        return message

    def retire(self) -> None:
        """Let it end: it hears that nothing more comes."""
        self.closed = True
        try:
            self.connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def kill(self) -> None:
        """Our own child keeps its pid until we reap it."""
        self.closed = True
        os.kill(self.pid, signal.SIGKILL)


def beget(call: Call, source: bytes, own_nice: int, fd: int) -> tuple[int, socket.socket]:
    """Start a process for calls like this one: its pid and our end of its socket. Until its first run begins it speaks
    to `fd`. Raises SpawnRefused."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        ours.setblocking(False)
        theirs.set_inheritable(True)  # this process has one thread: nothing else is started meanwhile
        env = {name: value for name, value in call.env.items() if not name.startswith(RUN_PREFIX)}
        argv = [call.interpreter, "-c", BOOT, str(theirs.fileno())]
        request = call.message | {"argv": argv, "env": env}
        if call.birth is None:
            enter(str(call.message["cwd"]))
        try:
            pid = begin(request, own_nice, fd, call.birth)
        except SpawnRefused as refusal:
            reason = str(refusal).replace("correct the command", "correct interpreter")
            raise SpawnRefused(reason, refusal.code) from None
        try:
            ours.send(source)
            ours.send(json.dumps({"executor": call.executor, "python_path": call.python_path}).encode())
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has ended already; why is told when it is reaped
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return pid, ours


def renew_values(call: Call) -> None:
    """The file for the values of a run as another user; for a new process it is made with it. Raises SpawnRefused."""
    if call.birth is not None and call.birth.values_path:
        try:
            make_values(call.birth)
        except OSError as error:
            raise SpawnRefused(f"{call.birth.values_path}: {error.strerror}; check the folder", error.errno) from None


def text_of(message: dict[str, object], key: str, chars_max: int) -> str | None:
    """Text that a worker said, if it is that and within bounds."""
    value = message.get(key)
    return value if isinstance(value, str) and len(value) <= chars_max else None


def number_of(message: dict[str, object], key: str) -> float:
    """A number that a worker said; 0 for anything else."""
    value = message.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15 else 0
