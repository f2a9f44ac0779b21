"""Probe the queues themselves: declare a missing queue again, and replace a queue that takes no message.

Replacing a queue loses no job: the jobs of its messages are in the database, and the reconciler publishes them again.
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
from broadway.runtime.isolation import isolated

log = structlog.get_logger(__name__)

INTERVAL = 10.0  # seconds between two rounds
AT_A_TIME = 8  # queues probed at once: after a kill of the broker all of them may be broken
STRIKES = 2  # consecutive probe messages not taken, after which a queue is replaced


@dataclass(slots=True)
class QueueProbes:
    """Probes every queue at regular intervals.

    Args:
        broker: The broker of the queues.
        queues: Returns the queues that must exist now.
        depths: The number of messages that waited in each queue in the last round, by the queue's name.
    """

    broker: ProbedBroker
    queues: Callable[[], Sequence[Queue]]
    depths: dict[str, int] = field(default_factory=dict)
    _strikes: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            turn = asyncio.Semaphore(AT_A_TIME)
            async with asyncio.TaskGroup() as group:
                for queue in self.queues():
                    group.create_task(self._probe(queue, turn))

    async def _probe(self, queue: Queue, turn: asyncio.Semaphore) -> None:
        try:
            async with turn:
                with isolated("probes", queue=queue.name):
                    await self._check(queue)
        except PublishError as error:
            log.warning("queue not checked", queue=queue.name, reason=str(error))

    async def _check(self, queue: Queue) -> None:
        waiting = self.depths[queue.name] = await self.broker.restore(queue)
        if waiting or await self.broker.accepts(queue):  # a queue with messages has taken them
            del self._strikes[queue.name]
            return
        self._strikes[queue.name] += 1
        if self._strikes[queue.name] >= STRIKES:
            metrics.REPAIRS.labels(metrics.Repair.QUEUE).inc()
            log.error("repair: a queue takes no message and is replaced", queue=queue.name)
            await self.broker.replace(queue)
            del self._strikes[queue.name]
