"""The stores and the broker, as the gateway needs them."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from broadway.domain.grader import Grader
from broadway.domain.job import Job
from broadway.lifecycle.steps import PhaseJobs
from broadway.lifecycle.stores import GradersById, JobLeases, JobStages, SingleJobs
from broadway.messages.events import Event
from broadway.messages.topology import Queue
from broadway.ports import Publisher


class GatewayGraders(GradersById, Protocol):
    """The operations on stored graders that the gateway needs."""

    async def register(self, grader: Grader) -> bool:
        """Store a grader that registers; return False if a live grader has its id."""

    async def seen(self, grader: Grader, now: datetime) -> None:
        """Record that a grader is alive, unless it is revoked, or its session over a WebSocket has ended."""

    async def hand_out(self, grader_id: str, job_id: str) -> None:
        """Add a job to those that a grader runs."""

    async def take_back(self, grader_id: str, job_ids: Sequence[str]) -> None:
        """Remove jobs from those that a grader runs."""

    async def mark_dead(
        self, grader_id: str, *, session: str | None = None, silent_since: datetime | None = None
    ) -> bool:
        """Mark a grader dead; return False if it was dead, has another session, or was seen after ``silent_since``."""

    async def silent_behind_gateways(self, moment: datetime) -> list[Grader]:
        """Return live graders behind gateways that were last seen at or before a moment."""

    async def mark_sockets_dead(self, gateway: str) -> None:
        """Mark all graders dead whose WebSockets were connected to this gateway, or to the original."""


class GatewayJobs(PhaseJobs, SingleJobs, JobStages, JobLeases, Protocol):
    """The operations on stored jobs that the gateway needs."""

    async def held_by(self, grader_id: str) -> list[Job]:
        """Return the running jobs whose latest execution is a grader's, without results."""

    async def are_any_waiting(self, pool: str) -> bool:
        """Return whether a job of a pool waits for a grader."""


class TakenMessage(Protocol):
    """A message that its consumer must settle."""

    @property
    def event(self) -> Event:
        """The event in the message."""

    async def ack(self) -> None:
        """Acknowledge the message."""

    async def give_back(self) -> None:
        """Return the message to its queue, for another consumer."""


class MessageTake(Protocol):
    """A queue whose messages are taken one at a time."""

    async def take(self, *, within: float | None = None) -> TakenMessage | None:
        """Wait for a message for ``within`` seconds, or without a limit; return None after a timeout.

        Raises:
            PublishError: The broker is unavailable.
        """


class TakingBroker(Publisher, Protocol):
    """A broker whose messages can be taken one at a time."""

    def single_take(self, queue: Queue, *, tag: str) -> AbstractAsyncContextManager[MessageTake]:
        """Open a queue for taking messages; ``tag`` names the consumer.

        Raises:
            PublishError: The broker is unavailable.
        """
