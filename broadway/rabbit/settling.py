"""Settle deliveries: acknowledge, requeue or discard them."""

from enum import Enum, auto
from typing import Protocol

import structlog
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import ChannelInvalidStateError

from broadway.messages.envelope import Wire
from broadway.messages.topology import Queue
from broadway.rabbit.calls import BROKEN

log = structlog.get_logger(__name__)


class Settlement(Enum):
    """The end of a delivery."""

    DONE = auto()  # acknowledged: the broker forgets the message
    GIVEN_BACK = auto()  # requeued, for any consumer of the queue
    DISCARDED = auto()  # the broker moves the message to the dead letters if its queue has any


class DeadLetterBox(Protocol):
    """Takes copies of messages that no handler can handle."""

    async def park(
        self, message: AbstractIncomingMessage | Wire, *, queue: Queue, reason: str, is_oversized: bool = False
    ) -> None:
        """Return once the dead letters hold a copy of the message with the reason; the delivery is not settled yet.

        An event of a batch is parked alone, in its single form.

        Raises:
            PublishError: The broker did not take the copy.
        """


async def settle(message: AbstractIncomingMessage, settlement: Settlement) -> None:
    """Settle a delivery. If its channel is closed the broker delivers the message again; handlers are idempotent."""
    try:
        match settlement:
            case Settlement.DONE:
                await message.ack()
            case Settlement.GIVEN_BACK:
                await message.nack(requeue=True)
            case Settlement.DISCARDED:
                await message.reject(requeue=False)
    except ChannelInvalidStateError:
        log.debug("delivery outlived its channel")
    except BROKEN as error:
        log.warning("delivery not settled", error=repr(error))
