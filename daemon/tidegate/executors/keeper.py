"""The keeper: parent and subreaper of every run. It spawns, signals, reaps and samples what it is asked to, and keeps
exit statuses until they are acknowledged. It decides nothing, imports nothing but the standard library and its own
`keeper_*.py` parts, all at its start, and simply goes on when the supervisor dies or is replaced.

Run as a process of its own: `python -I -S -E keeper.py FOLDER`; it listens on FOLDER/keeper.sock. With --stay it is a
service: it goes on with empty hands, until it is told to end by a signal. This file sets up the process; the loop is
keeper_loop.py.
"""

import ctypes
import fcntl
import gc
import os
import signal
import socket
import sys

sys.path.append(os.path.abspath(__file__).rsplit("/", 3)[0])  # -I leaves it out; last: it must hide nothing

from tidegate.executors.keeper_cgroup import Cgroups, write
from tidegate.executors.keeper_loop import Keeper
from tidegate.executors.keeper_output import JOURNAL_SOCKET

sys.path.pop()

GC_OBJECTS = 20_000  # between two looks for cycles: each run leaves some objects, and hardly ever a cycle
USAGE = "usage: keeper.py FOLDER [--stay] [--journal=SOCKET] [--cgroup=FOLDER]; started by tidegate itself"
LEFT, LEFT_NEW = "keeper.left", "keeper.left.new"
AUTOGROUP_NICE = "-10"  # of the keeper's own session; runs begin new ones at 0
_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36


def listen(folder: str) -> tuple[socket.socket, int]:
    """Own the folder and listen in it. SystemExit with a sentence where another keeper does."""
    os.chdir(folder)  # a path given to bind is limited to 107 bytes
    folder_fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    lock_fd = os.open("keeper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held, and the descriptor kept, until this process ends
    except BlockingIOError:
        raise SystemExit(f"another keeper serves {folder}") from None
    try:
        os.unlink("keeper.sock")
    except FileNotFoundError:
        pass
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("keeper.sock")
    os.chmod("keeper.sock", 0o600)  # the umask keeps others out until here
    listener.listen(8)
    listener.setblocking(False)
    os.chdir("/")
    return listener, folder_fd


def become_keeper() -> int:
    """Set what is set once for this process. 0 is /dev/null from here on; returns another descriptor of it."""
    null_fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    while null_fd < 3:  # started without 0, 1 or 2: nothing of ours may land there
        os.set_inheritable(null_fd, True)
        null_fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null_fd, 0)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:
                pass  # the one that listed them
    os.umask(0o077)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) == signal.SIG_IGN and number not in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # ignored by who started us; runs must not inherit that
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the supervisor's to understand
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise SystemExit(f"cannot become the subreaper of runs: {os.strerror(ctypes.get_errno())}")
    prctl(_PR_SET_NAME, b"tidegate-keeper", 0, 0, 0)
    # Each run is a session of its own, and the kernel shares the CPU between sessions, whatever their nice values: the
    # keeper waited 300 µs before each spawn for the runs it had started. Only root may ask for more.
    write("/proc/self/autogroup", AUTOGROUP_NICE)
    return null_fd


def tell_service_manager(text: str) -> None:
    """sd_notify(3): one datagram, where somebody asked for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(text.encode(), "\0" + address[1:] if address.startswith("@") else address)
    except OSError as error:
        print(f"the service manager could not be told: {error}", file=sys.stderr)


def say_left(folder_fd: int, instance: str) -> None:
    """Put down durably that this keeper left with empty hands: what it was not seen to start, it never started."""
    try:
        fd = os.open(
            LEFT_NEW, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder_fd
        )
        try:
            os.write(fd, f"{instance}\n".encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(LEFT_NEW, LEFT, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        os.fsync(folder_fd)
    except OSError as error:
        print(
            f"{LEFT} could not be written: {error}", file=sys.stderr
        )  # then nothing is proven, and nothing is claimed


def main() -> None:
    folder, *rest = sys.argv[1:] or ["--"]
    stays = "--stay" in rest
    rest = [option for option in rest if option != "--stay"]
    options = dict(option.split("=", 1) for option in rest if "=" in option)
    if folder.startswith("-") or len(options) < len(rest) or options.keys() - {"--journal", "--cgroup"}:
        raise SystemExit(USAGE)
    null_fd = become_keeper()
    listener, folder_fd = listen(folder)
    cgroups = Cgroups.begin(options.get("--cgroup"))
    keeper = Keeper(listener, folder_fd, options.get("--journal", JOURNAL_SOCKET), cgroups)
    keeper.stays = stays
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS, 10, 10)
    try:
        if not stays:
            os.write(1, b"ready\n")
    except OSError:
        pass  # who started us is gone; another supervisor may come
    os.dup2(null_fd, 1)
    tell_service_manager("READY=1\nSTATUS=listening")
    keeper.run()
    tell_service_manager("STOPPING=1")
    if cgroups is not None:
        cgroups.end()
    if not keeper.holds:
        say_left(folder_fd, keeper.instance)
    try:
        os.unlink("keeper.sock", dir_fd=folder_fd)
    except OSError:
        pass


if __name__ == "__main__":
    main()
