"""Take messages of a queue one at a time."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

import structlog
from aio_pika.abc import (
    AbstractIncomingMessage,
    AbstractQueue,
)

from broadway.messages.batches import Batch
from broadway.messages.envelope import OversizedError, UndecodableError, decode
from broadway.messages.events import Event
from broadway.messages.topology import Queue
from broadway.ports import PublishError
from broadway.rabbit.calls import BROKEN, CALL_TIMEOUT, call
from broadway.rabbit.declaring import PING
from broadway.rabbit.settling import DeadLetterBox, Settlement, settle
from broadway.runtime.cancellation import heeded

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Taken:
    """A message that its consumer must settle."""

    event: Event
    _message: AbstractIncomingMessage

    async def ack(self) -> None:
        """Acknowledge the message."""
        await settle(self._message, Settlement.DONE)

    async def give_back(self) -> None:
        """Requeue the message, for another consumer."""
        await settle(self._message, Settlement.GIVEN_BACK)


class SingleTake:
    """A consumer that exists only while its owner waits for a message."""

    def __init__(self, dead_letters: DeadLetterBox, queue: Queue, declared: AbstractQueue, *, tag: str) -> None:
        self._dead_letters = dead_letters
        self._queue = queue
        self._declared = declared
        self._tag = tag
        self._arrivals: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()

    def end(self, *_: Any) -> None:
        """Make every present and later ``take`` fail, since the channel is closed."""
        self._arrivals.put_nowait(None)

    async def take(self, *, within: float | None = None) -> Taken | None:
        """Return the next message, or None if none arrives ``within`` seconds; without a limit, wait forever.

        Raises:
            PublishError: The broker is unavailable.
        """
        async with call(f"{self._queue.name} cannot be consumed"):
            await self._declared.consume(self._arrivals.put, consumer_tag=self._tag)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    while True:
                        if taken := await self._read(await self._arrivals.get()):
                            return taken
        finally:
            await self._stop()
        while not self._arrivals.empty():  # what has come meanwhile, and nothing more comes
            if taken := await self._read(self._arrivals.get_nowait()):
                return taken
        return None

    async def _read(self, message: AbstractIncomingMessage | None) -> Taken | None:
        """Return a message that can be decoded; move one that cannot to the dead letters, and return None."""
        if message is None:
            self.end()  # the next call must fail, too
            raise PublishError(f"{self._queue.name} cannot be consumed: its channel is closed", unknown=True)
        if message.type == PING:
            await settle(message, Settlement.DONE)
            return None
        try:
            event = _single(decode(message.headers, message.body), message.body)
            return Taken(event.as_redelivered() if message.redelivered else event, message)
        except UndecodableError as problem:
            log.error("dead letter", queue=self._queue.name, reason=str(problem))  # noqa: TRY400 - not a bug of ours
            is_oversized = isinstance(problem, OversizedError)
            await self._dead_letters.park(message, queue=self._queue, reason=str(problem), is_oversized=is_oversized)
            await settle(message, Settlement.DONE)
            return None

    async def _stop(self) -> None:
        with heeded(), contextlib.suppress(*BROKEN):
            await self._declared.cancel(self._tag, timeout=CALL_TIMEOUT)


def _single(event: Event, body: bytes) -> Event:
    """Return an event that is no batch.

    Raises:
        UndecodableError: It is one; its taker could not settle its events one by one.
    """
    if isinstance(event, Batch):
        raise UndecodableError(f"{event.type}: expected a message with one event, not {len(event.parts)}", body)
    return event
