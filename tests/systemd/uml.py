"""A whole kernel with control group controllers: User-Mode Linux, which boots systemd on an overlay of this machine's
root file system and runs one program in it. What happens there stays there.
"""

import ctypes
import errno
import json
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
MEMORY: Final = "1200M"
RUN_S_MAX: Final = 200.0
# The first program of that kernel, in the root that is made for it below.
INIT: Final = """\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
# The host's file system, seen through that kernel, knows neither files without names nor extended attributes.
for folder in /var/lib/tidegate /var/tmp /tmp; do mkdir -p $folder; mount -t tmpfs -o mode=1777 tmpfs $folder; done
chmod 700 /var/lib/tidegate
exec /lib/systemd/systemd
"""
INSIDE: Final = """\
[Service]
Type=oneshot
Environment=HOME=/root PATH=/usr/local/bin:/usr/sbin:/usr/bin
StandardOutput=append:/mnt/said
StandardError=append:/mnt/said
ExecStart=-/opt/tidegate/bin/python3 /mnt/inside.py
ExecStopPost=/bin/sh -c 'sync; systemctl poweroff -ff'
"""
MASKED: Final = (
    "proc-sys-fs-binfmt_misc.automount",
    "systemd-binfmt.service",
    "getty.target",
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-networkd.service",
    "networking.service",
    "systemd-timesyncd.service",
)


def _wide() -> bool:
    """Whether the processor's state is wider than User-Mode Linux's buffer for it: its first process dies then."""
    return " amx_tile " in Path("/proc/cpuinfo").read_text().replace("\n", " ")


def _narrow(root: Path) -> None:
    """The guest's libraries are told that there is no AVX: XGETBV becomes `xor eax, eax`, which says so."""
    folder = root / "usr/lib/x86_64-linux-gnu"
    for name in ("ld-linux-x86-64.so.2", "libcrypto.so.3", "libgcrypt.so.20", "libgcc_s.so.1"):
        path = (folder / name).resolve()
        if path.is_relative_to(root):
            path.write_bytes(path.read_bytes().replace(b"\x0f\x01\xd0", b"\x31\xc0\x90"))


def _without_xstate() -> None:
    """User-Mode Linux saves what PTRACE_GETREGSET gives it, in a buffer that is too small for processors with AMX.
    Where that call fails it saves SSE only, by an older one. So a filter of system calls lets it fail."""
    ptrace, getregset = 101, 0x4204
    load, skip_unless, answer = 0x20, 0x15, 0x06  # BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET
    fail, allow = 0x00050000 | errno.EINVAL, 0x7FFF0000
    steps = (
        (load, 0, 0, 0),  # the number of the call
        (skip_unless, 0, 3, ptrace),
        (load, 0, 0, 16),  # its first argument
        (skip_unless, 0, 1, getregset),
        (answer, 0, 0, fail),
        (answer, 0, 0, allow),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
        raise OSError(ctypes.get_errno(), "seccomp")


def _furnish(root: Path, package: Path) -> None:
    """What the guest is to boot with, over what this machine has."""
    subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
    units = root / "etc/systemd/system"
    for wants in (*units.glob("*.wants"), root / ".dockerenv", *root.glob("etc/rc[S0-6].d")):
        shutil.rmtree(wants) if wants.is_dir() else wants.unlink(missing_ok=True)
    for name in ("etc/machine-id", "etc/fstab", "mnt/said"):
        (root / name).unlink(missing_ok=True)
        (root / name).touch()
    with open(root / "etc/systemd/journald.conf", "a") as settings:
        settings.write("Storage=volatile\n")
    for unit in MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    (units / "default.target").unlink(missing_ok=True)
    (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    (units / "multi-user.target.wants").mkdir()
    (units / "multi-user.target.wants/inside.service").symlink_to("../inside.service")
    (units / "inside.service").write_text(INSIDE)
    shutil.copy(HERE / "inside.py", root / "mnt")
    (root / "init-of-test").write_text(INIT)
    (root / "init-of-test").chmod(0o755)


def results(folder: Path, package: Path) -> dict[str, Any]:
    """What inside.py found, by the name of each look. `folder` is made, and removed again."""
    folder.mkdir(parents=True)
    root = folder / "root"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder], check=True)
    try:
        for name in ("upper", "work", "root"):
            (folder / name).mkdir()
        layers = f"lowerdir=/,upperdir={folder}/upper,workdir={folder}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", root], check=True)
        _furnish(root, package)
        if _wide():
            _narrow(root)
        kernel = ["root=/dev/root", "rootfstype=hostfs", f"rootflags={root}", "rw", "init=/init-of-test"]
        with open(folder / "console", "wb") as console:
            subprocess.run(
                ["linux.uml", f"mem={MEMORY}", *kernel, "con0=null,fd:1", "con=null"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=os.environ
                | {"TMPDIR": "/dev/shm"},  # its memory is a file there; on a disk it would be written out
                timeout=RUN_S_MAX,
                preexec_fn=_without_xstate if _wide() else None,
                check=False,
            )
        said = (root / "mnt/said").read_text(errors="replace")
        found = root / "mnt/results.json"
        assert found.exists(), said + (folder / "console").read_text(errors="replace")[-3000:]
        return dict(json.loads(found.read_text())) | {"said": said}
    finally:
        subprocess.run(["umount", "-l", root], check=False)
        subprocess.run(["umount", "-l", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)
