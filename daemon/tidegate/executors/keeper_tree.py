"""Which processes belong to which attempt, and what they use: a reader of /proc. Part of the keeper's process:
standard library only, no spawning, no protocol, no waiting.

An attempt's tree is its leader, every descendant of it, every process of its session or process group, and what
left all of these (double fork, setsid): the keeper is the subreaper, so such a process is the keeper's own child,
and its environment still says TIDEGATE_RUN_ID. A process is known by pid and start time, never by pid alone.
"""

import errno
import os
import signal
import time

from tidegate.executors.keeper_attempt import CLOCK_TICKS, Attempt, boot_ticks
from tidegate.executors.keeper_cgroup import Cgroups, kill, oom_kills, processes, write
from tidegate.executors.keeper_cgroup import memory_bytes as cgroup_memory_bytes

SCAN_SHARE_MAX = 0.05  # of one core: walks over /proc and memory samples stretch their own intervals to stay below
CALM_SHARE_MAX = 0.001  # … for runs that go on for long, all of them together: with walks for them twice as much
STILL_S = 10.0  # where nothing is started: what says so may be made up by a container
SAMPLE_AGE_S = 0.02  # one walk over /proc serves all samples that are due within this time
CONTAIN_S = 0.02  # a run that lives longer moves into a cgroup, and its whole tree is measured
SAME_TURN_S = 0.001  # one walk serves all signals of one turn
CONTAIN_ROUNDS = 5  # what is still outside its cgroup after these is found as without one
BLINDING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
OUTSIDE_S = 1.0  # pids are not given out again so soon
BROUGHT_BYTES_MAX = 8 * 1024 * 1024  # what an interpreter has set up when it moves, and keeps: no need to look again
PAGE_BYTES = os.sysconf("SC_PAGESIZE")


class Proc:
    """One line of /proc/PID/stat."""

    __slots__ = ("group", "parent", "pid", "session", "start", "state")

    def __init__(self, pid: int, fields: list[bytes]) -> None:
        self.pid = pid
        self.state = chr(fields[0][0])
        self.parent, self.group, self.session = int(fields[1]), int(fields[2]), int(fields[3])
        self.start = int(fields[19])  # clock ticks after boot


def young_memory_bytes(pid: int) -> int | None:
    """Anonymous memory of a process that was just spawned, by the cheapest look there is; None once it has ended.

    A run of a few milliseconds is seen by this look alone.
    """
    try:
        fd = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        size, resident, shared, _ = os.read(fd, 128).split(b" ", 3)
    except OSError:
        return None
    finally:
        os.close(fd)
    return (int(resident) - int(shared)) * PAGE_BYTES if size != b"0" else None


def read_proc(pid: int) -> Proc | None:
    """One process, or None where it is gone. OSError where that could not be seen, for want of a descriptor."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in BLINDING:
            raise
        return None
    try:
        text = os.read(fd, 1024)
    except OSError:
        return None
    finally:
        os.close(fd)
    fields = text[text.rindex(b")") + 2 :].split(None, 20)  # the name before it may hold anything
    return Proc(pid, fields)


def start_ticks(pid: int, since: int) -> int:
    """When it began, in clock ticks from boot, but not before `since`; 0 where that cannot be seen. Mostly the tick is
    still the same, so that it needs no look: one costs 20 µs."""
    if boot_ticks() == since:
        return since
    try:
        proc = read_proc(pid)
    except OSError:
        return 0
    return proc.start if proc is not None else 0


def newest_pid() -> bytes:
    """The process or thread that was started last, of all that this one can see; b"" where that is not told."""
    try:
        fd = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 128).rpartition(b" ")[2]
    finally:
        os.close(fd)


def scan(skip: set[int]) -> dict[int, Proc]:
    """Every process there is, but for these."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (pid := int(name)) not in skip:
            proc = read_proc(pid)
            if proc is not None:
                found[pid] = proc
    return found


