"""Tickets: who reports on a job shows that it was handed to him.

A ticket goes out with a job to its pool, and comes back with all that is told of its execution. Only services of the
control plane can make one, so a grader can tell nothing about jobs of other pools, whose ready queues it may not read.
"""

import hmac
from dataclasses import dataclass, field

from broadway.messages.events import Event, ExecutionEvent

TICKETS = "tickets"  # the name of the key among the deployment's secrets
_BYTES = 16


@dataclass(frozen=True, slots=True)
class Tickets:
    """Makes tickets, and recognises them. ``key`` is the deployment's own secret."""

    key: bytes = field(repr=False)

    def of(self, job_id: str, generation: int) -> str:
        """The ticket of a job in a generation."""
        return hmac.digest(self.key, f"{job_id}:{generation}".encode(), "sha256")[:_BYTES].hex()

    def vouch(self, event: Event) -> bool:
        """Whether an event, if it tells of a job's execution, comes from somebody who was handed the job."""
        if not isinstance(event, ExecutionEvent):
            return True
        return hmac.compare_digest(event.ticket.encode(), self.of(event.job_id, event.generation).encode())
