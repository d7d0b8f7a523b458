"""One attempt as the keeper sees it, and how it is told. Part of the keeper's process: standard library only, nothing
is done here.
"""

import os
import resource
import time

from tidegate.executors.keeper_output import OutputFile
from tidegate.executors.keeper_wire import quoted

SAMPLE_S_FIRST = 0.005  # after the spawn: most programs have set up their memory by then
KILL_GRACE_S_DEFAULT = 10.0
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
BLOCK_BYTES = 512  # of getrusage(2), whatever the file system has
_TICK_NS = 1_000_000_000 // CLOCK_TICKS


def boot_ticks() -> int:
    """Now, as the kernel writes the start of a process into /proc/PID/stat."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _TICK_NS


class Host:
    """A process in which several attempts run: none of them can be ended by a signal."""

    def stop(self, attempt: "Attempt") -> None:
        """Ask it to end."""
        raise NotImplementedError

    def give_up(self, attempt: "Attempt") -> None:
        """It ends here and now for us, whatever goes on in there."""
        raise NotImplementedError


class Attempt:
    """One attempt as the keeper sees it, from its spawn to its acknowledgement."""

    memory_peak_bytes: int | None = None
    memory_bytes: int | None = None  # at the last look
    carried_bytes = 0  # held by its process before it began, and left there by others
    cpu_s = 0.0  # of orphans, reaped by the keeper
    sample_every_s = SAMPLE_S_FIRST  # doubled after each sample
    termed_mono_s: float | None = None  # when the tree was first told to end
    killing = False
    timed_out = False  # the keeper itself enforced the time-out
    contained = False  # a cgroup was sought for it
    cgroup: str | None = None
    oom_kills = 0  # that its cgroup had seen before
    exit: str | None = None  # its end, as JSON
    read_blocks = written_blocks = 0  # from and to storage
    frozen_s = 0.0  # of freezes that are over
    frozen_mono_s: float | None = None  # since when it is frozen
    host: Host | None = None  # it runs in a process with others: what that uses is nobody's alone
    resident = False  # no attempt: it stands for a warm worker that does nothing, and for a host
    result: str | None = None  # of a python job, as JSON
    error = ""  # … its traceback, or why there is no result
    pid_start = 0  # clock ticks from boot: with the pid it names one process and no other

    def __init__(self, request: dict[str, object], note: bytes) -> None:
        run_id, number = request["run_id"], request["attempt"]
        timeout_s, kill_grace_s = request.get("timeout_s"), request.get("kill_grace_s", KILL_GRACE_S_DEFAULT)
        assert isinstance(run_id, str) and isinstance(number, int)
        assert timeout_s is None or isinstance(timeout_s, int | float)
        assert isinstance(kill_grace_s, int | float)
        self.run_id, self.number = run_id, number
        self.key = f'"run_id":{quoted(run_id)},"attempt":{number}'  # of every message about it
        self.note = note
        self.timeout_s = timeout_s
        self.kill_grace_s = kill_grace_s
        birth = request.get("birth")
        self.values_path = str(birth.get("values_path", "")) if isinstance(birth, dict) else ""  # made for it
        self.leave = request.get("leftovers") == "leave"
        self.pid = 0
        self.started_mono_s = self.sample_due_mono_s = 0.0

    def begin(self, pid: int, pid_start: int, now: float) -> None:
        self.pid, self.pid_start, self.started_mono_s = pid, pid_start, now
        self.sample_due_mono_s = now + self.sample_every_s

    def learn_memory(self, sample_bytes: int | None) -> None:
        if sample_bytes is not None:
            sample_bytes = max(sample_bytes - self.carried_bytes, 0)
            self.memory_bytes = sample_bytes
            if self.memory_peak_bytes is None or sample_bytes > self.memory_peak_bytes:
                self.memory_peak_bytes = sample_bytes

    def forget_values(self) -> None:
        """Its end is on record, so whoever wanted them has them."""
        if self.values_path:
            try:
                os.unlink(self.values_path)
            except OSError:
                pass  # never made, or removed by somebody

    def used(self, usage: resource.struct_rusage) -> None:
        """Count in what a reaped process of the tree has used."""
        self.cpu_s += usage.ru_utime + usage.ru_stime
        self.read_blocks += usage.ru_inblock
        self.written_blocks += usage.ru_oublock

    def frozen_until_now_s(self) -> float:
        """How long it was frozen altogether."""
        return self.frozen_s + (time.monotonic() - self.frozen_mono_s if self.frozen_mono_s is not None else 0.0)

    def told_started(self, note: str) -> str:
        """`note`: what is less than its job says."""
        more = f',"note":{quoted(note)}' if note else ""
        return f'{{"type":"started",{self.key},"pid":{self.pid},"pid_start":{self.pid_start}{more}}}'

    def told_held(self) -> str:
        process = f'"pid":{self.pid},"pid_start":{self.pid_start},"started_mono_s":{self.started_mono_s}'
        still = "true" if self.frozen_mono_s is not None and self.exit is None else "false"
        frozen = f'"frozen_s":{self.frozen_until_now_s():.6f},"frozen":{still}'
        return f'{{"type":"held",{self.key},{process},{frozen},"exit":{self.exit or "null"}}}'

    def told_exited(self) -> str:
        return f'{{"type":"exited",{self.key},"exit":{self.exit}}}'

    def end(self, code: int, output: OutputFile | None, oom: bool) -> None:
        """Its leader ended: put down how, and what is known of its use."""
        peak, result = self.memory_peak_bytes, self.result
        used = (f"{self.cpu_s:.6f}", str(self.read_blocks * BLOCK_BYTES), str(self.written_blocks * BLOCK_BYTES))
        cpu_s, read, written = used if self.host is None else ("null", "null", "null")
        output_bytes, dropped, note = (
            (output.written_bytes, output.dropped_bytes, output.note) if output else (0, 0, "")
        )
        self.exit = (
            f'{{"exit_code":{code if code >= 0 else "null"},"signal":{-code if code < 0 else "null"},'
            f'"cpu_s":{cpu_s},"memory_peak_bytes":{"null" if peak is None else peak},'
            f'"io_read_bytes":{read},"io_write_bytes":{written},'
            f'"duration_s":{time.monotonic() - self.started_mono_s:.6f},"frozen_s":{self.frozen_until_now_s():.6f},'
            f'"output_bytes":{output_bytes},"output_dropped_bytes":{dropped},'
            f'"output_note":{quoted(note)},"oom":{"true" if oom else "false"},'
            f'"result":{"null" if result is None else quoted(result)},"error":{quoted(self.error)},'
            f'"timed_out":{"true" if self.timed_out else "false"}}}'
        )
