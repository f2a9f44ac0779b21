"""Ending tasks, and telling our own cancellation from a library's."""

import asyncio
from typing import Any

REPEAT_AFTER = 1  # seconds


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they have ended. A library may lose a cancellation: then it is repeated."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=REPEAT_AFTER)


def is_cancelled() -> bool:
    """Whether somebody has asked the current task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
