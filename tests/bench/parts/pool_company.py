"""Pool: company. Neighbours, bursts, a steady load, requests beside it, and what the daemon costs itself."""

from tests.bench.pool.company import measure

__all__ = ["measure"]
