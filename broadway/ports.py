"""What use cases need from the outside, as small protocols; and what a handler may say about a message."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from broadway.messages.events import Event
from broadway.messages.topology import Exchange, Queue


class Retry(Exception):  # noqa: N818 - a verdict, not an error
    """The message could not be handled now: hand it to the handler again, after ``delay`` seconds."""

    def __init__(self, reason: str, *, delay: float = 1.0) -> None:
        super().__init__(reason)
        self.delay = delay


class Reject(Exception):  # noqa: N818 - a verdict, not an error
    """The message can never be handled: move it to the dead letters, with the reason."""


class GiveBack(Exception):  # noqa: N818 - a verdict, not an error
    """The message is for somebody else: give it back to its queue."""


Handler = Callable[[Event], Awaitable[None]]


class PublishError(Exception):
    """The broker did not take an event. ``unknown`` tells that it may have, so that only a repetition is safe."""

    def __init__(self, reason: str, *, unknown: bool) -> None:
        super().__init__(reason)
        self.unknown = unknown


class Publisher(Protocol):
    """Sends events."""

    async def publish(self, exchange: Exchange, key: str, event: Event) -> None:
        """Return once the broker has taken the event into a queue and confirmed it.

        Raises:
            PublishError: Refused, unroutable, or unknown after the time limit.
        """

    async def declare(self, *queues: Queue) -> None:
        """Return once the queues and their bindings exist."""
