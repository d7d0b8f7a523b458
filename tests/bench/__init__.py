"""The benchmarks behind `make bench`: tidegate, its rivals and the physical floors, side by side in one run."""
