"""Frozen values that every room speaks. No behaviour beyond what a value knows of itself; no I/O."""
