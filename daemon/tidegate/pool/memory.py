"""How much our own process has grown. Reads one kernel file; keeps what it read first."""

from tidegate.pool.child import present_bytes


class Grown:
    """Called: bytes resident now above those when it was made. 0 where the kernel does not tell."""

    def __init__(self) -> None:
        self._before_bytes = present_bytes()

    def __call__(self) -> int:
        now_bytes = present_bytes()
        if now_bytes is None or self._before_bytes is None:
            return 0
        return max(0, now_bytes - self._before_bytes)
