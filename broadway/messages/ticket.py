"""Tickets: proofs that a grader which reports on a job has received that job.

A ticket goes out with a job to its pool, and comes back with every event about the job's execution. Only services of
the control plane can make tickets, so a grader cannot report on jobs of other pools, whose ready queues it may not
read.
"""

import hmac
from dataclasses import dataclass, field

from broadway.messages.events import Event, ExecutionEvent

TICKETS = "tickets"  # the name of the key among the deployment's secrets
_BYTES = 16


@dataclass(frozen=True, slots=True)
class Tickets:
    """Makes and checks tickets. ``key`` is a secret of the deployment."""

    key: bytes = field(repr=False)

    def of(self, job_id: str, generation: int) -> str:
        """Return the ticket of a job in a generation."""
        return hmac.digest(self.key, f"{job_id}:{generation}".encode(), "sha256")[:_BYTES].hex()

    def vouch(self, event: Event) -> bool:
        """Return False for an event about a job's execution that has no valid ticket of the job."""
        if not isinstance(event, ExecutionEvent):
            return True
        return hmac.compare_digest(event.ticket.encode(), self.of(event.job_id, event.generation).encode())
