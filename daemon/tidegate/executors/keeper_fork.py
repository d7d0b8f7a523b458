"""The slow way to a process, for what posix_spawn cannot do: another user, limits. Part of the keeper's process:
standard library only. The child becomes what it is to be before it touches anything of the job's, and never runs as
less restricted instead: whatever fails ends it, with a sentence.

Forking is safe here as the keeper has one thread. Between fork and exec the child makes system calls and nothing else.
"""

import os
import resource
import select
import signal

from tidegate.executors.keeper_cgroup import write
from tidegate.executors.keeper_refusal import PATH_DEFAULT, SpawnRefused, enter, find, not_started

CHILD_S_MAX = 5.0  # to its exec: longer means that its folder or program is on a file system that hangs
REASON_BYTES_MAX = 4096
AUTOGROUPS = os.path.exists("/proc/self/autogroup")  # sched(7): the kernel may share the CPU between sessions
_KEYS = {"memory_bytes": "memory_max", "cpu_cores": "cpu_max", "pids": "pids_max", "io_weight": "io_weight"}


class Birth:
    """What the child does with itself before the exec, beyond what every run gets."""

    job = ""  # whose note it is
    cgroup: str | None = None  # joined first, so that everything it ever does is counted there

    @classmethod
    def of(cls, request: dict[str, object]) -> "Birth | None":
        """None: posix_spawn can do all that this request asks for."""
        wanted = request.get("birth")
        if not isinstance(wanted, dict):
            return None
        birth = cls(wanted)
        birth.job = str(request.get("job", ""))
        return birth

    def __init__(self, wanted: dict[str, object]) -> None:
        uid, gid, groups = wanted.get("uid"), wanted.get("gid"), wanted.get("groups")
        adjust, limits = wanted.get("oom_score_adj"), wanted.get("limits")
        assert uid is None or (isinstance(uid, int) and isinstance(gid, int) and isinstance(groups, list))
        assert adjust is None or isinstance(adjust, int)
        assert limits is None or isinstance(limits, dict)
        self.uid, self.gid = uid, gid if isinstance(gid, int) else 0
        self.groups = [int(group) for group in groups] if isinstance(groups, list) else []
        self.oom_score_adj = adjust
        self.limits: dict[str, int | float] = limits or {}
        self.rlimits: list[tuple[int, int]] = []
        self.values_path = str(wanted["values_path"]) if uid is not None else ""
        self.note = str(wanted.get("note", ""))  # what is less than the job says

    def fall_back(self, names: list[str]) -> None:
        """Limits that no control group keeps: to rlimits, where there is such a one. What is less is noted."""
        less: list[str] = []
        for name in names:
            if name == "memory_bytes":
                # DATA, not AS: address space is reserved in gigabytes by Go, Java, Node and others that never use it.
                self.rlimits.append((resource.RLIMIT_DATA, int(self.limits[name])))
                less.append("memory_max holds for each of its processes, not for all together")
            elif name == "pids" and self.uid:
                self.rlimits.append((resource.RLIMIT_NPROC, int(self.limits[name])))
                less.append("pids_max counts all processes of its user")
            else:
                less.append(f"{_KEYS[name]} is not kept")
        if less:
            less[-1] += " (no control group with what that takes is delegated to tidegate)"
        self.note = "; ".join(([self.note] if self.note else []) + less)
        if self.note:
            self.note = f"job {self.job}: {self.note}"


def fork_exec(request: dict[str, object], fd: int, nice: int, birth: Birth) -> int:
    """Start the request's program as `birth` says. Raises SpawnRefused; then nothing of it is left."""
    try:
        if birth.values_path:
            make_values(birth)
        said, tell = os.pipe()
    except OSError as error:
        raise not_started("the program", error) from None
    # Until the child has the signal actions of a job, a signal would run the keeper's own.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _be_born(request, fd, nice, birth, tell)
    except OSError as error:
        os.close(said)
        raise not_started("the program", error) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.close(tell)
    try:
        return _heard(pid, said)
    finally:
        os.close(said)


