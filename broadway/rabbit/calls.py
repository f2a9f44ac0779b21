"""Calls to the broker, with time limits and with our own errors."""

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
from aiormq.exceptions import ChannelLockedResource

from broadway.ports import PublishError, QueueTakenError
from broadway.runtime.cancellation import cancellations, heeded

log = structlog.get_logger(__name__)

CALL_TIMEOUT = 10  # seconds, for every declaration and confirm
CLOSE_WITHIN = 1  # seconds; a stuck channel does not close either, and ends with its connection

BROKEN = (AMQPError, ConnectionError, TimeoutError, RuntimeError, OSError)


@contextlib.asynccontextmanager
async def call(problem: str, *, seconds: float = CALL_TIMEOUT) -> AsyncIterator[None]:
    """Limit the time of a call to the broker, and turn any failure of it into a PublishError.

    This separates cancellations that aiormq mixes up: it cancels waiting tasks when a connection breaks, which is not
    our cancellation; it may turn our cancellation into an error of the channel that it closes; and it may lose our
    cancellation when an answer arrives at the same moment.
    """
    before = cancellations()
    try:
        with heeded():
            async with asyncio.timeout(seconds):
                yield
    except DeliveryError as error:
        raise PublishError(f"{problem}: refused: {error!r}", unknown=False) from error
    except ChannelLockedResource as error:
        raise QueueTakenError(f"{problem}: another connection has it", unknown=False) from error
    except (*BROKEN, asyncio.CancelledError) as error:
        if cancellations() > before:
            raise asyncio.CancelledError from error
        raise PublishError(f"{problem}: {error!r}", unknown=True) from error


async def close(channel: AbstractChannel) -> None:
    with contextlib.suppress(*BROKEN):
        async with asyncio.timeout(CLOSE_WITHIN):
            await channel.close()
