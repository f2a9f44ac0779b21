"""What use cases need from the outside, as small protocols; and what a handler may say about a message."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
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


class StoreError(Exception):
    """The store is unavailable, or failed at a request.

    ``refusal`` is the store's objection to a document, if that is why; None for any other failure, such as an outage.
    """

    def __init__(self, reason: str, *, refusal: str | None = None) -> None:
        super().__init__(reason)
        self.refusal = refusal


class UnstorableError(ValueError):
    """The store cannot hold a document: it is too large, or holds a value that has no stored form."""


_WITHOUT_A_FORM = (UnstorableError, OverflowError, UnicodeEncodeError, RecursionError)  # the last three are Python's
_REFUSAL = 300  # characters; a server may repeat the whole document


def refusal(error: Exception) -> str | None:
    """The store's objection to a document, or None for any other error, such as an outage."""
    if isinstance(error, _WITHOUT_A_FORM):
        return str(error)[:_REFUSAL]
    if isinstance(error, StoreError) and error.refusal is not None:
        return error.refusal[:_REFUSAL]
    return None


@dataclass(frozen=True, slots=True)
class QueueState:
    """How many messages wait in a queue, and how many consumers it has."""

    waiting: int
    consumers: int


class QueueDeclarer(Protocol):
    """Declares queues."""

    async def declare(self, *queues: Queue) -> None:
        """Return once the queues and their bindings exist.

        Raises:
            PublishError: The broker is unavailable, or has a queue of that name with other arguments.
        """


class QueueDepths(Protocol):
    """Counts messages in queues."""

    async def depth(self, queue: Queue) -> int:
        """Return how many messages wait in a queue, without those in the hands of consumers.

        Raises:
            PublishError: The broker is unavailable, or has no such queue.
        """


class Publisher(QueueDeclarer, Protocol):
    """Sends events."""

    async def publish(self, exchange: Exchange, key: str, event: Event) -> None:
        """Return once the broker has taken the event into a queue and confirmed it.

        Raises:
            PublishError: Refused, unroutable, or unknown after the time limit.
        """
