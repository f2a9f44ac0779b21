"""Looking after the queues themselves: one that is gone is declared again, one that takes no message is replaced.

Nothing is lost with a queue: what was in it is in the database too, and is published again.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from broadway.dispatcher.ports import ProbedBroker
from broadway.messages.topology import Queue
from broadway.ports import PublishError
from broadway.runtime import metrics

log = structlog.get_logger(__name__)

INTERVAL = 10.0  # seconds between two rounds
AT_A_TIME = 8  # queues: of a broker that was killed, all may be broken
STRIKES = 2  # canaries in a row that a queue has not taken


@dataclass(slots=True)
class QueueProbes:
    """Tries every queue again and again.

    Args:
        broker: Where the queues are.
        queues: Those that there should be at the moment.
        depths: How many messages waited in each, by name, in the last round.
    """

    broker: ProbedBroker
    queues: Callable[[], Sequence[Queue]]
    depths: dict[str, int] = field(default_factory=dict)
    _strikes: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Try until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            turn = asyncio.Semaphore(AT_A_TIME)
            async with asyncio.TaskGroup() as group:
                for queue in self.queues():
                    group.create_task(self._try(queue, turn))

    async def _try(self, queue: Queue, turn: asyncio.Semaphore) -> None:
        try:
            async with turn:
                await self._look_after(queue)
        except PublishError as error:
            log.warning("queue not looked after", queue=queue.name, reason=str(error))

    async def _look_after(self, queue: Queue) -> None:
        waiting = self.depths[queue.name] = await self.broker.restore(queue)
        if waiting or await self.broker.accepts(queue):  # one that has messages takes some
            del self._strikes[queue.name]
            return
        self._strikes[queue.name] += 1
        if self._strikes[queue.name] >= STRIKES:
            metrics.REPAIRS.labels(metrics.Repair.QUEUE).inc()
            log.error("repair: a queue takes no message and is replaced", queue=queue.name)
            await self.broker.replace(queue)
            del self._strikes[queue.name]