def _heard(pid: int, said: int) -> int:
    """Wait for the exec, which closes the pipe. SpawnRefused with what the child said instead."""
    poll = select.poll()
    poll.register(said, select.POLLIN)
    if not poll.poll(CHILD_S_MAX * 1000):
        os.kill(pid, signal.SIGKILL)  # reaped with the orphans, whenever it lets go
        raise SpawnRefused(
            f"it did not begin within {CHILD_S_MAX:g} s; does the file system of its cwd or program hang?"
        )
    told = os.read(said, REASON_BYTES_MAX)
    if not told:
        return pid
    os.waitpid(pid, 0)
    code, _, reason = told.decode(errors="replace").partition(" ")
    raise SpawnRefused(reason, int(code))


def make_values(birth: Birth) -> None:
    """The file for the run's values, the user's own, in a folder that only we can write to: nothing in it can be a
    trap. The state folder is closed to other users, so it lies elsewhere."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(birth.values_path, flags, 0o600)
    except FileExistsError:
        os.unlink(birth.values_path)
        fd = os.open(birth.values_path, flags, 0o600)
    try:
        os.fchmod(fd, 0o600)  # whatever umask the run before it left
        os.fchown(fd, birth.uid or 0, birth.gid)
    finally:
        os.close(fd)


def _be_born(request: dict[str, object], fd: int, nice: int, birth: Birth, tell: int) -> None:
    """The child. It does not return."""
    reason, code = "it ended before its program began; a bug, please report it", 0
    try:
        _signals()
        os.setsid()
        _place(birth, nice)
        os.umask(int(str(request.get("umask", 0o022))))
        if birth.uid is not None:
            _drop(birth.uid, birth.gid, birth.groups)
        if fd >= 0:
            os.dup2(fd, 1)
            os.dup2(fd, 2)
        else:
            os.dup2(1, 2)
        argv, env = request["argv"], request["env"]
        assert isinstance(argv, list) and isinstance(env, dict)
        enter(str(request["cwd"]))
        program = find(argv[0], str(env.get("PATH", PATH_DEFAULT)))
        try:
            os.execve(program, argv, env)
        except (OSError, ValueError, TypeError) as error:
            code = getattr(error, "errno", None) or 0
            reason = str(not_started(program, error))
    except SpawnRefused as refused:
        reason, code = str(refused), refused.code
    except OSError as error:
        reason, code = f"the run could not be set up: {error}", error.errno or 0
    finally:
        os.write(tell, f"{code} {reason}".encode(errors="replace")[:REASON_BYTES_MAX])
        os._exit(127)


def _signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def session_nice(process: int | str, nice: int) -> None:
    """Where the kernel shares the CPU between sessions, a nice value counts within its session alone, and each run is
    a session: so the session gets it, too. Without root the kernel takes ten of these a second; it is a help, no more.
    """
    if nice and AUTOGROUPS:
        write(f"/proc/{process}/autogroup", str(nice))


def _place(birth: Birth, nice: int) -> None:
    """While still privileged: control group, what the kernel kills first, nice, rlimits."""
    if birth.cgroup is not None:
        _write(f"{birth.cgroup}/cgroup.procs", "0", "the run could not join its control group")
    if birth.oom_score_adj is not None:
        what = f"oom_score_adj {birth.oom_score_adj} is not permitted; set one that is not below the daemon's own"
        _write("/proc/self/oom_score_adj", str(birth.oom_score_adj), what)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except PermissionError:
        own = os.getpriority(os.PRIO_PROCESS, 0)
        raise SpawnRefused(f"nice {nice} is not permitted to this user; set nice to {own} or more") from None
    session_nice("self", nice)
    for number, limit in birth.rlimits:
        _, hard = resource.getrlimit(number)
        most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(number, (most, most))


def _drop(uid: int, gid: int, groups: list[int]) -> None:
    """In this order, as each needs what the next gives up; and read back, as nothing else tells that it was done."""
    try:
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        reason = f"the run could not become user {uid}, group {gid}: {error.strerror}; does tidegate run as root?"
        raise SpawnRefused(reason, error.errno) from None
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid) or set(os.getgroups()) != set(groups):
        raise SpawnRefused(f"the run could not become user {uid}, group {gid}, and it runs as nobody else instead")


def _write(path: str, text: str, what: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, text.encode())
        os.close(fd)
    except OSError as error:
        raise SpawnRefused(f"{what} ({error.strerror})", error.errno) from None
