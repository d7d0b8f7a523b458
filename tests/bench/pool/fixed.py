"""`python -m tests.bench.pool.fixed SIZE FILE`: the command lines of a JSON file in a ThreadPoolExecutor of that size.
Imports little: it stands in a memory cgroup beside what it starts."""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def spawn(argv: list[str]) -> int:
    """The status with which it ended: what the kernel killed is counted by the kernel."""
    _, status = os.waitpid(os.posix_spawn(argv[0], argv, {}), 0)
    return status


def main() -> None:
    size, file = int(sys.argv[1]), Path(sys.argv[2])
    with ThreadPoolExecutor(size) as pool:
        print(sum(status != 0 for status in pool.map(spawn, json.loads(file.read_text()))))


if __name__ == "__main__":
    main()
