"""Declaring queues, and looking at them."""

from typing import Any

from aio_pika.abc import (
    AbstractChannel,
)

from broadway.messages.topology import Queue
from broadway.ports import QueueState
from broadway.rabbit.calls import CALL_TIMEOUT

PING = "ping"  # the type of messages that are sent only to see whether they are taken


async def declare(channel: Any, queue: Queue, *, robust: bool | None, is_guest: bool = False) -> Any:
    """Declare a queue with its bindings; ``robust`` for channels that come back: whether it does, too.

    A guest only makes sure that the queue is there: it may not declare it.
    """
    options = {} if robust is None else {"robust": robust}
    if is_guest:
        return await channel.declare_queue(queue.name, passive=True, timeout=CALL_TIMEOUT, **options)
    declared = await channel.declare_queue(
        queue.name,
        durable=not queue.exclusive,
        exclusive=queue.exclusive,
        arguments=queue.arguments,
        timeout=CALL_TIMEOUT,
        **options,
    )
    for binding in queue.bindings:
        await declared.bind(binding.exchange, binding.key, timeout=CALL_TIMEOUT, **options)
    return declared


async def look(channel: AbstractChannel, queue: Queue) -> QueueState:
    told = (await channel.declare_queue(queue.name, passive=True)).declaration_result
    return QueueState(told.message_count or 0, told.consumer_count or 0)
