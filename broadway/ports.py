"""Small protocols for the broker and the store, as use cases need them, and the verdicts of message handlers."""

from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from broadway.messages.events import Event
from broadway.messages.topology import Exchange, Queue


class Retry(Exception):  # noqa: N818 - a verdict, not an error
    """The message cannot be handled now: call the handler again after ``delay`` seconds."""

    def __init__(self, reason: str, *, delay: float = 1.0) -> None:
        super().__init__(reason)
        self.delay = delay


class Reject(Exception):  # noqa: N818 - a verdict, not an error
    """The message can never be handled: move it to the dead letters, with the reason."""


class GiveBack(Exception):  # noqa: N818 - a verdict, not an error
    """The message is for another consumer: requeue it."""


Handler = Callable[[Event], Awaitable[None]]


class PublishError(Exception):
    """The broker did not confirm an event. If ``unknown``, it may still have it; only publishing it again is safe."""

    def __init__(self, reason: str, *, unknown: bool) -> None:
        super().__init__(reason)
        self.unknown = unknown


class QueueTakenError(PublishError):
    """An exclusive queue belongs to another connection."""


class StoreError(Exception):
    """The store is unavailable, or a request failed.

    ``refusal`` is the store's objection to a document; None for any other failure, such as an outage.
    """

    def __init__(self, reason: str, *, refusal: str | None = None) -> None:
        super().__init__(reason)
        self.refusal = refusal


class MissingContentError(StoreError):
    """The content of a file that should be stored is not."""


class UsedContents(Protocol):
    """The documents that refer to contents of files."""

    async def used(self, digests: AbstractSet[str]) -> set[str]:
        """Return the hex SHA-256 digests to which a document refers."""


class UnstorableError(ValueError):
    """The store cannot hold a document: it is too large, or contains a value that has no stored form."""


_UNSTORABLE = (UnstorableError, OverflowError, UnicodeEncodeError, RecursionError)  # the last three are Python's
_REFUSAL = 300  # characters; a server may repeat the whole document


def refusal(error: Exception) -> str | None:
    """Return the store's objection to a document, or None for any other error, such as an outage."""
    if isinstance(error, _UNSTORABLE):
        return str(error)[:_REFUSAL]
    if isinstance(error, StoreError) and error.refusal is not None:
        return error.refusal[:_REFUSAL]
    return None


@dataclass(frozen=True, slots=True)
class QueueState:
    """The number of messages that wait in a queue, and the number of its consumers."""

    waiting: int
    consumers: int


class QueueStates(Protocol):
    """Queries on the broker's queues."""

    async def queue_state(self, queue: Queue) -> QueueState | None:
        """Return the state of a queue; None if the queue does not exist.

        Raises:
            PublishError: The broker is unavailable.
        """


class Sender(Protocol):
    """Sends events that may get lost."""

    async def send(self, exchange: Exchange, key: str, event: Event) -> None:
        """Return once an event is written; it may get lost.

        Raises:
            PublishError: It could not be written.
        """


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
        """Return the number of messages that wait in a queue, without the unacknowledged messages of its consumers.

        Raises:
            PublishError: The broker is unavailable, or has no such queue.
        """


class Publisher(QueueDeclarer, Protocol):
    """Sends events."""

    async def publish(self, exchange: Exchange, key: str, event: Event) -> None:
        """Return once the broker has routed the event to a queue and confirmed it.

        Raises:
            PublishError: The event was refused or unroutable, or its result is still unknown after the time limit.
        """
