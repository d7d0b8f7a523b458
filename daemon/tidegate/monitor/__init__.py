"""Readings of the machine. `ResourceMonitor` is public, with the values it gives and takes."""

from tidegate.model.sample import InUse, Sample
from tidegate.monitor.machine import Machine
from tidegate.monitor.resource_monitor import RESOURCES, THRESHOLDS, Crossing, ResourceMonitor, Threshold

__all__ = ["RESOURCES", "THRESHOLDS", "Crossing", "InUse", "Machine", "ResourceMonitor", "Sample", "Threshold"]
