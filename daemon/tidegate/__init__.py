"""tidegate: a job-scheduler daemon. One pure engine decides, thin shells act."""

__version__ = "0.1.0"
