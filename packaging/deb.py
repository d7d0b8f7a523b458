"""Builds the Debian package: `deb.py --wheels build/wheels --output build`. The tree is stage.py's; here are only the
control files around it. Needs dpkg-deb and binutils; no network, no root.
"""

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Final

from stage import PROGRAM_MODE, ROOT, everything, place, settle, source_date, stage, version, write

HERE: Final = Path(__file__).resolve().parent / "deb"
MAINTAINER: Final = "The tidegate authors <tidegate@users.noreply.github.com>"
SCRIPTS: Final = ("preinst", "postinst", "prerm", "postrm")
# Compiled parts are linked against these, as they are where the package is built; a later one will do, too.
LINKED: Final = ("libc6", "libsystemd0")


def asked(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def depends(python: Path) -> str:
    major, minor = map(int, asked(python, "-c", "import sys; print(*sys.version_info[:2])").split())
    linked = []
    for name in LINKED:
        found = asked("dpkg-query", "-W", "-f", "${Version}\n", name).splitlines()[0]
        linked.append(f"{name} (>= {re.sub(r'^[0-9]+:|[-~+].*$', '', found)})")
    return ", ".join(
        [
            f"python3 (>= {major}.{minor}~)",
            f"python3 (<< {major}.{minor + 1})",  # its own folder and bytecode are of that version
            *linked,
            "systemd | systemd-standalone-sysusers | systemd-sysusers",  # makes the user
            "tzdata",
        ]
    )


def control(tree: Path, full: str, python: Path) -> str:
    size = sum(path.stat().st_size for path in everything(tree) if path.is_file() and not path.is_symlink())
    description = (HERE / "description").read_text().rstrip("\n")
    return (
        f"Package: tidegate\nVersion: {full}\nArchitecture: {asked('dpkg', '--print-architecture')}\n"
        f"Maintainer: {MAINTAINER}\nInstalled-Size: {(size + 1023) // 1024}\nDepends: {depends(python)}\n"
        f"Suggests: bash-completion, prometheus\nSection: admin\nPriority: optional\nDescription: {description}\n"
    )


def changelog(full: str) -> bytes:
    when = format_datetime(datetime.fromtimestamp(source_date(), UTC))
    changes = "  * See changelog.gz beside this file."
    text = f"tidegate ({full}) unstable; urgency=medium\n\n{changes}\n\n -- {MAINTAINER}  {when}\n"
    return gzip.compress(text.encode(), 9, mtime=0)


def build(wheels: Path, output: Path, revision: str, python: Path, compression: str) -> Path:
    """The path of the package. Raises CalledProcessError."""
    full = f"{version()}-{revision}"
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix="deb-") as scratch:
        tree = Path(scratch, "tree")
        stage(tree, wheels, python)
        documents = tree / "usr/share/doc/tidegate"
        place(HERE / "copyright", documents / "copyright")
        (documents / "changelog.gz").write_bytes(gzip.compress((ROOT / "CHANGELOG.md").read_bytes(), 9, mtime=0))
        (documents / "changelog.Debian.gz").write_bytes(changelog(full))
        place(HERE / "lintian-overrides", tree / "usr/share/lintian/overrides/tidegate")
        settle(tree)
        text = control(tree, full, python)
        files = sorted(path.relative_to(tree) for path in everything(tree) if path.is_file() and not path.is_symlink())
        sums = "".join(f"{hashlib.md5((tree / one).read_bytes()).hexdigest()}  {one}\n" for one in files)
        for name in SCRIPTS:
            if (HERE / name).exists():
                place(HERE / name, tree / "DEBIAN" / name, PROGRAM_MODE)
        write(tree / "DEBIAN/control", text)
        write(tree / "DEBIAN/md5sums", sums)
        write(tree / "DEBIAN/conffiles", "".join(f"/{one}\n" for one in files if one.parts[0] == "etc"))
        settle(tree)
        made = Path(scratch, "package.deb")
        package = output / f"tidegate_{full}_{asked('dpkg', '--print-architecture')}.deb"
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(source_date())}
        command: list[str | Path] = ["dpkg-deb", "--root-owner-group", f"-Z{compression}", "-z2", "--build", tree, made]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        made.replace(package)  # whole or not at all
    return package


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, default=ROOT / "build/wheels")
    parser.add_argument("--output", type=Path, default=ROOT / "build")
    parser.add_argument("--revision", default="1", help="Debian's, behind the version")
    parser.add_argument("--python", type=Path, default=Path("/usr/bin/python3"))
    parser.add_argument("--compression", default="xz", choices=("xz", "zstd", "gzip", "none"))
    told = parser.parse_args()
    if not shutil.which("dpkg-deb"):
        parser.error("dpkg-deb is missing; Debian packages are built on Debian and its descendants")
    package = build(told.wheels.absolute(), told.output.absolute(), told.revision, told.python, told.compression)
    installed = asked("dpkg-deb", "--field", package, "Installed-Size")
    print(f"{package}: {package.stat().st_size / 1e6:.1f} MB, {int(installed) / 1000:.1f} MB installed")


if __name__ == "__main__":
    main()
