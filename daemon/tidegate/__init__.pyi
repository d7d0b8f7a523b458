from tidegate.pool import AdaptivePool as AdaptivePool

__version__: str
