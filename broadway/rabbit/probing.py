"""Probe messages, which test whether the broker or a queue takes messages."""

import contextlib
from collections.abc import AsyncIterator

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.channel import Channel

from broadway.messages.topology import LOGS, PING_KEY, Queue
from broadway.ports import PublishError
from broadway.rabbit.calls import call, close
from broadway.rabbit.declaring import PING

log = structlog.get_logger(__name__)

PING_WITHIN = 3  # seconds
CANARY_LIFE = 30  # seconds
CANARY_WITHIN = 5  # seconds


async def pass_message(connection: AbstractConnection, *, service: str) -> None:
    """Return once the broker has taken a message that is routed to no queue.

    Raises:
        PublishError: The broker takes no message, as under an alarm.
    """
    nothing = aio_pika.Message(b"", app_id=f"broadway-{service}", type=PING)
    async with _channel(connection, "no message is taken, as under an alarm", seconds=PING_WITHIN) as channel:
        target = await channel.get_exchange(LOGS.name, ensure=False)
        await target.publish(nothing, PING_KEY, mandatory=False)


async def accepts(connection: AbstractConnection, queue: Queue, *, service: str) -> bool:
    """Return whether a queue takes a message, by sending it a message that expires.

    Raises:
        PublishError: The broker is unavailable, or has no such queue.
    """
    canary = aio_pika.Message(b"", app_id=f"broadway-{service}", type=PING, expiration=CANARY_LIFE)
    try:
        async with _channel(connection, f"{queue.name} takes no message", seconds=CANARY_WITHIN) as channel:
            await channel.default_exchange.publish(canary, queue.name, mandatory=True)
    except PublishError as error:
        log.warning("canary not taken", queue=queue.name, reason=str(error))
        # Consumers do not prove anything: the broker closes a connection that consumes from a broken queue.
        await pass_message(connection, service=service)
        return False
    return True


@contextlib.asynccontextmanager
async def _channel(connection: AbstractConnection, problem: str, *, seconds: float) -> AsyncIterator[AbstractChannel]:
    """Open a channel for one attempt, so that a stuck attempt blocks no other channel.

    Raises:
        PublishError: The attempt failed, or took more than ``seconds``.
    """
    channel = Channel(connection, publisher_confirms=True, on_return_raises=True)
    try:
        async with call(problem, seconds=seconds):
            await channel.initialize()
            yield channel
    finally:
        await close(channel)
