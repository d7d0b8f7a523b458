"""tidegate: a job-scheduler daemon. One pure engine decides, thin shells act."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """AdaptivePool, found when it is asked for: the daemon needs none of it. For type checkers see __init__.pyi."""
    if name != "AdaptivePool":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return import_module("tidegate.pool").AdaptivePool
