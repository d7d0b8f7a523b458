"""What SIGTERM means here: leave the runs to the keeper, or drain. It looks at how the daemon was started, and ends
nothing itself."""

import asyncio
import os
from collections.abc import Mapping
from typing import Final

ASK_S_MAX: Final = 1.0  # systemd answers in milliseconds; a machine that shuts down is not to wait for us


def leaves(on_stop: str, environ: Mapping[str, str]) -> bool:
    """Whether a SIGTERM leaves what runs to the keeper. `auto`: under systemd, whose restarts and upgrades end
    services; in a terminal and as PID 1 nobody comes to take the runs up again, so they are drained."""
    if os.getpid() == 1:
        return False
    if on_stop == "auto":
        return environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())  # INVOCATION_ID is inherited by terminals too
    return on_stop == "leave"


async def machine_stops() -> bool:
    """Whether systemd is shutting the machine down: then there is nobody to leave anything to."""
    try:
        process = await asyncio.create_subprocess_exec(
            "systemctl",
            "is-system-running",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return False  # no systemd here
    try:
        async with asyncio.timeout(ASK_S_MAX):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return False
    return said.strip() == b"stopping"
