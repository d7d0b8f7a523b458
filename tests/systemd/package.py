"""The Debian package that the guests install, built by `make deb` as anybody would build it. Once for all tests."""

import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
BUILD_S_MAX: Final = 300


@cache
def package(revision: int = 1) -> Path:
    """$TIDEGATE_DEB is one that is there already; later revisions are its own build."""
    given = os.environ.get("TIDEGATE_DEB" if revision == 1 else "TIDEGATE_DEB_NEXT")
    if given:
        return Path(given)
    environ = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    made = subprocess.run(
        ["make", "--no-print-directory", "deb", f"REVISION={revision}"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=BUILD_S_MAX,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return max((ROOT / "build").glob(f"tidegate_*-{revision}_*.deb"), key=lambda path: path.stat().st_mtime)
