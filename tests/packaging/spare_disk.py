"""A machine's disk to install on: an overlay of this one's root, of any size, without systemd. Nothing of it stays."""

import functools
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
WAIT_S: Final = 60.0
PATH: Final = "/tmp/stand-ins:/usr/sbin:/usr/bin:/sbin:/bin"
# /tmp is apart: what is handed in takes no room. No trace of a tidegate of the host's.
SET_UP: Final = """
set -e
mkdir -p "$0/disk" "$0/root"
mount -t tmpfs -o "size=$1,mode=755" tmpfs "$0/disk"
mkdir "$0/disk/upper" "$0/disk/work"
mount -t overlay -o "lowerdir=/,upperdir=$0/disk/upper,workdir=$0/disk/work" overlay "$0/root"
cd "$0/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
rm -f var/lib/man-db/auto-update
mkdir tmp/stand-ins
echo ready
exec sleep infinity
"""
# What is asked of systemd, in a file; what is active, in another.
SYSTEMCTL: Final = """\
#!/bin/sh
echo "$*" >>/tmp/asked
case "$*" in
    *is-active*) grep -qxF "${*##* }" /tmp/active ;;
    restart*) [ ! -e /tmp/fails ] ;;
esac
"""


class Disk:
    def __init__(self, folder: Path, size: str = "300m") -> None:
        self._outside = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-c", SET_UP]
            + [str(folder), size],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._outside.stdout is not None
        assert self._outside.stdout.readline() == "ready\n", "no overlay could be mounted"
        pid = self._outside.pid
        self._pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
        self.root = folder / "root"

    def command(self, command: str) -> list[str]:
        inside = ["nsenter", f"--target={self._pid}", "--mount", "--pid", "chroot", str(self.root)]
        return [*inside, "/usr/bin/env", "-i", f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8", "sh", "-c", command]

    def run(self, command: str, *, code: int | None = 0, given: bytes = b"") -> str:
        """A shell command as root there; what it prints on either stream. code=None: however it ends."""
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(self.command(command), input=given, timeout=WAIT_S, check=False, **both)
        text = done.stdout.decode(errors="replace")
        assert code is None or done.returncode == code, f"{command}: {done.returncode}\n{text}"
        return text

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        self.run(f"mkdir -p {Path(path).parent} && cat >{path} && chmod {mode:o} {path}", given=text.encode())

    def install(self, package: Path, *, code: int | None = 0, options: str = "") -> str:
        self.run("cat >/tmp/package.deb", given=package.read_bytes())
        return self.run(f"dpkg --force-unsafe-io {options} -i /tmp/package.deb", code=code)

    def stand_in_for_systemd(self, *active: str) -> None:
        """As if systemd ran with these units; what is asked of it is kept in /tmp/asked."""
        self.run("mkdir -p /run/systemd/system")
        self.write("/tmp/stand-ins/systemctl", SYSTEMCTL, 0o755)
        self.write("/tmp/active", "".join(f"{unit}.service\n" for unit in active))
        self.run(": >/tmp/asked")

    def asked(self) -> list[str]:
        """What changed something, in order."""
        changing = ("start", "stop", "restart", "enable")
        return [line for line in self.run("cat /tmp/asked").splitlines() if line.startswith(changing)]

    def files(self) -> set[str]:
        """All names on the disk, but for what the package system notes of its own work."""
        names = self.run("find / -xdev -not -path '/var/lib/dpkg/*' -not -path '/var/log/*' -not -path '/var/cache/*'")
        return set(names.splitlines())

    def grow(self, size: str) -> None:
        """There is more room."""
        disk = ["nsenter", f"--target={self._pid}", "--mount", "mount", "-o", f"remount,size={size}"]
        subprocess.run([*disk, self.root.with_name("disk")], check=True)

    def remove(self) -> None:
        self._outside.kill()
        self._outside.wait()


def until(true: Callable[[], Any], what: str) -> Any:
    """What the function returns once it is true."""
    end_s = time.monotonic() + WAIT_S
    pause = threading.Event()
    while not (value := true()):
        assert time.monotonic() < end_s, f"not within {WAIT_S} s: {what}"
        pause.wait(0.05)
    return value


@functools.cache
def build() -> Path:
    """The package of this working copy."""
    quiet = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(
        ["make", "-C", ROOT, "deb"], env=quiet, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (package,) = (ROOT / "build").glob("tidegate_*-1_*.deb")
    return package


def repacked(package: Path, folder: Path, version: str) -> Path:
    """The same under another version, as a later or an earlier package would be."""
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    control = tree / "DEBIAN/control"
    lines = [
        f"Version: {version}" if line.startswith("Version:") else line for line in control.read_text().splitlines()
    ]
    control.write_text("\n".join(lines) + "\n")
    made = folder / f"tidegate_{version}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, made], check=True, stdout=subprocess.DEVNULL
    )
    return made
