"""Looking after the queues themselves: one that is gone is declared again, one that takes no message is replaced.

Nothing is lost with a queue: what was in it is in the database too, and is published again.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from broadway.ports import PublishError
from broadway.topology import Queue

log = structlog.get_logger(__name__)

INTERVAL = 10.0  # seconds between two rounds
STRIKES = 2  # canaries in a row that a queue has not taken


class Broker(Protocol):
    """A broker whose queues can be tried and replaced."""

    async def declare(self, *queues: Queue) -> None: ...
    async def accepts(self, queue: Queue) -> bool: ...
    async def replace(self, queue: Queue) -> None: ...


@dataclass(slots=True)
class Canaries:
    """Tries every queue again and again.

    Args:
        broker: Where the queues are.
        queues: Those that there should be at the moment.
    """

    broker: Broker
    queues: Callable[[], Sequence[Queue]]
    _strikes: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Try until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            for queue in self.queues():
                try:
                    await self._look_after(queue)
                except PublishError as error:
                    log.warning("queue not looked after", queue=queue.name, reason=str(error))

    async def _look_after(self, queue: Queue) -> None:
        await self.broker.declare(queue)
        if await self.broker.accepts(queue):
            del self._strikes[queue.name]
            return
        self._strikes[queue.name] += 1
        if self._strikes[queue.name] >= STRIKES:
            log.error("repair: a queue takes no message and is replaced", queue=queue.name)
            await self.broker.replace(queue)
            del self._strikes[queue.name]
