"""AdaptivePool, an Executor whose width follows what the machine bears; see docs/reference/pool.md.

Names are found when they are asked for: a worker process imports this room for two small modules of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tidegate.pool.account import Concurrency, Summary
    from tidegate.pool.adaptive import AdaptivePool
    from tidegate.pool.core import PoolFull
    from tidegate.pool.shared import Change, ResourceUse
    from tidegate.pool.shepherd import RemoteError, WorkerLost
    from tidegate.pool.task import Call, KilledForMemory, Task, TaskResult, TaskStatus, TaskTimedOut
    from tidegate.pool.units import ResourceTimedOut

_HOMES: Final = {
    "AdaptivePool": "adaptive",
    "Call": "task",
    "Change": "shared",
    "Concurrency": "account",
    "KilledForMemory": "task",
    "PoolFull": "core",
    "RemoteError": "shepherd",
    "ResourceTimedOut": "units",
    "ResourceUse": "shared",
    "Summary": "account",
    "Task": "task",
    "TaskResult": "task",
    "TaskStatus": "task",
    "TaskTimedOut": "task",
    "WorkerLost": "shepherd",
}

__all__ = [
    "AdaptivePool", "Call", "Change", "Concurrency", "KilledForMemory", "PoolFull", "RemoteError", "ResourceTimedOut",
    "ResourceUse", "Summary", "Task", "TaskResult", "TaskStatus", "TaskTimedOut", "WorkerLost",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
