"""Consume a queue, with a handler for each message."""

import asyncio
import contextlib
import hashlib
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
from aio_pika.abc import (
    AbstractIncomingMessage,
    AbstractRobustChannel,
)

from broadway.messages.envelope import Decoder, OversizedError, UndecodableError, decode_dead_letter
from broadway.messages.events import Event
from broadway.messages.topology import Queue, grader_of, is_service
from broadway.ports import GiveBack, Handler, PublishError, QueueDepths, Reject, Retry
from broadway.rabbit.calls import BROKEN, CALL_TIMEOUT, call, close
from broadway.rabbit.consumer import Consumer
from broadway.rabbit.declaring import PING, declare
from broadway.rabbit.settling import DeadLetterBox, Settlement, settle
from broadway.runtime import metrics
from broadway.runtime.cancellation import end, heeded
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.metrics import Handled

log = structlog.get_logger(__name__)

MAX_PREFETCH = 65_535  # the broker takes 16 bits
WATCH_STRIKES = 2
UNREADABLE = "unreadable"  # the metrics' event type of undecodable messages
FAILURES = 5  # failures of a handler for one message in this process, after which the message is dead
REMEMBERED = 1000  # the number of failures that are remembered

Vouched = Callable[[Event], Awaitable[bool]]


async def unknown(_: Event) -> bool:
    """Vouch for no event: a consumer without a check of its own gets no events of graders."""
    return False


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
    """The running handlers of a queue's messages, by message id, and the newest delivery of each message."""

    def __init__(
        self,
        broker: SubscribedBroker,
        queue: Queue,
        handler: Handler,
        decoder: Decoder,
        *,
        tag: str,
        prefetch: int,
        is_guest: bool,
        vouched: Vouched,
        timings: Timings,
    ) -> None:
        self._broker = broker
        self._decoder = decoder
        self._tag = tag
        self._prefetch = min(prefetch, MAX_PREFETCH)
        self._is_guest = is_guest
        self._vouched = vouched
        self._timings = timings
        self._channels = 0
        self._changing = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._queue = queue
        self._handler = handler
        self._consumers: list[Consumer] = []
        self._deliveries: dict[str, AbstractIncomingMessage] = {}
        self._failed: deque[str] = deque(maxlen=REMEMBERED)
        self._tasks: dict[asyncio.Task[None], None] = {}  # in order of arrival, which is also the order of requeueing

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
                consumer = Consumer(channel, queue, tag, number)
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
        holding = {message.consumer_tag for message in self._deliveries.values()}
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
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)

    async def close(self) -> None:
        """Stop consuming, cancel running handlers, requeue their messages, and close the channels."""
        await self.stop_taking()
        await end(*self._tasks)
        await self._close_channels()

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        """Start a handler in a task and return, since aio-pika cancels this coroutine when the channel breaks."""
        if message.type == PING:
            await settle(message, Settlement.DONE)
            return
        key = message.message_id or f"{id(self)}:{message.delivery_tag}"
        previous = self._deliveries.get(key)
        self._deliveries[key] = message
        if previous is None:
            task = asyncio.create_task(self._run(key), name=f"{self._queue.name}:{key}")
            self._tasks[task] = None
            task.add_done_callback(self._tasks.pop)
        else:
            log.info("delivered again while running", queue=self._queue.name, message_id=key)
            await settle(previous, Settlement.DONE)

    async def _run(self, key: str) -> None:
        first, kind = self._deliveries[key], UNREADABLE
        try:
            await reach(Point.DELIVERY_ARRIVED)
            event = await self._read(first)
            kind = event.type
            structlog.contextvars.bind_contextvars(**event.context)
            await self._handle(event, key)
            await reach(Point.DELIVERY_HANDLED)
        except _ForgedError as problem:
            _count(problem.kind, Handled.FORGED)
            log.error("forged", queue=self._queue.name, message_id=key, reason=str(problem))  # noqa: TRY400 - not a bug of ours
            await settle(self._deliveries.pop(key), Settlement.DONE)
        except (Reject, UndecodableError) as problem:
            _count(kind, Handled.DEAD)
            structlog.contextvars.bind_contextvars(**decode_dead_letter(first.headers, first.body).context)
            await self._park(key, reason=str(problem), is_oversized=isinstance(problem, OversizedError))
        except GiveBack as verdict:
            _count(kind, Handled.RETURNED)
            log.info("given back", queue=self._queue.name, message_id=key, reason=str(verdict))
            await settle(self._deliveries.pop(key), Settlement.GIVEN_BACK)
        except asyncio.CancelledError:
            _count(kind, Handled.RETURNED)
            await settle(self._deliveries.pop(key), Settlement.GIVEN_BACK)
            raise
        except Exception as error:
            log.exception("handler failed", queue=self._queue.name, message_id=key)
            if self._is_hopeless(first):
                _count(kind, Handled.DEAD)
                await self._park(key, reason=f"its handler failed {FAILURES} times, at last with {error!r}")
            else:
                _count(kind, Handled.RETURNED)
                await self._give_back(key, delay=self._timings.back_off_after_a_bug)
        else:
            _count(kind, Handled.ACKNOWLEDGED)
            await settle(self._deliveries.pop(key), Settlement.DONE)
            await reach(Point.DELIVERY_ACKNOWLEDGED)

    async def _read(self, message: AbstractIncomingMessage) -> Event:
        """Decode a message, and check its sender if graders may publish to the queue.

        A forged message must not reach the dead letters, since a dead letter may end a job.

        Raises:
            UndecodableError: The message of a trusted sender cannot be decoded.
            _ForgedError: A grader, or a sender without a verified user id, sent a message that it may not send.
        """
        if is_service(message.user_id) or not self._queue.hears_graders:
            return self._decoder(message.headers, message.body, message.user_id or "")
        try:
            event = self._decoder(message.headers, message.body, message.user_id or "")
        except OversizedError:
            raise  # its copy in the dead letters has no type and no subject, and so ends no job
        except UndecodableError as error:
            raise _ForgedError(f"{message.user_id} sent an unreadable message: {error}", UNREADABLE) from error
        if _is_forged(event, message.user_id) or not await self._vouched(event):
            raise _ForgedError(f"{message.user_id} may not send {event.type} about {event.subject}", event.type)
        return event

    async def _handle(self, event: Event, key: str) -> None:
        """Call the handler until it asks for no further try.

        The delivery is kept meanwhile. Requeueing it would count against the queue's delivery limit, and some minutes
        without the store would turn good messages into dead letters.
        """
        while True:
            try:
                return await self._handler(event)
            except Retry as retry:
                _count(event.type, Handled.RETRIED)
                log.info("trying again", queue=self._queue.name, message_id=key, reason=str(retry), delay=retry.delay)
                await asyncio.sleep(retry.delay)

    def _is_hopeless(self, message: AbstractIncomingMessage) -> bool:
        """Count a failure of the handler for a message; return whether the message has failed too often."""
        name = message.message_id or hashlib.sha256(message.body).hexdigest()
        self._failed.append(name)
        return self._queue.has_dead_letters and self._failed.count(name) >= FAILURES

    async def _give_back(self, key: str, *, delay: float) -> None:
        try:
            await asyncio.sleep(delay)
        finally:
            await settle(self._deliveries.pop(key), Settlement.GIVEN_BACK)

    async def _park(self, key: str, *, reason: str, is_oversized: bool = False) -> None:
        log.error("dead letter", queue=self._queue.name, message_id=key, reason=reason)
        message = self._deliveries[key]
        if self._is_guest or self._queue.exclusive:
            await settle(self._deliveries.pop(key), Settlement.DISCARDED)
            return
        try:
            await self._broker.park(message, queue=self._queue, reason=reason, is_oversized=is_oversized)
        except PublishError as error:
            log.warning("dead letter not parked", queue=self._queue.name, error=str(error))
            await self._give_back(key, delay=self._timings.back_off_after_a_bug)
        else:
            await settle(self._deliveries.pop(key), Settlement.DONE)


class _ForgedError(Exception):
    """A message whose sender may not send it. ``kind`` is the type of its event."""

    def __init__(self, reason: str, kind: str) -> None:
        super().__init__(reason)
        self.kind = kind


def _count(kind: str, result: Handled) -> None:
    metrics.MESSAGES.labels(kind, result).inc()


def _is_forged(event: Event, user: str | None) -> bool:
    """Return whether a sender may not send an event: graders may send only their own events, services any event."""
    grader = grader_of(user) if user else ""
    return grader is not None and getattr(event, "grader_id", None) != grader
