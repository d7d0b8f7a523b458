"""Whether the unit of the daemon lets it reach what the configuration names, for `tidegate doctor`. Reads only."""

import ipaddress
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tidegate.cli.finding import Finding, degraded, ok
from tidegate.model.plan import Plan

ANSWER_S_MAX: Final = 5.0
EVERYTHING: Final = {"0.0.0.0/0", "::/0"}  # how systemctl shows "any"
SHOW: Final = ("systemctl", "show", "--property=IPAddressDeny", "--property=IPAddressAllow")


def network(plan: Plan, pid: int, root: Path = Path("/"), ask: Callable[[str], str] | None = None) -> list[Finding]:
    """One finding where the daemon `pid` is a service and something is elsewhere, else none."""
    named = elsewhere(plan)
    try:
        lines = (root / "proc" / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return []
    unit = next((line.rpartition("/")[2] for line in lines if line.endswith(".service")), "")
    if not named or not unit:
        return []
    told = dict(line.split("=", 1) for line in (ask or _ask)(unit).splitlines() if "=" in line)
    if not told:
        return []
    denied, allowed = (set(told.get(f"IPAddress{word}", "").split()) for word in ("Deny", "Allow"))
    if not EVERYTHING & denied or allowed >= EVERYTHING:
        return [ok("network", f"{unit} may reach every address")]
    found = f"{unit} reaches {', '.join(sorted(allowed)) or 'nothing'} only; elsewhere are {', '.join(named)}"
    return [degraded("network", found, "name their addresses in IPAddressAllow= of the unit (docs/how-to/harden.md)")]


def elsewhere(plan: Plan) -> list[str]:
    """What of the configuration is, or may be, on other machines."""
    named = []
    for hook in plan.hooks.values():
        server = urlsplit(hook.webhook).hostname if hook.webhook else hook.mail and _host(hook.mail.smtp)
        if server and not here(server):
            named.append(f'hook "{hook.name}"')
    pings = [url for job in plan.jobs.values() for url in (job.ping.start, job.ping.success, job.ping.failure) if url]
    if any(not here(urlsplit(url).hostname or "") for url in pings):
        named.append("pings")
    if plan.http.host is not None and not here(plan.http.host):
        named.append("who asks [http]")
    return named


def here(host: str) -> bool:
    """Whether it means this machine."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host(written: str) -> str:
    """host:port, [v6]:port, or a host alone."""
    host, colon, port = written.rpartition(":")
    return (host if colon and port.isdecimal() else written).strip("[]")


def _ask(unit: str) -> str:
    try:
        done = subprocess.run([*SHOW, unit], capture_output=True, text=True, timeout=ANSWER_S_MAX, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
