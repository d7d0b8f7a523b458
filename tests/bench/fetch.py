"""What the benchmarks need besides tidegate: floors compiled, rivals fetched into build/bench/, each with a clear word.

Nothing of the machine changes: Debian packages are downloaded and unpacked, not installed; yacron and the task queues
get virtual environments of their own. What cannot be had is None, and the benchmark says so and goes on without it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from msgspec import Struct

BENCH = Path(__file__).resolve().parent
REPOSITORY = BENCH.parents[1]
BUILD = REPOSITORY / "build" / "bench"
YACRON = ("yacron==0.19",)
QUEUES = ("huey==3.5.4", "dramatiq==2.2.1", "redis==8.1.0")
STAMP_FLAGS = ["-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-builtin"]


class Tools(Struct, frozen=True):
    """Paths of everything that is run. None: not to be had here."""

    stamp: str
    c_floor: str
    python: str  # tidegate's own interpreter, which bare APScheduler scripts share
    python_floor: tuple[str, ...]
    tidegate: str | None
    yacron: str | None
    cron: str | None
    parallel: tuple[str, ...] | None
    supercronic: str | None
    queues: str | None  # an interpreter that has huey and dramatiq
    redis: tuple[str, ...] | None


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def missing(what: str, why: str) -> None:
    say(f"bench: without {what}: {why}")


def compiled(source: Path, *flags: str) -> str:
    """Compile a floor once, and again when its source is newer."""
    target = BUILD / "floors" / source.stem
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        target.parent.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            sys.exit("bench: no C compiler: the floors need one (Debian: apt-get install gcc libc6-dev)")
        say(f"bench: compiling {source.name}")
        subprocess.run([compiler, *(flags or ("-O2",)), "-o", str(target), str(source)], check=True)
    return str(target)


def debian(package: str, inside: str) -> str | None:
    """Download a Debian package and unpack it under build/bench/deb: a rival need not be installed to be measured.

    `inside` is the path of one of its files, and may have wildcards.
    """
    if found := unpacked(inside):
        return found
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        missing(package, "neither installed here nor is this a Debian system")
        return None
    store = BUILD / "deb"
    store.mkdir(parents=True, exist_ok=True)
    say(f"bench: downloading the Debian package {package}")
    for attempt in ("have lists", "fetched lists"):
        got = subprocess.run(["apt-get", "download", package], cwd=store, capture_output=True, text=True, check=False)
        if got.returncode == 0:
            break
        if attempt == "have lists" and os.geteuid() == 0:
            subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
    packages = sorted(store.glob(f"{package}_*.deb"))
    if not packages:
        missing(package, f"apt-get download failed: {got.stderr.strip().splitlines()[-1:]}")
        return None
    subprocess.run(["dpkg", "-x", str(packages[-1]), str(store)], check=True)
    return unpacked(inside)


def unpacked(inside: str) -> str | None:
    return next((str(path) for path in sorted((BUILD / "deb").glob(inside)) if path.exists()), None)


def environment(name: str, packages: tuple[str, ...]) -> Path | None:
    """The programs of a virtual environment under build/bench/ that has these packages, made where it is not there."""
    home = BUILD / name
    have = home / "packages"
    if have.exists() and have.read_text().split() == list(packages):
        return home / "bin"
    say(f"bench: installing {', '.join(packages)} into {home.relative_to(REPOSITORY)}")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages]
    got = subprocess.run(pip, capture_output=True, text=True, check=False)
    if got.returncode != 0:
        missing(name, f"pip install failed: {got.stderr.strip().splitlines()[-1:]}")
        return None
    have.write_text("\n".join(packages))
    return home / "bin"


def yacron() -> str | None:
    programs = environment("yacron", YACRON)
    return str(programs / "yacron") if programs else None


def queues() -> str | None:
    programs = environment("queues", QUEUES)
    return str(programs / "python") if programs else None


def redis() -> tuple[str, ...] | None:
    """redis-server, with whatever it is linked to beside it."""
    if program := shutil.which("redis-server"):
        return (program,)
    libraries = {"libjemalloc2": "usr/lib/*/libjemalloc.so.2", "liblzf1": "usr/lib/*/liblzf.so.1"}
    found = [debian(package, inside) for package, inside in libraries.items()]
    server = debian("redis-tools", "usr/bin/redis-check-rdb") and debian("redis-server", "usr/bin/redis-server")
    paths = [str(Path(path).parent) for path in found if path]
    if server is None or len(paths) < len(libraries):
        missing("redis", "dramatiq keeps its queue in the memory of its own process instead")
        return None
    return ("env", f"LD_LIBRARY_PATH={':'.join(dict.fromkeys(paths))}", server)


def cron() -> str | None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        missing("Debian cron", "it needs root and unshare for a spool of its own")
        return None
    return shutil.which("cron", path="/usr/sbin") or debian("cron", "usr/sbin/cron")


def parallel() -> tuple[str, ...] | None:
    perl = shutil.which("perl")
    program = shutil.which("parallel") or (debian("parallel", "usr/bin/parallel") if perl else None)
    if program is None or perl is None:
        missing("GNU parallel", "no perl" if perl is None else "not to be had")
        return None
    return (perl, program, "--will-cite")


def supercronic() -> str | None:
    program = shutil.which("supercronic")
    if program is None:
        missing("supercronic", "not in Debian and not on PATH; put it there to have it measured")
    return program


def tidegate() -> str | None:
    program = Path(sys.executable).with_name("tidegate")
    if not program.exists():
        missing("tidegate", f"{program.name} is not installed beside this interpreter")
        return None
    return str(program)


def tools() -> Tools:
    return Tools(
        stamp=compiled(BENCH / "floors" / "stamp.c", *STAMP_FLAGS),
        c_floor=compiled(BENCH / "floors" / "floor.c"),
        python=sys.executable,
        python_floor=(sys.executable, str(BENCH / "floors" / "floor.py")),
        tidegate=tidegate(),
        yacron=yacron(),
        cron=cron(),
        parallel=parallel(),
        supercronic=supercronic(),
        queues=queues(),
        redis=redis(),
    )
