"""A consumer of a queue, on a channel of its own."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aio_pika.abc import AbstractIncomingMessage, AbstractRobustChannel, AbstractRobustQueue

from broadway.rabbit.calls import CALL_TIMEOUT


@dataclass(slots=True, eq=False)
class Consumer:
    """A channel with a consumer that can be stopped and started. Its deliveries can be settled while it is stopped."""

    channel: AbstractRobustChannel
    queue: AbstractRobustQueue
    tag: str
    number: int
    priority: int = 0
    is_taking: bool = False
    arrivals: int = 0  # since the last check
    strikes: int = 0  # consecutive checks that found messages waiting and no arrival

    async def start(self, on_message: Callable[[AbstractIncomingMessage], Awaitable[None]]) -> None:
        async def arrive(message: AbstractIncomingMessage) -> None:
            self.arrivals += 1
            await on_message(message)

        if not self.is_taking:
            await self.queue.consume(
                arrive, arguments={"x-priority": self.priority}, consumer_tag=self.tag, timeout=CALL_TIMEOUT
            )
            self.is_taking = True

    async def stop(self) -> None:
        if self.is_taking:
            # Even if the cancellation fails: the channel is then closed, and the client restores no consumer.
            self.is_taking = False
            await self.queue.cancel(self.tag, timeout=CALL_TIMEOUT)
