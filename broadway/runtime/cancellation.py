"""Ending tasks, and telling our own cancellation from a library's."""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

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


async def finish(awaitable: Awaitable[T]) -> T:
    """Await something to its end. A cancellation that arrives meanwhile goes on after that."""
    task = asyncio.ensure_future(awaitable)
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        if not task.cancelled():
            task.exception()  # looked at, so that nobody is told that it was not
        raise cancelled
    return task.result()


def cancellations() -> int:
    """How often somebody has asked the current task to end."""
    task = asyncio.current_task()
    return task.cancelling() if task else 0


@contextmanager
def heeded() -> Iterator[None]:
    """A block of a library's calls, at whose end a cancellation is raised that the library has swallowed.

    ``asyncio.wait_for`` of Python 3.11 does so when what it waits for arrives at the same moment.
    """
    before = cancellations()
    yield
    if cancellations() > before:
        raise asyncio.CancelledError
