"""[pool], from what is written to what is meant, every default filled in. Findings go to a Desk."""

from typing import Any, Final

from msgspec import UNSET
from msgspec.structs import fields, replace

from tidegate.model.pool import PoolSettings
from tidegate.settings.amounts import size_bytes, size_text
from tidegate.settings.desk import LEAST_S, Desk, duration
from tidegate.settings.raw import RawMainFile

UNITS: Final = ("s", "bytes")  # parts of a field's name that its key does not have
LOOK_S_LEAST: Final = 0.01  # to look more often costs more than it can bring
OFTEN: Final = frozenset({"interval", "runnable", "look_min", "look_max", "look_calm", "interval_calm"})
AT_ONCE: Final = frozenset(
    {"cooldown", "kill_pause", "kill_pause_per_gib", "memory_fill", "memory_retry"}
)  # 0 is meant
ORDERED: Final = (  # the first must not be more than the second
    ("grow_below", "shrink_above"),
    ("shrink_to", "shrink_above"),
    ("shrink_above", "shrink_clear"),
    ("knee", "knee_max"),
    ("memory_reserve", "memory_reserve_most_share"),
    ("memory_reserve_least_share", "memory_reserve_most_share"),
    ("memory_reserve_least", "memory_reserve_most"),
    ("memory_kill", "memory_freeze"),
    ("memory_freeze", "memory_soon"),
    ("memory_pressure_leave", "memory_pressure"),
    ("memory_retry", "memory_retry_max"),
    ("look_min", "look_max"),
    ("look_max", "look_calm"),
    ("interval", "interval_calm"),
    ("fresh", "rest"),
)


def key_of(field: str) -> str:
    """memory_default_bytes → memory_default, look_s_min → look_min."""
    return "_".join(part for part in field.split("_") if part not in UNITS)


FIELDS: Final = {key_of(field.name): field.name for field in fields(PoolSettings)}


def pool(raw: RawMainFile, desk: Desk) -> PoolSettings:
    """[pool]"""
    settings = PoolSettings()
    for key, field in FIELDS.items():
        written = getattr(raw.pool, key)
        if written is not UNSET:
            settings = replace(settings, **{field: _meant(key, written, getattr(settings, field), desk)})
    if settings.max is not None and settings.max < settings.min:
        desk.report(("pool", "max"), f"must be at least min, which is {settings.min}, got {settings.max}")
    if settings.mode == "fixed" and settings.max is None:
        desk.report(
            ("pool", "mode"), 'fixed needs max = a number: "auto" says only what the machine could bear at most'
        )
    for lower, upper in ORDERED:
        _order(raw, settings, lower, upper, desk)
    window_s, look_s = settings.memory_window_s, settings.look_s_max
    if window_s < 2 * look_s:  # of fewer looks in it none is ever seen to fall on
        if raw.pool.memory_window is not UNSET:
            desk.report(
                ("pool", "memory_window"), f"must be at least 2 look_max, which is {look_s:g} s, got {window_s:g} s"
            )
        else:
            desk.report(
                ("pool", "look_max"), f"must be at most half of memory_window, {window_s:g} s, got {look_s:g} s"
            )
    return settings


def _meant(key: str, written: Any, default: Any, desk: Desk) -> Any:
    if key == "max" and written == "auto":
        return None
    if not isinstance(written, str) or key == "mode":
        return float(written) if isinstance(default, float) else written
    if isinstance(default, int):
        return desk.take(("pool", key), size_bytes, written, default)
    least_s = LOOK_S_LEAST if key in OFTEN else 0.0 if key in AT_ONCE else LEAST_S
    return duration(("pool", key), written, least_s, default, desk)


def _order(raw: RawMainFile, settings: PoolSettings, lower: str, upper: str, desk: Desk) -> None:
    """Said of the one that is written, where it is not both."""
    less, more = getattr(settings, FIELDS[lower]), getattr(settings, FIELDS[upper])
    if less > more:
        small, large = _shown(lower, less), _shown(upper, more)
        if getattr(raw.pool, lower) is not UNSET:
            desk.report(("pool", lower), f"must not be more than {upper}, which is {large}, got {small}")
        else:
            desk.report(("pool", upper), f"must not be less than {lower}, which is {small}, got {large}")


def _shown(key: str, value: float) -> str:
    if FIELDS[key].endswith("_bytes"):
        return size_text(int(value))
    return f"{value:g} s" if FIELDS[key] != key else f"{value:g}"
