"""Submit tasks: each line of the input has a number of tasks. Print the time before submitting them."""

import asyncio
import sys
import time

from taskiq_tasks import broker, nothing

WINDOW = 50  # unconfirmed tasks at a time


async def main() -> None:
    """Submit tasks, in windows of unconfirmed ones."""
    await broker.startup()
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(f"{time.time():f}", flush=True)
        remaining = int(line)
        while remaining > 0:
            await asyncio.gather(*(nothing.kiq() for _ in range(min(WINDOW, remaining))))
            remaining -= WINDOW
    await broker.shutdown()


asyncio.run(main())
