"""End tasks, and distinguish our own cancellation from a library's."""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

# A second cancellation is a last resort: it interrupts a library's cleanup after the first. pymongo, for one, then
# leaves a lock taken forever, and all later operations wait for it.
REPEAT_AFTER = 30  # seconds


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks that are not being cancelled yet, and wait until they end.

    A task that has not ended after ``REPEAT_AFTER`` seconds is cancelled again, since a library may have swallowed the
    first cancellation.
    """
    for task in tasks:
        if not task.cancelling():
            task.cancel()
    waiting = {task for task in tasks if not task.done()}
    while waiting:
        _, waiting = await asyncio.wait(waiting, timeout=REPEAT_AFTER)
        for task in waiting:
            task.cancel()


async def finish(awaitable: Awaitable[T]) -> T:
    """Await something to its end, then raise a cancellation that arrived meanwhile."""
    task = asyncio.ensure_future(awaitable)
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        if not task.cancelled():
            task.exception()  # retrieved, or asyncio logs that it never was
        raise cancelled
    return task.result()


def cancellations() -> int:
    """Return the number of pending requests to cancel the current task."""
    task = asyncio.current_task()
    return task.cancelling() if task else 0


@contextmanager
def heeded() -> Iterator[None]:
    """Raise, at the end of a block of a library's calls, a cancellation that the library has swallowed.

    ``asyncio.wait_for`` of Python 3.11 swallows a cancellation that arrives together with the awaited result.
    """
    before = cancellations()
    yield
    if cancellations() > before:
        raise asyncio.CancelledError
