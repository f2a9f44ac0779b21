"""Wake the notifier when the broker reports facts about courses that have endpoints."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import structlog

from broadway.messages.events import Event
from broadway.messages.topology import Queue, notifier_queue
from broadway.notifier.ports import Events
from broadway.ports import Handler, PublishError, StoreError

log = structlog.get_logger(__name__)

CHECK = 5.0  # seconds between two looks at the courses that have endpoints
PREFETCH = 100


class Consumer(Protocol):
    """The operation on the broker that waking needs."""

    def consume(self, queue: Queue, handler: Handler, *, tag: str, prefetch: int) -> AbstractAsyncContextManager[Any]:
        """Call ``handler`` for every event of a queue while the context is open."""


async def listen(broker: Consumer, events: Events, wake: asyncio.Event, *, tag: str) -> None:
    """Set ``wake`` at every fact about a course with endpoints, until cancelled. Missed facts cost only time."""

    async def hear(_: Event) -> None:
        wake.set()

    while True:
        try:
            courses = await events.courses()
            if not courses:
                await asyncio.sleep(CHECK)
                continue
            async with broker.consume(notifier_queue(tag, courses), hear, tag=tag, prefetch=PREFETCH):
                await _until_changed(events, courses)
        except (StoreError, PublishError) as error:
            log.warning("callbacks are not woken yet", reason=str(error))
            await asyncio.sleep(CHECK)


async def _until_changed(events: Events, courses: frozenset[str]) -> None:
    """Return once other courses have endpoints than ``courses``; other processes change that."""
    while True:
        await asyncio.sleep(CHECK)
        if await events.courses() != courses:
            return
