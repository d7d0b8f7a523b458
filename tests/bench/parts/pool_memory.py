"""Pool: memory. Sixty hogs in 4 GiB, ordinary jobs on small machines, a neighbour that takes memory."""

from tests.bench.pool.starving import measure

__all__ = ["measure"]
