"""The keeper's loop: what happens to every attempt between its spawn and its acknowledgement. Part of the keeper's
process: standard library only, one thread, never blocking, no decision that a supervisor could take.
"""

import os
import select
import signal
import socket
import time

from tidegate.executors.keeper_ahead import Ahead, Later
from tidegate.executors.keeper_attempt import Attempt, boot_ticks
from tidegate.executors.keeper_cgroup import Cgroups
from tidegate.executors.keeper_ending import Ending
from tidegate.executors.keeper_fork import Birth
from tidegate.executors.keeper_freeze import Freezing
from tidegate.executors.keeper_output import OutputFile, Spares
from tidegate.executors.keeper_refusal import TRANSIENT, SpawnRefused
from tidegate.executors.keeper_sampling import Sampling
from tidegate.executors.keeper_signals import Signals
from tidegate.executors.keeper_spawn import Ready, spawn
from tidegate.executors.keeper_timers import Timers
from tidegate.executors.keeper_tree import Trees, start_ticks, young_memory_bytes
from tidegate.executors.keeper_wire import PROTOCOL_VERSION, Message, Peer, PeerGone, quoted

REQUESTS_AT_ONCE = 16  # then children are reaped and answers go out, however many requests are waiting
IDLE_EXIT_S = 5.0  # nobody connected, nothing held: nobody needs this process
TYPE_CHECKING = False  # typing itself would cost a megabyte, and workers are only for python jobs
if TYPE_CHECKING:
    from tidegate.executors.keeper_workers import Workers

INSTANCE_BYTES = 8  # of a random name: no two keepers share one
ACCEPT_AGAIN_S = 0.1  # where a descriptor for a new connection was not to be had


