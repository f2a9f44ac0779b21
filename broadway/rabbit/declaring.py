"""Declare and inspect queues."""

from typing import Any

from aio_pika.abc import (
    AbstractChannel,
)

from broadway.messages.topology import Queue
from broadway.ports import QueueState
from broadway.rabbit.calls import CALL_TIMEOUT

PING = "ping"  # the type of probe messages, which consumers acknowledge and ignore


async def declare(channel: Any, queue: Queue, *, robust: bool | None, is_guest: bool = False) -> Any:
    """Declare a queue with its bindings.

    ``robust`` is for robust channels: whether a reconnect restores the queue. A guest may not declare the queue, and
    only checks that it exists.
    """
    options = {} if robust is None else {"robust": robust}
    if is_guest:
        return await channel.declare_queue(queue.name, passive=True, timeout=CALL_TIMEOUT, **options)
    declared = await channel.declare_queue(
        queue.name,
        durable=not queue.exclusive,
        exclusive=queue.exclusive,
        auto_delete=queue.brief,
        arguments=queue.arguments,
        timeout=CALL_TIMEOUT,
        **options,
    )
    for binding in queue.bindings:
        await declared.bind(binding.exchange, binding.key, timeout=CALL_TIMEOUT, **options)
    return declared


async def state_of(channel: AbstractChannel, queue: Queue) -> QueueState:
    result = (await channel.declare_queue(queue.name, passive=True)).declaration_result
    return QueueState(result.message_count or 0, result.consumer_count or 0)
