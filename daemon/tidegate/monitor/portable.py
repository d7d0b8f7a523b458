"""The readings that psutil has where /proc lacks them (another system, a /proc that is hidden). Slower and coarser:
used only where the kernel files give nothing, and loaded only there (4 MiB). Reads only; None for what psutil does not
have either."""

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

from tidegate.model.sample import Disk, Memory


class Portable:
    """psutil, in our terms."""

    def cpu_times(self) -> tuple[float, float, int] | None:
        """Seconds busy, seconds idle, CPUs."""
        times = _told(lambda psutil: psutil.cpu_times())
        if times is None:
            return None
        idle = times.idle + getattr(times, "iowait", 0.0)
        guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        return sum(times) - idle - guests, idle, os.cpu_count() or 1

    def own_cpu_s(self, pid: int) -> float | None:
        """With reaped children."""
        times = _told(lambda psutil: psutil.Process(pid).cpu_times())
        if times is None:
            return None
        return float(sum(times[:4]))

    def load_average(self) -> float | None:
        try:
            return os.getloadavg()[0]
        except OSError:
            return None

    def memory(self) -> Memory | None:
        memory = _told(lambda psutil: psutil.virtual_memory())
        if memory is None:
            return None
        return Memory(int(memory.available), int(memory.total))

    def swap(self) -> tuple[int, int, int, int] | None:
        """Total, free, swapped in, swapped out; bytes."""
        swap = _told(lambda psutil: psutil.swap_memory())
        if swap is None:
            return None
        return int(swap.total), int(swap.free), int(swap.sin), int(swap.sout)

    def disks(self) -> tuple[Disk, ...] | None:
        """All in one, as partitions and disks cannot be told apart everywhere."""
        all_of_them = _told(lambda psutil: psutil.disk_io_counters())
        if all_of_them is None:
            return None
        busy_ms = getattr(all_of_them, "busy_time", 0)
        return (Disk("all", all_of_them.read_bytes, all_of_them.write_bytes, busy_ms / 1000),)


def _told(ask: Callable[[ModuleType], Any]) -> Any:
    """What psutil answers; None where it has no answer, or cannot even be loaded, for want of a descriptor."""
    try:
        import psutil
    except (ImportError, OSError):
        return None
    try:
        return ask(psutil)
    except (OSError, RuntimeError, psutil.Error):
        return None
