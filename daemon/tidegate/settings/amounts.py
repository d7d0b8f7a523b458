"""Text that stands for an amount: durations, sizes, umasks. Pure; raises ValueError with a sentence."""

import re
from functools import lru_cache

from tidegate.model.limits import HORIZON_YEARS
from tidegate.settings.problem import quoted

DURATION_S_MAX = HORIZON_YEARS * 365.25 * 86400  # beyond the horizon nothing ever happens
SIZE_BYTES_MAX = 2**63 - 1  # off_t

NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"
DURATION_PATTERN = "^(?=.)" + "".join(f"(?:{NUMBER}{unit})?" for unit in ("w", "d", "h", "m", "s", "ms")) + "$"
SIZE_PATTERN = f"^{NUMBER}(?:B|[kKMGT]B|[KMGT]iB)$"
UMASK_PATTERN = "^0?[0-7]{1,3}$"

DURATION = re.compile("".join(f"(?:({NUMBER}){unit})?" for unit in ("w", "d", "h", "m", "s", "ms")))
SIZE = re.compile(f"({NUMBER})(B|[kKMGT]B|[KMGT]iB)")
UMASK = re.compile("0?[0-7]{1,3}")
SECONDS = (7 * 86400.0, 86400.0, 3600.0, 60.0, 1.0, 0.001)
BYTES = {"B": 1, "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4} | {
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}


@lru_cache(maxsize=1024)  # equal texts give one float: 10,000 jobs share a handful
def duration_s(text: str) -> float:
    """Seconds of "90s", "1h30m", "2d", "500ms", "1.5h". Units: w d h m s ms, each at most once, largest first.

    Raises ValueError with the sentence for a person.
    """
    found = DURATION.fullmatch(text)
    if not found or not text:
        raise ValueError(f'must be a duration such as "90s", "1h30m", "2d" or "500ms", got {quoted(text)}')
    total_s = sum(float(part) * unit_s for part, unit_s in zip(found.groups(), SECONDS, strict=True) if part)
    if total_s > DURATION_S_MAX:
        raise ValueError(f"must be at most {HORIZON_YEARS} years, got {quoted(text)}")
    return total_s


@lru_cache(maxsize=1024)
def size_bytes(text: str) -> int:
    """Bytes of "100B", "64KiB", "512MiB", "2GB": KiB, MiB, GiB, TiB count by 1024, kB, MB, GB, TB by 1000.

    Raises ValueError with the sentence for a person.
    """
    found = SIZE.fullmatch(text)
    if not found:
        raise ValueError(f'must be a size such as "100B", "64KiB", "512MiB" or "2GB", got {quoted(text)}')
    number, unit = found.groups()
    total_bytes = int(float(number) * BYTES[unit]) if "." in number else int(number) * BYTES[unit]
    if total_bytes > SIZE_BYTES_MAX:
        raise ValueError(f"must be less than 8 EiB, got {quoted(text)}")
    return total_bytes


def size_text(size_bytes: int) -> str:
    """The size as it would be written, exactly, in the largest unit: 512MiB, 2GB."""
    for unit in ("TiB", "TB", "GiB", "GB", "MiB", "MB", "KiB", "kB"):
        if size_bytes and size_bytes % BYTES[unit] == 0:
            return f"{size_bytes // BYTES[unit]}{unit}"
    return f"{size_bytes}B"


def umask(text: str) -> int:
    """The bits of "022" or "0077". Raises ValueError with the sentence for a person."""
    if not UMASK.fullmatch(text):
        raise ValueError(f'must be octal text from "000" to "777", got {quoted(text)}')
    return int(text, 8)
