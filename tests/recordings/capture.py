"""Captures every message that crosses the exchanges of a virtual host."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity
from yarl import URL

Message = dict[str, Any]

JOBS = "broadway.jobs"
TOPICS = ("broadway.events", "broadway.logs", "broadway.control", "broadway.dlx")
UNROUTED = "broadway.unrouted"

TYPE = "io.broadway.{}.v1"
WITHIN = 60  # seconds until a message counts as missing
PROPERTIES = (
    *("content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to", "expiration"),
    *("message_id", "timestamp", "type", "user_id", "app_id"),
)


@dataclass
class Capture:
    """The messages so far, in their order of arrival. Only the first of each sender's pings is kept."""

    connection: AbstractConnection
    user: str
    channel: AbstractChannel
    queue: AbstractQueue
    messages: list[Message] = field(default_factory=list)
    _pinging: set[str | None] = field(default_factory=set)
    _more: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, incoming: AbstractIncomingMessage) -> None:
        """Keep one message."""
        if incoming.routing_key == "ping":
            if incoming.app_id in self._pinging:
                return
            self._pinging.add(incoming.app_id)
        async with self._more:
            self.messages.append(as_recorded(incoming))
            self._more.notify_all()

    def heard(self, kind: str, **body: Any) -> list[dict[str, Any]]:
        """Return the bodies of messages of a kind, such as ``job.started``, whose fields have these values."""
        name = TYPE.format(kind)
        found = (json.loads(m["body"]) for m in self.messages if m["properties"].get("type") == name)
        return [each for each in found if body.items() <= each.items()]

    async def wait_for(self, kind: str, *, count: int = 1, **body: Any) -> dict[str, Any]:
        """Wait for ``count`` such messages, and return the body of the last one."""
        try:
            async with asyncio.timeout(WITHIN), self._more:
                await self._more.wait_for(lambda: len(self.heard(kind, **body)) >= count)
        except TimeoutError:
            raise AssertionError(f"{kind} {body}: {len(self.heard(kind, **body))} of {count} messages came") from None
        return self.heard(kind, **body)[count - 1]

    async def disconnect(self, queue: str, key: str) -> None:
        """Unbind the queue and this capture from a key: publishing a message with it is refused."""
        for name in (queue, self.queue.name):
            await (await self.channel.get_queue(name, ensure=False)).unbind(JOBS, key)

    async def reconnect(self, queue: str, key: str) -> None:
        """Undo ``disconnect``."""
        for name in (queue, self.queue.name):
            await (await self.channel.get_queue(name, ensure=False)).bind(JOBS, key)

    async def has_consumers(self, queue: str, count: int = 1) -> bool:
        """Return whether a queue has so many consumers."""
        async with self.connection.channel() as channel:
            try:
                declared = await channel.declare_queue(queue, passive=True)
            except ChannelNotFoundEntity:
                return False
            return declared.declaration_result.consumer_count == count

    async def publish(self, exchange: str, key: str, body: bytes, headers: dict[str, Any]) -> None:
        """Send a message as a service could, with the login of services."""
        target = await self.channel.get_exchange(exchange, ensure=False)
        identity = headers.get("ce-id", "unreadable")
        await target.publish(aio_pika.Message(body, headers=headers, message_id=identity, user_id=self.user), key)


@contextlib.asynccontextmanager
async def capturing(amqp_url: str, *, job_keys: Iterable[str]) -> AsyncIterator[Capture]:
    """Capture the messages of the exchanges, which must exist; from the direct one, only those with these keys."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        for exchange, key in [*((name, "#") for name in TOPICS), (UNROUTED, ""), *((JOBS, key) for key in job_keys)]:
            await queue.bind(exchange, key)
        capture = Capture(connection, URL(amqp_url).user or "guest", channel, queue)
        await queue.consume(capture.take, no_ack=True)
        yield capture


def as_recorded(message: AbstractIncomingMessage) -> Message:
    """Return a message in the form of a recording, with its body as text if it is text."""
    properties = {name: getattr(message, name) for name in PROPERTIES}
    return {
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "properties": {name: value for name, value in properties.items() if value is not None},
        "headers": json.loads(json.dumps(message.headers, default=str)),
        "body": _text(message.body),
    }


def body_of(message: Message) -> bytes:
    """Return the exact bytes of a recorded message's body."""
    body = message["body"]
    return base64.b64decode(body["base64"]) if isinstance(body, dict) else body.encode()


def _text(body: bytes) -> str | dict[str, str]:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}
