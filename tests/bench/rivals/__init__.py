"""Rivals: how each is configured for the same work as tidegate, and started."""