class Keeper:
    """One epoll loop. `run` returns when nobody needs the keeper any more."""

    stays = False  # a service of its own: it ends when its service manager says so, and for nothing else

    def __init__(self, listener: socket.socket, folder_fd: int, journal: str, cgroups: Cgroups | None) -> None:
        self._listener, self._folder_fd, self._journal = listener, folder_fd, journal
        self._socket_inode = os.stat("keeper.sock", dir_fd=folder_fd).st_ino
        self._nice = os.getpriority(os.PRIO_PROCESS, 0)
        self._peer: Peer | None = None
        self._attempts: dict[tuple[str, int], Attempt] = {}  # running, or ended and not acknowledged
        self._spares = Spares()
        self._trees = Trees(os.getpid(), cgroups)
        self._containment = "subreaper" if cgroups is None else f"cgroup {cgroups.root}"
        self._in_a_folder = False  # of a job just spawned
        self._unsettled: list[tuple[Attempt, OutputFile | None, int, str]] = []  # spawned, and no more than that
        self._timers, self._ahead = Timers(), Ahead()
        self._after = self._timers.after
        self._sampling = Sampling(self._trees, self._timers, self._busy)
        self._freezing = Freezing(self._trees, self._timers)
        self._ending = Ending(
            self._trees, self._sampling, self._freezing, self._timers, self._reap, self._busy, self._alone
        )
        self._workers: Workers | None = None  # from the first python job on
        self._epoch = 0  # of connections: what was armed in an older one is void
        self._lonely_mono_s = time.monotonic()
        self._stopping = self._leave = False
        self._signals = Signals()
        self.instance = os.urandom(INSTANCE_BYTES).hex()
        self._epoll = select.epoll()

    # --- the loop ----------------------------------------------------------------------------------------------

    def run(self) -> None:
        self._signals.begin()
        for fd in (self._signals.fd, self._listener.fileno()):
            self._epoll.register(fd, select.EPOLLIN)
        self._after(IDLE_EXIT_S, self._maybe_leave)
        while not self._leave:
            for fd, _ in self._epoll.poll(self._timeout_s()):
                if fd == self._signals.fd:
                    self._signals.waiting = True
                elif self._peer is not None and fd == self._peer.fd:
                    self._peer.receive()
                elif fd == self._listener.fileno():
                    self._accept()
                elif self._workers is not None:
                    self._workers.hear(fd)
            if self._signals.waiting:
                self._heed_signals()
            self._flush()  # a spawn blocks for 0.3 ms, and the supervisor can use that time
            if self._peer is not None and self._peer.backlog:
                self._perform()
            elif self._peer is not None and self._peer.ended:
                self._disconnect()
            else:
                self._ahead.make_ready(self._made_ready)
            if self._ahead:
                for later in self._ahead.due():
                    self._spawn(later.message, later.note, later)
                self._settle()
            if self._peer is not None and self._peer.hailed and not self._ahead:
                self._greet()
            if self._signals.waiting:  # what ended meanwhile needs no look any more
                self._heed_signals()
            self._flush()
            self._timers.run()
            self._flush()
            if self._in_a_folder:
                self._in_a_folder = False
                os.chdir("/")  # stay in no job's folder: it must remain possible to unmount it
            if self._stopping and not self._ending.unswept and all(a.exit for a in self._attempts.values()):
                break
        if self._workers is not None:
            self._workers.close()

    def _heed_signals(self) -> None:
        if signal.SIGTERM in self._signals.heard():
            self._stop()
        self._reap()

    @property
    def holds(self) -> bool:
        """Is there an attempt that runs, or whose end is not acknowledged?"""
        return bool(self._attempts)

    def _busy(self) -> bool:
        """Starts are waiting, and come before looking around."""
        return bool(self._ahead) or (self._peer is not None and self._peer.backlog)

    def _alone(self) -> bool:
        return self._peer is None or self._stopping

    def _timeout_s(self) -> float | None:
        if self._peer is not None and self._peer.backlog:
            return 0.0
        timers_s, ahead_s = self._timers.timeout_s(), self._ahead.timeout_s()
        if timers_s is None or ahead_s is None:
            return ahead_s if timers_s is None else timers_s
        return min(timers_s, ahead_s)

    # --- the supervisor's connection ---------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in TRANSIENT:  # it goes on waiting to be heard, and must not keep this process awake
                self._epoll.unregister(self._listener)
                self._after(ACCEPT_AGAIN_S, lambda _: self._epoll.register(self._listener, select.EPOLLIN))
            return
        peer = Peer(connection)
        if peer.uid not in (0, os.getuid()):
            peer.close()
            return
        self._notice_end()
        if self._peer is not None and self._peer.greeted:
            reason = f"process {self._peer.pid} is this keeper's supervisor"
            peer.queue(f'{{"type":"refused","pid":{os.getpid()},"reason":{quoted(reason)}}}')
            try:
                peer.flush()
            except PeerGone:
                pass
            peer.close()
            return
        if self._peer is not None:
            self._disconnect()
        self._peer = peer
        self._epoch += 1
        self._epoll.register(peer.fd, select.EPOLLIN)

    def _notice_end(self) -> None:
        """A supervisor that is gone may have left its last requests: they count before another one is heard."""
        while self._peer is not None and self._peer.receive():
            pass
        while self._peer is not None and self._peer.ended:
            if self._peer.backlog:
                self._perform()
            else:
                self._disconnect()

    def _flush(self) -> None:
        if self._peer is None or not self._peer.waiting:
            return
        try:
            self._peer.flush()
        except PeerGone:
            self._disconnect()
            return
        wanted = select.EPOLLIN | (select.EPOLLOUT if self._peer.waiting else 0)
        if wanted != self._peer.awaits:
            self._peer.awaits = wanted
            self._epoll.modify(self._peer.fd, wanted)

    def _disconnect(self) -> None:
        assert self._peer is not None
        self._epoll.unregister(self._peer.fd)
        self._peer.close()
        self._peer = None
        self._freezing.left_by(self._epoch)
        self._epoch += 1
        self._lonely_mono_s = time.monotonic()
        self._after(IDLE_EXIT_S, self._maybe_leave)
        for attempt in self._attempts.values():
            self._arm_deadline(attempt)

    def _tell(self, message: str, note: bytes = b"") -> None:
        if self._peer is not None and self._peer.greeted:
            self._peer.queue(message, note)

    def _perform(self) -> None:
        """Do the next requests. One that makes no sense is answered or dropped; it never ends the keeper."""
        for _ in range(REQUESTS_AT_ONCE):
            if self._peer is None:
                return
            try:
                frame = self._peer.next_message()
            except PeerGone:
                self._disconnect()
                return
            if frame is None:
                return
            message, note = frame
            kind = message.get("type")
            if kind == "spawn":
                self._spawn(message, note)
            elif kind == "signal":
                self._signal(message)
            elif kind in ("freeze", "thaw"):
                self._freeze(message)
            elif kind == "acknowledge":
                self._acknowledge(message)
            elif kind == "use":
                self._tell(self._sampling.told_use(self._attempts.values(), message.get("afresh") is True))
            elif kind == "retire" and self._workers is not None:
                self._workers.retire_idle(message.get("keep", 0))
            elif kind == "hello":
                self._peer.hailed = True  # answered once nothing waits for its instant any more: then all is held
            elif kind == "shutdown" and self.stays:
                self._disconnect()  # the next supervisor may be on its way
            elif kind == "shutdown":
                self._stop()

    def _greet(self) -> None:
        assert self._peer is not None
        self._peer.hailed, self._peer.greeted = False, True
        count = len(self._attempts)
        about = f'"version":{PROTOCOL_VERSION},"pid":{os.getpid()},"instance":"{self.instance}","count":{count}'
        self._tell(f'{{"type":"hello",{about},"containment":{quoted(self._containment)}}}')
        for attempt in self._attempts.values():
            self._tell(attempt.told_held(), attempt.note)

    def _found(self, message: Message) -> Attempt | None:
        run_id, number = message.get("run_id"), message.get("attempt")
        if not isinstance(run_id, str) or not isinstance(number, int):
            return None
        return self._attempts.get((run_id, number))

    def _acknowledge(self, message: Message) -> None:
        attempt = self._found(message)
        if attempt is not None and attempt.exit is not None:
            del self._attempts[attempt.run_id, attempt.number]
            attempt.forget_values()

    # --- spawning and ending -----------------------------------------------------------------------------------

    def _made_ready(self, message: Message) -> Ready:
        return Ready(message, self._nice, self._journal, self._spares)

    def _spawn(self, message: Message, note: bytes, later: Later | None = None) -> None:
        """Start it, or keep it for its instant. `later`: this is that instant."""
        run_id, number = message.get("run_id"), message.get("attempt")
        if not isinstance(run_id, str) or not isinstance(number, int):
            return  # nobody to answer to
        ready = later.ready if later is not None else None
        try:
            if self._stopping:
                raise SpawnRefused("the keeper is shutting down; try again")
            if self._found(message) is not None:
                raise SpawnRefused("this attempt is already held by the keeper")
            if later is None and self._ahead.takes(message, note):
                return
            attempt = Attempt(message, note)
            if "python" in message:
                self._call(attempt, message)
                return
            self._in_a_folder = True
            if ready is None:
                self._begin(attempt, message)
            else:
                made, ready = ready, None
                begun_ticks = boot_ticks()
                self._begun_now(attempt, made.begin(), begun_ticks, made.output)
        except SpawnRefused as refusal:
            self._tell_failed(run_id, number, str(refusal), refusal.transient)
        except (KeyError, IndexError, ValueError, TypeError, AssertionError, OSError) as error:
            reason = f"the keeper could not use the request ({type(error).__name__}: {error}); a bug, please report it"
            self._tell_failed(run_id, number, reason)
        finally:
            if ready is not None:
                ready.give_up()

    def _begin(self, attempt: Attempt, message: Message) -> None:
        birth = Birth.of(message)
        if birth is not None:
            birth.fall_back(self._trees.limit(attempt, birth.limits))
            birth.cgroup = attempt.cgroup
        begun_ticks = boot_ticks()
        try:
            pid, output = spawn(message, self._nice, self._journal, self._spares, birth)
        except BaseException:
            self._trees.forget(attempt)
            attempt.forget_values()
            raise
        self._begun_now(attempt, pid, begun_ticks, output, birth.note if birth is not None else "")
        self._settle()

    def _begun_now(
        self, attempt: Attempt, pid: int, begun_ticks: int, output: OutputFile | None, note: str = ""
    ) -> None:
        """It runs. What else is to be done about it waits until the whole burst is started."""
        attempt.begin(pid, begun_ticks if boot_ticks() == begun_ticks else 0, time.monotonic())
        self._attempts[attempt.run_id, attempt.number] = attempt
        self._unsettled.append((attempt, output, begun_ticks, note))
        attempt.learn_memory(young_memory_bytes(pid))

    def _settle(self) -> None:
        """Nothing of these was reaped yet, so that their pids are theirs."""
        unsettled, self._unsettled = self._unsettled, []
        for attempt, output, begun_ticks, note in unsettled:
            attempt.pid_start = attempt.pid_start or start_ticks(attempt.pid, begun_ticks)
            self._trees.by_leader[attempt.pid] = attempt
            self._sampling.begin(attempt, output)
            self._tell(attempt.told_started(note))

    def _call(self, attempt: Attempt, message: Message) -> None:
        """A python job: its worker says when it has begun."""
        if self._workers is None:
            try:
                from tidegate.executors import keeper_workers
            except ImportError as error:  # its files are gone or others, after an upgrade
                raise SpawnRefused(f"the keeper's part for python jobs cannot be loaded: {error}; restart it") from None
            self._workers = keeper_workers.Workers(
                self._trees, self._timers, self._sampling, self._ending, self._spares, self._journal, self._epoll,
                keeper_workers.Calls(self._begun, self._ended, self._not_begun),
            )  # fmt: skip
        self._in_a_folder = True
        self._workers.start(attempt, message, self._nice)
        self._attempts[attempt.run_id, attempt.number] = attempt

    def _begun(self, attempt: Attempt, note: str) -> None:
        self._tell(attempt.told_started(note))

    def _not_begun(self, attempt: Attempt, reason: str) -> None:
        self._attempts.pop((attempt.run_id, attempt.number), None)
        attempt.forget_values()
        self._tell_failed(attempt.run_id, attempt.number, reason)

    def _tell_failed(self, run_id: str, number: int, reason: str, transient: bool = False) -> None:
        key = f'"run_id":{quoted(run_id)},"attempt":{number},"transient":{"true" if transient else "false"}'
        self._tell(f'{{"type":"start_failed",{key},"reason":{quoted(reason)}}}')

    def _reap(self) -> None:
        while True:
            try:
                zombie = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if zombie is None:
                return
            leader = self._trees.by_leader.get(zombie.si_pid)
            if leader is not None and leader.exit is None:
                _, status, usage = os.wait4(zombie.si_pid, 0)
                leader.used(usage)
                code = os.waitstatus_to_exitcode(status)
                if self._workers is None or not self._workers.ended(leader.pid, code):
                    self._ended(leader, code)
                continue
            owner = self._trees.owner(zombie.si_pid)  # while it is a zombie /proc still knows its session
            _, _, usage = os.wait4(zombie.si_pid, 0)
            self._ending.orphans_reaped += 1
            if owner is not None:
                owner.used(usage)
            self._ending.sweep_soon()

    def _ended(self, attempt: Attempt, code: int) -> None:
        attempt.end(code, self._sampling.end(attempt), self._trees.was_oom_killed(attempt))
        self._tell(attempt.told_exited())
        if not attempt.killing:
            self._freezing.thaw(attempt)  # what is left of it
        if attempt.host is None:
            self._ending.leader_ended(attempt)
        if self._peer is None:
            self._lonely_mono_s = time.monotonic()
            self._after(IDLE_EXIT_S, self._maybe_leave)

    # --- signals -----------------------------------------------------------------------------------------------

    def _signal(self, message: Message) -> None:
        attempt, number = self._found(message), message.get("signal")
        if attempt is None and (dropped := self._ahead.drop(message)):
            self._tell_failed(*dropped, "stopped before it began")
        if attempt is None or not isinstance(number, int) or number not in signal.valid_signals():
            return
        if number == signal.SIGKILL:
            self._ending.kill(attempt)
        elif number == signal.SIGTERM:
            self._ending.end_tree(attempt)
        elif attempt.exit is None:
            self._trees.send(attempt, number)

    def _freeze(self, message: Message) -> None:
        attempt = self._found(message)
        if attempt is None or attempt.host is not None:  # threads cannot be frozen
            return
        if message["type"] == "freeze":
            self._freezing.freeze(attempt, self._epoch)
        else:
            self._freezing.thaw(attempt)

    # --- time --------------------------------------------------------------------------------------------------

    def _arm_deadline(self, attempt: Attempt) -> None:
        """With no supervisor connected the keeper keeps the run's time-out itself."""
        if attempt.exit is None and attempt.timeout_s is not None:
            left_s = attempt.started_mono_s + attempt.timeout_s + attempt.frozen_until_now_s() - time.monotonic()
            epoch = self._epoch

            def end(late: Attempt | None) -> None:
                assert late is not None
                if late.exit is None and self._peer is None and self._epoch == epoch:
                    late.timed_out = True
                    self._ending.end_tree(late)

            self._after(max(left_s, 0.0), end, attempt)

    def _stop(self) -> None:
        """End everything: TERM, after the grace KILL, then this process."""
        self._stopping = True
        for attempt in list(self._attempts.values()):
            if attempt.exit is None:
                attempt.termed_mono_s = None  # its grace begins now
                self._ending.end_tree(attempt)

    def _maybe_leave(self, _: Attempt | None) -> None:
        if self.stays or self._peer is not None or time.monotonic() < self._lonely_mono_s + IDLE_EXIT_S - 0.01:
            return
        try:
            reachable = os.stat("keeper.sock", dir_fd=self._folder_fd).st_ino == self._socket_inode
        except OSError:
            reachable = False
        running = any(a.exit is None for a in self._attempts.values())
        leftovers = any(not a.leave or a.killing for a in self._ending.unswept)
        self._leave = not running and not leftovers and not (self._attempts and reachable)
