"""How the pool's contenders are called in results, goals and tables, and sizes that goals speak of. Values only."""

OURS = "AdaptivePool"
ORACLE = "oracle"
NAIVE = "80 % rule"
LOAD = "GNU parallel --load 100%"
IDLE = "idle"
DAEMON = "tidegate, nice = 10 (its default)"
CROWDED = "8 at once, nice = 0"
BURST_MOST = 32  # the largest size that the oracle of the burst may have, so the pool too
