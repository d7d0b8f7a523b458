"""A supervisor that freezes whatever its keeper holds, says so, and stays until it is killed.

`freeze_driver.py RUNTIME STATE`: prints the run ids once they are sent on their way.
"""

import asyncio
import sys
from pathlib import Path

from tidegate.executors.link import KeeperLink


async def main() -> None:
    link = await KeeperLink.open(Path(sys.argv[1]), Path(sys.argv[2]), lambda event: None)
    for held in link.held:
        link.freeze(held.run_id, held.attempt)
    link.flush()
    print(*(held.run_id for held in link.held), flush=True)
    await asyncio.sleep(3600)


asyncio.run(main())
