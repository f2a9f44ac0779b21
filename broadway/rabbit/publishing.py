"""Publish with confirms, on one connection."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import aio_pika
import aiormq
import aiormq.abc
import stamina
from aio_pika.abc import AbstractIncomingMessage, AbstractRobustChannel, AbstractRobustConnection

from broadway.messages.envelope import DEAD_IN, DIED_OF, Wire, encode
from broadway.messages.events import Event
from broadway.messages.topology import DEAD_LETTERS, Exchange, Queue, dead_letter_key
from broadway.ports import PublishError
from broadway.rabbit.calls import call, close
from broadway.rabbit.connecting import robust_channel
from broadway.runtime import metrics
from broadway.runtime.crashpoints import Point, reach

FIRST_PAUSE = 0.1  # seconds before a publish is repeated
MOST_UNWRITTEN = 64  # messages that are sent without waiting until they are written
KEPT_OF_OVERSIZED = 64 * 1024  # bytes of a message that is too large to be decoded
_LABELS = ("ce-type", "ce-id", "ce-subject")
PUBLISH_DEADLINE = 30  # seconds, over all repetitions of one publish


class ConfirmedPublisher:
    """Publishes on one channel, which is opened for the first publish and replaced when it is stuck."""

    def __init__(self, connection: AbstractRobustConnection, *, service: str) -> None:
        self._connection = connection
        self._service = service
        self._channel: AbstractRobustChannel | None = None
        self._opening = asyncio.Lock()
        self._unconfirmed = 0
        self._is_silent = False  # the last message was not confirmed in time

    async def publish(self, exchange: Exchange, key: str, event: Event, *, user: str) -> None:
        """Return once the broker has confirmed the event. Retry with the same message id while the result is unknown.

        Raises:
            PublishError: The event was refused or unroutable, or its result is still unknown after
                ``PUBLISH_DEADLINE``.
        """
        await reach(Point.PUBLISH_BEGUN)
        wire = encode(event, source=f"/broadway/{self._service}")
        message = _message(wire, exchange, self._service, user=user)
        try:
            await self._publish_once(exchange, key, message)
        except PublishError as error:
            if not error.unknown:
                raise
            await self._publish_again(exchange, key, message)
        await reach(Point.PUBLISH_CONFIRMED)

    async def park(
        self,
        message: AbstractIncomingMessage | Wire,
        *,
        queue: Queue,
        reason: str,
        user: str,
        is_oversized: bool = False,
    ) -> None:
        """Copy a delivery to the dead letters, with the reason, in the name of this service.

        Of an oversized one only its beginning is copied.

        Raises:
            PublishError: The broker did not confirm the copy; it is not retried.
        """
        headers = {**message.headers, DIED_OF: reason[:1000], DEAD_IN: queue.name}
        if is_oversized:  # it was not checked, and a type could make the letter end a job
            headers = {key: value for key, value in headers.items() if key not in _LABELS}
        copy = aio_pika.Message(
            message.body[:KEPT_OF_OVERSIZED] if is_oversized else message.body,
            headers=headers,
            content_type=message.content_type,
            message_id=message.message_id,
            type=message.type,
            user_id=user,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        await self._publish_once(DEAD_LETTERS, dead_letter_key(queue.name), copy)

    async def channel(self) -> AbstractRobustChannel:
        """Return the publishing channel; open it if necessary."""
        async with self._opening:
            if self._channel is None:
                self._channel = await robust_channel(self._connection)
            return self._channel

    async def _publish_again(self, exchange: Exchange, key: str, message: aio_pika.Message) -> None:
        """Retry a publish until its result is known. The retry loop has a cost, so the first try does not use it."""
        await asyncio.sleep(FIRST_PAUSE)
        async for attempt in stamina.retry_context(
            on=_is_unknown, attempts=None, timeout=PUBLISH_DEADLINE, wait_initial=FIRST_PAUSE, wait_max=2
        ):
            with attempt:
                await self._publish_once(exchange, key, message)

    async def _publish_once(self, exchange: Exchange, key: str, message: aio_pika.Message) -> None:
        channel: AbstractRobustChannel | None = None
        begun = time.perf_counter()
        self._unconfirmed += 1
        try:
            async with call(f"{exchange.name} did not take {key}"):
                channel = await self.channel()
                await self._send(await channel.get_underlay_channel(), exchange, key, message)
        except PublishError as error:
            metrics.PUBLISH_FAILURES.labels(exchange.name, "unknown" if error.unknown else "refused").inc()
            if isinstance(error.__cause__, TimeoutError):
                await self._leave(channel)
            raise
        finally:
            self._unconfirmed -= 1
        self._is_silent = False
        metrics.PUBLISH_SECONDS.labels(exchange.name).observe(time.perf_counter() - begun)

    async def _send(
        self, channel: aiormq.abc.AbstractChannel, exchange: Exchange, key: str, message: aio_pika.Message
    ) -> None:
        """Send a message and wait for its confirm.

        aio-pika would wait until each message is written, so that no two are in one write (see ``joined_writes``). Here
        a message waits only if many are unconfirmed or the broker is silent: then it may have stopped reading, and what
        is not written takes memory.
        """
        assert isinstance(channel, aiormq.Channel)  # noqa: S101 - for the type checker
        await channel.basic_publish(
            message.body,
            exchange=exchange.name,
            routing_key=key,
            properties=message.properties,
            mandatory=not exchange.transient,
            wait=self._is_silent or self._unconfirmed > MOST_UNWRITTEN,
        )

    async def _leave(self, channel: AbstractRobustChannel | None) -> None:
        """Replace a channel on which a message was not confirmed in time: one queue may block the whole channel."""
        self._is_silent = True
        if channel is self._channel:
            self._channel = None
            if channel:
                await close(channel)


def _message(wire: Wire, exchange: Exchange, service: str, *, user: str) -> aio_pika.Message:
    durable = aio_pika.DeliveryMode.NOT_PERSISTENT if exchange.transient else aio_pika.DeliveryMode.PERSISTENT
    headers: Mapping[str, Any] = wire.headers
    return aio_pika.Message(
        wire.body,
        headers=dict(headers),
        content_type=wire.content_type,
        message_id=wire.message_id,
        type=wire.type,
        app_id=f"broadway-{service}",
        user_id=user,
        delivery_mode=durable,
    )


def _is_unknown(error: Exception) -> bool:
    return isinstance(error, PublishError) and error.unknown
