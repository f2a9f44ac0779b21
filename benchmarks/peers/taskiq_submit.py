"""Submits tasks: as many as a line of its input says, and before that prints when it begins."""

import asyncio
import sys
import time

from taskiq_tasks import broker, nothing

WINDOW = 50  # unconfirmed at a time


async def main() -> None:
    """Submit, in windows of confirms."""
    await broker.startup()
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(f"{time.time():f}", flush=True)
        left = int(line)
        while left > 0:
            await asyncio.gather(*(nothing.kiq() for _ in range(min(WINDOW, left))))
            left -= WINDOW
    await broker.shutdown()


asyncio.run(main())