def environ_of(pid: int) -> dict[bytes, bytes]:
    """The environment a process was started with; empty where it may not be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return {}
    return dict(entry.split(b"=", 1) for entry in entries if b"=" in entry)


def send(proc: Proc, number: int) -> None:
    """Signal exactly this process: not another that got its pid meanwhile."""
    try:
        fd = os.pidfd_open(proc.pid)
    except OSError:
        return
    try:
        again = read_proc(proc.pid)
        if again is not None and again.start == proc.start:
            signal.pidfd_send_signal(fd, number)
    except OSError:
        pass  # ended in between, or changed to a user that we may not signal
    finally:
        os.close(fd)


def _field_bytes(path: str, names: tuple[bytes, ...]) -> int | None:
    try:
        with open(path, "rb", buffering=0) as file:
            text = file.read(8192) or b""
    except OSError:
        return None
    total, seen = 0, False
    for name in names:
        at = text.find(b"\n" + name + b":")
        if at >= 0:
            total, seen = total + int(text[at + len(name) + 2 : text.index(b"kB", at)]) * 1024, True
    return total if seen else None


def memory_bytes(pids: list[int]) -> int | None:
    """Anonymous and shared memory of a tree, page cache left out. PSS where pages may be shared between processes."""
    total, seen = 0, False
    for pid in pids:
        found = None
        if len(pids) > 1:
            found = _field_bytes(f"/proc/{pid}/smaps_rollup", (b"Pss_Anon", b"Pss_Shmem"))
        if found is None:  # one process, or of a user whose maps we may not read
            found = _field_bytes(f"/proc/{pid}/status", (b"RssAnon", b"RssShmem"))
        if found is not None:
            total, seen = total + found, True
    return total if seen else None


class Trees:
    """Sorts the processes below the keeper by attempt."""

    def __init__(self, keeper_pid: int, cgroups: Cgroups | None) -> None:
        self._keeper_pid = keeper_pid
        self._cgroups = cgroups
        self._seen_once: set[tuple[int, int]] = set()  # orphans of which nothing could be told
        self.by_leader: dict[int, Attempt] = {}  # leader pid → attempt, until nothing of its tree is left
        self._adopted: dict[tuple[int, int], Attempt | None] = {}  # (pid, start) → attempt; None: nobody's
        self._members: dict[Attempt, list[Proc]] = {}
        # What an attempt held when it moved into its cgroup: the kernel goes on charging that to the one it came from.
        self._brought_bytes: dict[Attempt, int] = {}
        self._scanned_mono_s = float("-inf")
        self._scanned_pid = b""  # the newest process of the machine then
        self._outside: set[int] = set()  # not below the keeper: a process only ever moves up, so it stays outside
        self._outside_mono_s = float("-inf")
        self.scan_cost_s = self.scanning_s = 0.0  # of the last walk, of all of them
        self.blind = False  # the last look saw nothing, for want of a descriptor or of memory

    def members(self, attempt: Attempt, max_age_s: float = 0.0) -> list[Proc]:
        """The living processes of this attempt; zombies have nothing left to signal or to measure."""
        if time.monotonic() - self._scanned_mono_s > max_age_s:
            self.refresh()
        found = self._members.get(attempt, [])
        if attempt.cgroup is not None:
            known = {proc.pid for proc in found}
            try:
                others = [read_proc(pid) for pid in processes(attempt.cgroup) if pid not in known]
            except OSError:
                self.blind, others = True, []
            found = found + [proc for proc in others if proc is not None]
        return found

    def limit(self, attempt: Attempt, limits: dict[str, int | float]) -> list[str]:
        """A cgroup of its own with these limits, for the attempt to begin in. The names of those that none keeps."""
        if self._cgroups is None or not limits:
            return list(limits)
        attempt.cgroup, unkept = self._cgroups.take_limited(limits)
        attempt.contained = attempt.cgroup is not None
        return unkept

    def was_oom_killed(self, attempt: Attempt) -> bool:
        """Whether the kernel killed something of it for want of memory, as far as that can be known."""
        return attempt.cgroup is not None and oom_kills(attempt.cgroup) > attempt.oom_kills

    def contain(self, attempt: Attempt) -> None:
        """Once put the tree into a cgroup of its own, where there is one. What it forks meanwhile is moved after it."""
        if attempt.contained:
            return
        attempt.contained = True
        attempt.cgroup = self._cgroups.take() if self._cgroups is not None else None
        attempt.oom_kills = oom_kills(attempt.cgroup) if attempt.cgroup is not None else 0
        moved: set[int] = set()
        for _ in range(CONTAIN_ROUNDS if attempt.cgroup is not None else 0):
            late = [proc.pid for proc in self.members(attempt) if proc.pid not in moved]
            self._brought_bytes[attempt] = self._brought_bytes.get(attempt, 0) + (memory_bytes(late) or 0)
            for pid in late:
                write(f"{attempt.cgroup}/cgroup.procs", str(pid))
            moved.update(late)
            if not late:
                return

    def send(self, attempt: Attempt, *numbers: int) -> None:
        procs = self.members(attempt, SAME_TURN_S)
        for number in numbers:
            if self.blind:
                self._send_leader(attempt, number)
            for proc in procs:
                send(proc, number)

    def _send_leader(self, attempt: Attempt, number: int) -> None:
        """Our own child keeps its pid until we reap it, so this needs no look at it."""
        if attempt.exit is None and attempt.host is None:
            os.kill(attempt.pid, number)

    def kill(self, attempt: Attempt) -> bool:
        """One round of KILL. False where nothing was there to be killed."""
        if attempt.cgroup is not None:
            kill(attempt.cgroup)
        procs = self.members(attempt, SAME_TURN_S)
        if self.blind:  # what was seen earlier may have ended, and its number be another's
            self._send_leader(attempt, signal.SIGKILL)
            return True
        self.send_groups(attempt, procs, signal.SIGKILL)
        for proc in procs:
            send(proc, signal.SIGKILL)
        return bool(procs)

    def send_groups(self, attempt: Attempt, procs: list[Proc], number: int) -> None:
        """To the process groups of these: in one step for the kernel, so that no fork slips through."""
        for group in {proc.group for proc in procs}:
            if self.by_leader.get(group, attempt) is attempt and group != self._keeper_pid:
                try:
                    os.killpg(group, number)
                except OSError:
                    pass

    def memory_bytes(self, attempt: Attempt, leader_only: bool, share: float = SCAN_SHARE_MAX) -> int | None:
        charged = cgroup_memory_bytes(attempt.cgroup) if attempt.cgroup is not None else None
        brought = self._brought_bytes.get(attempt, 0)
        if charged is not None and brought <= BROUGHT_BYTES_MAX:
            return charged + brought
        # One walk over /proc serves all samples of its time; the leader alone needs none.
        age_s = max(SAMPLE_AGE_S, self.scan_cost_s / share)
        if not leader_only and self._scanned_pid and newest_pid() == self._scanned_pid:
            age_s = max(age_s, STILL_S)  # nothing was started since
        procs = [] if leader_only else self.members(attempt, age_s)
        found = memory_bytes([proc.pid for proc in procs] or [attempt.pid])
        return found if charged is None else max(charged, found or 0)

    def forget(self, attempt: Attempt) -> None:
        """Nothing is left of it."""
        self._brought_bytes.pop(attempt, None)
        if self.by_leader.get(attempt.pid) is attempt:
            del self.by_leader[attempt.pid]
        if attempt.cgroup is not None and self._cgroups is not None:
            self._cgroups.give_back(attempt.cgroup)
            attempt.cgroup = None

    def owner(self, pid: int) -> Attempt | None:
        """Whose process this zombie child of the keeper was (asked before it is reaped)."""
        try:
            proc = read_proc(pid)
        except OSError:
            return None
        if proc is None:
            return None
        owner = self._owner_of_child(proc)
        self._adopted.pop((proc.pid, proc.start), None)
        return owner

    def refresh(self) -> None:
        """Look at all processes; those found outside within the last second are not looked at again. Where nothing can
        be seen, everything is as it was seen last."""
        begun, newest = time.monotonic(), newest_pid()
        if begun - self._outside_mono_s > OUTSIDE_S:
            self._outside, self._outside_mono_s = set(), begun
        try:
            procs = scan(self._outside)
        except OSError:
            self.blind = True
            return
        self.blind = False
        children: dict[int, list[Proc]] = {}
        for proc in procs.values():
            children.setdefault(proc.parent, []).append(proc)
        self._members = {}
        seen: set[tuple[int, int]] = set()
        for child in children.get(self._keeper_pid, ()):
            seen.add((child.pid, child.start))
            owner = self._owner_of_child(child)
            if owner is None:
                continue
            pending = [child]
            while pending:
                proc = pending.pop()
                if proc is not child and (proc.pid, proc.start) not in self._adopted:
                    self._adopted[proc.pid, proc.start] = owner  # remembered: it may lose its parents next
                seen.add((proc.pid, proc.start))
                if proc.state not in "ZX":
                    self._members.setdefault(owner, []).append(proc)
                pending += children.get(proc.pid, ())
        self._adopted = {key: owner for key, owner in self._adopted.items() if key in seen}
        self._seen_once &= seen
        self._outside |= procs.keys() - {pid for pid, _ in seen} - {self._keeper_pid}
        self._scanned_mono_s = time.monotonic()
        self._scanned_pid = newest
        self.scan_cost_s = self._scanned_mono_s - begun
        self.scanning_s += self.scan_cost_s

    def _owner_of_child(self, child: Proc) -> Attempt | None:
        """The keeper's children are leaders, and orphans that lost all parents below the keeper."""
        leader = self.by_leader.get(child.pid)
        if leader is not None and leader.exit is None:
            return leader
        key = (child.pid, child.start)
        if key not in self._adopted:
            owner = self._owner_of_orphan(child)
            if owner is None and key not in self._seen_once:
                self._seen_once.add(key)  # perhaps caught in the middle of an exec, when it has no environment
                return None
            self._adopted[key] = owner
        return self._adopted[key]

    def _owner_of_orphan(self, orphan: Proc) -> Attempt | None:
        by_ids = self.by_leader.get(orphan.session) or self.by_leader.get(orphan.group)
        if by_ids is not None:
            return by_ids  # a pid is not given out again while it names a session or a group
        environ = environ_of(orphan.pid)
        run_id = environ.get(b"TIDEGATE_RUN_ID", b"").decode(errors="replace")
        number = environ.get(b"TIDEGATE_ATTEMPT", b"").decode(errors="replace")
        for attempt in self.by_leader.values():
            if attempt.run_id == run_id and str(attempt.number) == number:
                return attempt
        # It has cleared its environment. Where only one attempt can have started it, it is that one's.
        begun_s = orphan.start / CLOCK_TICKS + 1.0
        boot_offset_s = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
        possible = [
            a for a in self.by_leader.values() if not a.resident and a.started_mono_s + boot_offset_s <= begun_s
        ]
        return possible[0] if len(possible) == 1 else None
