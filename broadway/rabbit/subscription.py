"""Consume a queue, with a handler for each message."""

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
from aio_pika.abc import (
    AbstractIncomingMessage,
    AbstractRobustChannel,
)

from broadway.messages.topology import Queue
from broadway.ports import PublishError, QueueDepths
from broadway.rabbit.calls import BROKEN, CALL_TIMEOUT, call, close
from broadway.rabbit.consumer import Consumer
from broadway.rabbit.declaring import PING, declare
from broadway.rabbit.deliveries import Deliveries, Handling
from broadway.rabbit.settling import DeadLetterBox, Settlement, settle
from broadway.runtime import metrics
from broadway.runtime.cancellation import end, heeded

log = structlog.get_logger(__name__)

MAX_PREFETCH = 65_535  # the broker takes 16 bits
WATCH_STRIKES = 2


@dataclass(frozen=True, slots=True)
class Timings:
    """The pauses and limits of a subscription, in seconds.

    Args:
        consume_within: The limit for starting to consume; for a broken queue the broker does not answer for a minute.
        again_after: The pause before a queue that could not be consumed is tried again.
        watch_interval: The pause between two checks for consumers that receive no messages.
        back_off_after_a_bug: The pause before a message is requeued whose handler failed unexpectedly.
    """

    consume_within: float = 5
    again_after: float = 2
    watch_interval: float = 30
    back_off_after_a_bug: float = 5


TIMINGS = Timings()


class SubscribedBroker(DeadLetterBox, QueueDepths, Protocol):
    """The operations on the broker that a subscription needs."""

    async def consuming_channel(self) -> AbstractRobustChannel:
        """Open a channel for consuming."""


class Subscription:
    """The consumers of a queue, and the check that they receive its messages."""

    def __init__(
        self,
        broker: SubscribedBroker,
        queue: Queue,
        handling: Handling,
        *,
        tag: str,
        prefetch: int,
        priority: int,
        timings: Timings,
    ) -> None:
        self._broker = broker
        self._tag = tag
        self._prefetch = min(prefetch, MAX_PREFETCH)
        self._priority = priority
        self._is_guest = handling.is_guest
        self._timings = timings
        self._channels = 0
        self._changing = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._queue = queue
        self._consumers: list[Consumer] = []
        self._deliveries = Deliveries(broker, queue, handling)

    async def start(self, channels: int) -> None:
        """Start to consume on a number of channels; retry until it succeeds if the queue is durable.

        Raises:
            PublishError: An exclusive queue cannot be consumed.
        """
        try:
            await self.take(channels)
        except PublishError as error:
            if self._queue.exclusive:
                raise
            log.warning("not consumed yet", queue=self._queue.name, reason=str(error))
        if not self._queue.exclusive:
            self._watching = asyncio.create_task(self._watch())

    @property
    def channels(self) -> int:
        """The number of channels that consume."""
        return sum(consumer.is_taking for consumer in self._consumers)

    @property
    def opened(self) -> int:
        """The number of messages whose events were handled or are being handled."""
        return self._deliveries.opened

    @property
    def unopened(self) -> int:
        """The number of messages that wait in memory because enough events are being handled."""
        return self._deliveries.unopened

    async def take(self, channels: int) -> None:
        """Change the number of consuming channels; 0 stops consuming. Running handlers continue.

        Raises:
            PublishError: The broker is unavailable; the next call retries the rest of the change.
        """
        self._channels = channels
        async with call(
            f"{self._queue.name} not consumed on {channels} channels", seconds=self._timings.consume_within
        ):
            await self._take()

    async def _take(self) -> None:
        async with self._changing:
            await asyncio.gather(*(consumer.stop() for consumer in self._consumers[self._channels :]))
            for consumer in self._consumers[: self._channels]:
                await consumer.start(self._on_message)
            while len(self._consumers) < self._channels:
                await self._add()

    async def _add(self) -> None:
        taken = {consumer.number for consumer in self._consumers}
        number = next(free for free in itertools.count() if free not in taken)
        tag = f"{self._tag}.{number}" if number or self._channels > 1 else self._tag
        channel = await self._broker.consuming_channel()
        try:
            with heeded():
                await channel.set_qos(prefetch_count=self._prefetch, timeout=CALL_TIMEOUT)
                queue = await declare(channel, self._queue, robust=True, is_guest=self._is_guest)
                consumer = Consumer(channel, queue, tag, number, self._priority)
                await consumer.start(self._on_message)
        except BaseException:
            await close(channel)
            raise
        self._consumers.append(consumer)

    async def _watch(self) -> None:
        """Retry consuming until it succeeds, and replace consumers that receive nothing although messages wait.

        The broker may lose a consumer without notice.
        """
        while True:
            if self.channels < self._channels:
                await asyncio.sleep(self._timings.again_after)
                await self._try_again()
                continue
            await asyncio.sleep(self._timings.watch_interval)
            try:
                await self._replace_lost(self._idle())
            except (PublishError, *BROKEN) as error:
                log.warning("consumers not checked", queue=self._queue.name, reason=str(error))

    def _idle(self) -> list[Consumer]:
        """Return active consumers that hold no message and received none since the last check.

        The strikes of all other consumers are reset.
        """
        holding = self._deliveries.consumer_tags
        idle = []
        for consumer in self._consumers:
            if consumer.is_taking and consumer.arrivals == 0 and consumer.tag not in holding:
                idle.append(consumer)
            else:
                consumer.strikes = 0
            consumer.arrivals = 0
        return idle

    async def _replace_lost(self, idle: Sequence[Consumer]) -> None:
        if not idle:
            return
        is_waiting = bool(await self._broker.depth(self._queue))
        for consumer in idle:
            consumer.strikes = consumer.strikes + 1 if is_waiting else 0
        lost = [consumer for consumer in idle if consumer.strikes >= WATCH_STRIKES and not consumer.arrivals]
        if lost:
            log.error("repair: messages wait and none arrives", queue=self._queue.name, consumers=len(lost))
            metrics.REPAIRS.labels(metrics.Repair.CONSUMER).inc()
            await self._consume_anew(lost)

    async def _try_again(self) -> None:
        try:
            await self.take(self._channels)
        except PublishError as error:
            log.warning("not consumed yet", queue=self._queue.name, reason=str(error))

    async def _consume_anew(self, lost: Sequence[Consumer]) -> None:
        async with self._changing:
            for consumer in lost:
                if consumer in self._consumers:
                    self._consumers.remove(consumer)
                    await close(consumer.channel)
        await self._take()

    async def _close_channels(self) -> None:
        while self._consumers:
            await close(self._consumers.pop().channel)

    async def stop_taking(self) -> None:
        """Take no further messages. Running handlers continue."""
        if self._watching:
            await end(self._watching)
        with contextlib.suppress(PublishError):
            await self.take(0)

    async def finish(self, *, grace: float) -> None:
        """Wait for running handlers, at most ``grace`` seconds."""
        await self._deliveries.finish(grace=grace)

    async def close(self) -> None:
        """Stop consuming, cancel running handlers, requeue their messages, and close the channels."""
        await self.stop_taking()
        await self._deliveries.close()
        await self._close_channels()

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        if message.type == PING:
            await settle(message, Settlement.DONE)
        else:
            await self._deliveries.arrive(message)
