"""Conversations with the broker, each of which comes to an end, and says so in our words."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog
from aio_pika.abc import (
    AbstractChannel,
)
from aio_pika.exceptions import (
    AMQPError,
    DeliveryError,
)

from broadway.ports import PublishError
from broadway.runtime.cancellation import cancellations, heeded

log = structlog.get_logger(__name__)

CALL_TIMEOUT = 10  # seconds, for every declaration and confirm
CLOSE_WITHIN = 1  # seconds; a channel that is stuck does not close either, and goes with its connection

BROKEN = (AMQPError, ConnectionError, TimeoutError, RuntimeError, OSError)


@contextlib.asynccontextmanager
async def call(problem: str, *, seconds: float = CALL_TIMEOUT) -> AsyncIterator[None]:
    """One conversation with the broker, within a time limit; whatever breaks it becomes a PublishError.

    Things are told apart that aiormq mixes up: it cancels whoever waits when a connection breaks, which is not our
    cancellation; it may turn our cancellation into an error of the channel that it closes; and it may lose ours
    when an answer arrives at the same moment.
    """
    before = cancellations()
    try:
        with heeded():
            async with asyncio.timeout(seconds):
                yield
    except DeliveryError as error:
        raise PublishError(f"{problem}: refused: {error!r}", unknown=False) from error
    except (*BROKEN, asyncio.CancelledError) as error:
        if cancellations() > before:
            raise asyncio.CancelledError from error
        raise PublishError(f"{problem}: {error!r}", unknown=True) from error


async def close(channel: AbstractChannel) -> None:
    with contextlib.suppress(*BROKEN):
        async with asyncio.timeout(CLOSE_WITHIN):
            await channel.close()
