"""Puts everything that a package installs under one folder, as it will lie on a machine: `stage.py DESTDIR WHEELS`.

Called by deb.py and by the RPM's spec. Needs nothing but the standard library and pip; never the network: what is
installed lies in the wheel house. The same inputs make the same bytes.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
HOME: Final = Path("opt/tidegate")  # of the virtual environment, below DESTDIR
LAUNCHER: Final = """\
#!/opt/tidegate/bin/python3 -I
# Isolated: no PYTHONPATH of whoever calls reaches a daemon that may run as root.
import sys

from tidegate.cli.main import main

sys.exit(main())
"""
# What a wheel brings along and nobody needs where it is installed. direct_url.json and RECORD name the builder's
# folders and what was there before stripping.
NEEDLESS: Final = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
STRAY: Final = (".gitignore", ".lock")
NEEDLESS_FOLDERS: Final = ("tests", "test", "bin", "include", "__pycache__")
FOLDER_MODE: Final = 0o755
FILE_MODE: Final = 0o644
PROGRAM_MODE: Final = 0o755


def version() -> str:
    with open(ROOT / "pyproject.toml", "rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def source_date() -> int:
    """The second that all files are said to be from: $SOURCE_DATE_EPOCH, the last commit's, else pyproject.toml's."""
    if os.environ.get("SOURCE_DATE_EPOCH"):
        return int(os.environ["SOURCE_DATE_EPOCH"])
    asked = subprocess.run(
        ["git", "-C", ROOT, "log", "-1", "--format=%ct"], capture_output=True, text=True, check=False
    )
    return (
        int(asked.stdout) if asked.returncode == 0 and asked.stdout else int((ROOT / "pyproject.toml").stat().st_mtime)
    )


def write(path: Path, text: str, mode: int = FILE_MODE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def place(source: Path, target: Path, mode: int = FILE_MODE) -> None:
    write(target, source.read_text(encoding="utf-8"), mode)


def environment(destination: Path, wheels: Path, python: Path) -> Path:
    """A virtual environment, made by hand: venv and pip would write the builder's paths into shebangs and pyvenv.cfg.

    Returns its site-packages.
    """
    asked = subprocess.run(
        [python, "-c", "import platform; print(platform.python_version())"], capture_output=True, text=True, check=True
    )
    number = asked.stdout.strip()
    major, minor, _ = number.split(".", 2)
    home = destination / HOME
    packages = home / f"lib/python{major}.{minor}/site-packages"
    # The interpreter by its full name: after an upgrade to the next Python "not found" is an honest message, and
    # "no module named tidegate" is none.
    write(home / "pyvenv.cfg", f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {number}\n")
    (home / "bin").mkdir()
    (home / "bin/python3").symlink_to(f"/usr/bin/python{major}.{minor}")
    write(home / "bin/tidegate", LAUNCHER, PROGRAM_MODE)
    # All that the house holds, no more and no less: it was made for this.
    house: list[str | Path] = ["--no-index", "--no-deps", *sorted(wheels.glob("*.whl"))]
    quiet = ["-q", "--root-user-action=ignore", "--disable-pip-version-check", "--no-compile", "--no-warn-conflicts"]
    apart = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *quiet, "--target", packages, *house],
        check=True,
        env=apart | {"PIP_CONFIG_FILE": os.devnull},
    )
    return packages


def prune(packages: Path) -> None:
    """Remove what is of no use there, and make what is left plain files that only root writes."""
    for folder, names, files in os.walk(packages, topdown=False):
        for name in names:
            if name in NEEDLESS_FOLDERS:
                shutil.rmtree(Path(folder, name))
        for name in files:
            path = Path(folder, name)
            if name in STRAY or (name in NEEDLESS and folder.endswith(".dist-info")):
                path.unlink()
            elif name.endswith(".so"):
                subprocess.run(["strip", "--strip-unneeded", path], check=True)
                path.chmod(FILE_MODE)
            else:
                path.chmod(FILE_MODE)


def units(destination: Path) -> None:
    """The units that lie in systemd/, whatever they are; drop-ins are examples until an admin copies one."""
    source = ROOT / "systemd"
    library = destination / "usr/lib"
    for path in sorted(source.rglob("*")):
        below = path.relative_to(source)
        match path.suffix:
            case ".service" | ".socket" | ".target" | ".path" | ".timer" | ".slice":
                place(path, library / "systemd" / ("user" if below.parts[0] == "user" else "system") / path.name)
            case ".sysusers":
                place(path, library / "sysusers.d/tidegate.conf")
            case ".tmpfiles":
                place(path, library / "tmpfiles.d/tidegate.conf")
            case ".conf":
                place(path, destination / "usr/share/doc/tidegate/systemd" / below)
            case _:
                pass


def documents(destination: Path) -> None:
    """The pages, and the example jobs with their programs."""
    folder = destination / "usr/share/doc/tidegate"
    for path in sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]):
        place(path, folder / path.relative_to(ROOT))
    for path in sorted((ROOT / "config").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            program = path.parent.name == "bin"
            place(path, folder / "examples" / path.relative_to(ROOT / "config"), PROGRAM_MODE if program else FILE_MODE)
    for name in ("prometheus", "grafana"):
        for path in sorted((ROOT / "packaging" / name).rglob("*")):
            if path.suffix in {".yml", ".yaml", ".json", ".md", ".rules"}:
                place(path, folder / "examples" / path.relative_to(ROOT / "packaging"))


def everything(destination: Path) -> Iterator[Path]:
    """Deepest first."""
    for folder, names, files in os.walk(destination, topdown=False):
        yield from (Path(folder, name) for name in sorted([*names, *files]))
    yield destination


def settle(destination: Path) -> None:
    """One date for all, and bytecode that matches it and names no folder of the builder's."""
    date = source_date()
    for path in everything(destination):
        if path.is_dir() and not path.is_symlink():
            path.chmod(FOLDER_MODE)
        os.utime(path, (date, date), follow_symlinks=False)


def stage(destination: Path, wheels: Path, python: Path) -> None:
    """Raises CalledProcessError with the message of what failed on standard error."""
    packages = environment(destination, wheels, python)
    prune(packages)
    (destination / "usr/bin").mkdir(parents=True)
    (destination / "usr/bin/tidegate").symlink_to("/opt/tidegate/bin/tidegate")
    units(destination)
    documents(destination)
    pages: list[str | Path] = [
        python,
        "-B",
        "-I",
        ROOT / "packaging/pages.py",
        packages,
        destination,
        str(source_date()),
    ]
    subprocess.run(pages, check=True)
    settle(destination)
    # With the interpreter it is for. Timestamps, so that whoever patches a module sees the patch work.
    compiling: list[str | Path] = [
        "-m",
        "compileall",
        "-q",
        "--invalidation-mode",
        "timestamp",
        "-s",
        destination,
        "-p",
        "/",
        packages,
    ]
    subprocess.run([python, "-I", *compiling], check=True)
    settle(destination)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("destination", type=Path)
    parser.add_argument("wheels", type=Path)
    parser.add_argument("--python", type=Path, default=Path("/usr/bin/python3"), help="that of the machine it is for")
    asked = parser.parse_args()
    shutil.rmtree(asked.destination, ignore_errors=True)
    stage(asked.destination.absolute(), asked.wheels.absolute(), asked.python)


if __name__ == "__main__":
    main()
