"""A machine to install on: systemd as PID 1 on an overlay of this one's root. What happens there stays there.

Waits are for facts, with a deadline.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
WAIT_S: Final = 30.0
COMMAND_S_MAX: Final = 60.0
POWEROFF: Final = signal.SIGRTMIN + 4  # orderly, as `systemctl poweroff`
POWEROFF_NOW: Final = signal.SIGRTMIN + 14
CGROUPS: Final = Path("/sys/fs/cgroup")
CONFIG: Final = "/etc/tidegate/tidegate.toml"
JOBS: Final = "/etc/tidegate/jobs.d/jobs.toml"


def until(true: Callable[[], Any], what: str, wait_s: float = WAIT_S) -> Any:
    """What the function returns once it is true. It is asked often; it is the fact that is waited for."""
    end_s = time.monotonic() + wait_s
    pause = threading.Event()
    while not (value := true()):
        if time.monotonic() > end_s:
            raise AssertionError(f"not within {wait_s} s: {what}")
        pause.wait(0.05)
    return value


class Machine:
    """One guest. `boot` may be called again after `halt`: the disk is the same, the boot another one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # The file system of the folder may be an overlay itself (a container's): a tmpfs never is.
        folder.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder], check=True)
        unified = CGROUPS / "unified"
        self._cgroup = (unified if unified.is_dir() else CGROUPS) / f"tidegate-test-{os.getpid()}"
        self._outside: subprocess.Popen[bytes] | None = None
        self._pid = 0

    # --- power -------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """On, and all units are up."""
        with open(self.folder / "console", "ab") as console:
            self._outside = subprocess.Popen(
                [HERE / "boot.sh", self.folder, self._cgroup], stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        self._pid = until(self._first_process, "systemd is PID 1", 10)
        until(lambda: self.run("test -S /run/systemd/private", check=False).returncode == 0, "systemd answers")
        self.run("systemctl is-system-running --wait", check=False)

    def _first_process(self) -> int:
        assert self._outside is not None
        if self._outside.poll() is not None:
            raise AssertionError((self.folder / "console").read_text(errors="replace"))
        pid = self._outside.pid
        while True:
            try:
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                name = Path(f"/proc/{pid}/comm").read_text().strip()
            except OSError:
                return 0
            if name == "systemd":
                return pid
            if len(children) != 1:
                return 0
            pid = int(children[0])

    def halt(self, how: int = POWEROFF_NOW, wait_s: float = WAIT_S) -> None:
        """Off. POWEROFF stops all units first."""
        assert self._outside is not None
        os.kill(self._pid, how)
        try:
            self._outside.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._outside.kill()  # --kill-child: the guest's PID 1 ends with it, and everything with that
            self._outside.wait()
            raise AssertionError(f"the guest did not end within {wait_s} s") from None
        finally:
            self._outside = None

    def remove(self) -> None:
        """Leave nothing on this machine."""
        try:
            if self._outside is not None:
                self.halt()
        finally:  # of one that would not end, too
            subprocess.run(["umount", "-l", self.folder], check=False)
            shutil.rmtree(self.folder, ignore_errors=True)
        for each, _, _ in os.walk(self._cgroup, topdown=False):
            try:
                Path(each).rmdir()
            except OSError:
                pass  # what was in it is still being taken down by the kernel

    # --- inside ------------------------------------------------------------------------------------------------

    def run(
        self, command: str, *, check: bool = True, wait_s: float = COMMAND_S_MAX
    ) -> subprocess.CompletedProcess[str]:
        """A shell command as the guest's root, outside of its control groups."""
        inside = ["nsenter", f"--target={self._pid}", "--all", "--root", "--wd", "sh", "-c", command]
        environ = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        done = subprocess.run(
            inside, env=environ, capture_output=True, text=True, timeout=wait_s, stdin=subprocess.DEVNULL, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def said(self, command: str, *, check: bool = True) -> str:
        return self.run(command, check=check).stdout.strip()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        quoted = shlex.quote(path)
        self.run(f"mkdir -p {shlex.quote(str(Path(path).parent))} && printf %s {shlex.quote(text)} >{quoted}")
        self.run(f"chmod {mode:o} {quoted}")

    def written(self, pattern: str, besides: tuple[str, ...]) -> list[str]:
        """Paths of such a name that are there because of what was done in here; the machine below may have more."""
        upper = self.folder / "upper"
        there = (path for path in upper.rglob(pattern) if not path.is_char_device())  # that marks what was taken away
        names = ("/" + str(path.relative_to(upper)) for path in there)
        return sorted(name for name in names if not any(fnmatch(name, each) for each in besides))

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.said(f"systemctl show --property={name} --value {unit}")

    def pid(self, unit: str = "tidegate") -> int:
        return int(self.shown(unit, "MainPID") or 0)

    def journal(self, *matches: str, fields: str = "") -> list[dict[str, Any]]:
        """Records, oldest first."""
        chosen = f"--output-fields={fields}" if fields else ""
        lines = self.said(f"journalctl --quiet --sync; journalctl -q -o json {chosen} {' '.join(matches)}").splitlines()
        return [json.loads(line) for line in lines]

    def words(self, unit: str, since: str = "") -> str:
        """What a unit and the service manager about it have said."""
        since = f"--since='{since}'" if since else ""
        return self.said(f"journalctl --sync; journalctl -q -o cat {since} -u {unit}")

    def now(self) -> str:
        """An instant for `words`."""
        return f"@{time.time():.6f}"

    # --- tidegate there ----------------------------------------------------------------------------------------

    def configure(self, jobs: str, settings: str = "") -> None:
        """What it is to run, on disk."""
        self.run("rm -rf /etc/tidegate/jobs.d")
        self.write(CONFIG, settings or '[http]\nlisten = ""\n')
        self.write(JOBS, jobs)

    def fresh(self, jobs: str, settings: str = "", unit: str = "tidegate") -> None:
        """Started with these jobs and nothing of before."""
        self.run(f"systemctl stop {unit} {unit}-keeper; systemctl reset-failed; rm -rf /var/lib/tidegate")
        self.configure(jobs, settings)
        done = self.run(f"systemctl start {unit}", check=False)
        assert done.returncode == 0, self.words(unit)[-2000:] + self.words(f"{unit}-keeper")[-2000:]

    def history(self, job: str) -> list[dict[str, Any]]:
        """Runs of a job, newest first."""
        told = json.loads(self.said(f"tidegate history --json --job {job}"))
        return list(told["items"] if isinstance(told, dict) else told)

    def ended(self, job: str, count: int = 1) -> dict[str, Any]:
        """Its newest run, once so many have ended."""

        def look() -> dict[str, Any] | None:
            runs = [run for run in self.history(job) if run["state"] == "finished"]
            return runs[0] if len(runs) >= count else None

        return dict(until(look, f"{count} ended runs of {job}"))

    def running(self, job: str) -> dict[str, Any]:
        """Its run, once it runs."""

        def look() -> dict[str, Any] | None:
            return next((run for run in self.history(job) if run["state"] == "running"), None)

        return dict(until(look, f"{job} runs"))
