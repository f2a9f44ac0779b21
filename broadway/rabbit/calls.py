"""Calls to the broker, with time limits and with our own errors."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
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
CLOSE_WITHIN = 1  # seconds that a caller waits for the end of a channel

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


_closing: set[asyncio.Task[None]] = set()


async def close(channel: AbstractChannel) -> None:
    """Close a channel. After ``CLOSE_WITHIN`` seconds, and if the caller is cancelled, it is closed in the background.

    A request to close must not be cancelled: aiormq would repeat it, and the broker closes the whole connection if one
    of its channels is closed twice.
    """
    task = asyncio.create_task(_close(channel))
    _closing.add(task)
    task.add_done_callback(_closing.discard)
    await asyncio.wait((task,), timeout=CLOSE_WITHIN)


async def _close(channel: AbstractChannel) -> None:
    with contextlib.suppress(*BROKEN, asyncio.CancelledError):  # aiormq cancels what waits for a lost connection
        await channel.close()


@contextlib.asynccontextmanager
async def channel_of(connection: AbstractConnection) -> AsyncIterator[AbstractChannel]:
    """Open a channel for some calls, and close it after them."""
    channel = connection.channel()
    try:
        await channel.initialize()
        yield channel
    finally:
        await close(channel)
