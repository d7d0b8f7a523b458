"""Job files for the benchmarks, as TOML text: many that do not fire meanwhile, and few that do. Pure."""

import time
from collections.abc import Iterable

FAR_MINUTES = 90  # no idle job is due within this long from now
KINDS = ("{m} {h} * * *", "{m} {h} * * *", "{m} {h} * * *", "{m} {h} * * {dow}", "{m} {h} {dom} * *")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def idle_cron(number: int, now_s: float) -> str:
    """A five-field expression, daily, weekly or monthly by turns, that is not due within FAR_MINUTES (UTC)."""
    minute_now = int(now_s) // 60 % 1440
    spread = 1440 - 2 * FAR_MINUTES
    minute = (minute_now + FAR_MINUTES + number * 7 % spread) % 1440
    kind = KINDS[number % len(KINDS)]
    return kind.format(m=minute % 60, h=minute // 60, dow=DAYS[number % 7], dom=number % 28 + 1)


def idle_job(number: int, now_s: float) -> str:
    """About 290 bytes a job, as people's files have."""
    return (
        f"[jobs.job-{number:05d}]\n"
        f'description = "Nightly export of shard {number}"\n'
        f'command = ["/usr/bin/true", "--shard", "{number}", "--out", "/var/tmp/export/{number}.csv"]\n'
        f'cron = "{idle_cron(number, now_s)}"\n'
        f'timeout = "{number % 50 + 10}m"\n'
        f'env = {{ SHARD = "{number}", MODE = "full" }}\n'
        f'retries = {{ max = {number % 4}, delay = "30s" }}\n\n'
    )


def idle_jobs(count: int) -> str:
    now_s = time.time()
    return "".join(idle_job(number, now_s) for number in range(count))


def toml_instant(instant_s: float) -> str:
    whole = int(instant_s)
    fraction = f".{round((instant_s - whole) * 1e6):06d}" if instant_s != whole else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + fraction + "Z"


def job(name: str, argv: Iterable[str], **keys: str) -> str:
    """One job; the values of `keys` are TOML as it stands."""
    words = ", ".join(f'"{word}"' for word in argv)
    lines = [f"[jobs.{name}]", f"command = [{words}]", *(f"{key} = {value}" for key, value in keys.items())]
    return "\n".join(lines) + "\n\n"


def at_once(count: int, argv: list[str], instant_s: float, **keys: str) -> str:
    """Jobs that are all due at one instant; {} in a word becomes the job's number."""
    at = toml_instant(instant_s)
    return "".join(
        job(f"now-{number:04d}", [word.replace("{}", str(number)) for word in argv], at=at, **keys)
        for number in range(count)
    )
