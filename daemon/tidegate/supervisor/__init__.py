"""The asyncio shell around the engine: the daemon. It acts; it decides nothing about runs."""
