"""A worker for tests/invoke/test_cells.py: it begins the jobs that it is given, prints what they tell, and waits."""

import asyncio
import sys

from runtime.invoke.isolation.cells import Cells


async def main():
    command, *jobs = sys.argv[1:]
    cells = Cells([sys.executable, command])
    await asyncio.gather(
        *(cells.run(job.encode(), lambda told: print(told.decode(), flush=True)) for job in jobs), asyncio.sleep(60)
    )


asyncio.run(main())
