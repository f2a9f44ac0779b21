"""Publish messages that may get lost: without confirms, on a channel of its own."""

import asyncio

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.channel import Channel

from broadway.messages.envelope import encode
from broadway.messages.events import Event
from broadway.messages.topology import Exchange
from broadway.rabbit.calls import call, close

SEND_WITHIN = 5  # seconds until a message is written; a broker under an alarm reads nothing


class UnconfirmedPublisher:
    """Publishes on one channel, which is opened for the first message and after each failure.

    The messages of one caller that wait take no memory beyond the first: ``send`` returns once a message is written.
    """

    def __init__(self, connection: AbstractConnection, *, service: str) -> None:
        self._connection = connection
        self._service = service
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()

    async def send(self, exchange: Exchange, key: str, event: Event, *, user: str) -> None:
        """Return once an event is written to the connection. It may be lost, or be refused without an error here.

        Raises:
            PublishError: It could not be written.
        """
        wire = encode(event, source=f"/broadway/{self._service}")
        message = aio_pika.Message(
            wire.body,
            headers=dict(wire.headers),
            content_type=wire.content_type,
            message_id=wire.message_id,
            type=wire.type,
            app_id=f"broadway-{self._service}",
            user_id=user,
            delivery_mode=aio_pika.DeliveryMode.NOT_PERSISTENT,
        )
        channel: Channel | None = None
        try:
            async with call(f"{exchange.name} did not take {key}", seconds=SEND_WITHIN):
                channel = await self._open()
                underlay = await channel.get_underlay_channel()
                await underlay.basic_publish(
                    message.body, exchange=exchange.name, routing_key=key, properties=message.properties
                )
        except BaseException:
            await self._leave(channel)
            raise

    async def _open(self) -> Channel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                # Not a robust channel: after a failure, the next message opens another one.
                channel = Channel(self._connection, publisher_confirms=False)
                await channel.initialize()
                self._channel = channel
            return self._channel

    async def _leave(self, channel: Channel | None) -> None:
        if channel and channel is self._channel:
            self._channel = None
            await close(channel)
