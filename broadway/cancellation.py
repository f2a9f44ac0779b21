"""Ending tasks, and telling our own cancellation from a library's."""

import asyncio
from typing import Any

# A second cancellation is a last resort: it interrupts a library's answer to the first. pymongo's, for one, then
# leaves a lock behind that nobody holds and everybody waits for.
REPEAT_AFTER = 30  # seconds


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, unless somebody has, and wait for their end. A lost cancellation is repeated, much later."""
    for task in tasks:
        if not task.cancelling():
            task.cancel()
    waiting = {task for task in tasks if not task.done()}
    while waiting:
        _, waiting = await asyncio.wait(waiting, timeout=REPEAT_AFTER)
        for task in waiting:
            task.cancel()


def is_cancelled() -> bool:
    """Whether somebody has asked the current task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
