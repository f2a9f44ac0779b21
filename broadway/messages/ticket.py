"""Tickets and proofs: evidence that a grader which reports on a job has received the job, and that it is that grader.

A ticket goes out with a job to its pool, and comes back with every event about the job's execution. Only services of
the control plane can make tickets, so a grader cannot report on jobs of other pools, whose ready queues it may not
read. A proof binds the ticket to one execution and one grader: it is made with a key that the grader got when it
joined, and that services derive from the grader's id.
"""

import hmac
import json
from dataclasses import dataclass, field

from broadway.messages.events import ExecutionEvent

TICKETS = "tickets"  # the name of the key among the deployment's secrets
DEPLOYMENT = "deployment"  # the name of the secret from which the deployment's id follows
_BYTES = 16


@dataclass(frozen=True, slots=True)
class Tickets:
    """Makes and checks tickets. ``key`` is a secret of the deployment."""

    key: bytes = field(repr=False)

    def of(self, job_id: str, generation: int) -> str:
        """Return the ticket of a job in a generation."""
        return hmac.digest(self.key, f"{job_id}:{generation}".encode(), "sha256")[:_BYTES].hex()

    def proof_key(self, grader_id: str) -> bytes:
        """Return the key with which a grader makes its proofs."""
        return hmac.digest(self.key, f"the proofs of grader\0{grader_id}".encode(), "sha256")

    def is_ticket_of(self, event: ExecutionEvent) -> bool:
        """Return whether an event has the ticket of its job."""
        return hmac.compare_digest(event.ticket.encode(), self.of(event.job_id, event.generation).encode())

    def is_proven(self, event: ExecutionEvent) -> bool:
        """Return whether an event has its grader's proof."""
        own = proof_of(event, self.proof_key(event.grader_id))
        return hmac.compare_digest(event.proof.encode(), own.encode())


def proof_of(event: ExecutionEvent, key: bytes) -> str:
    """Return the proof of an event: a keyed hash of its kind, job, generation, execution, grader and ticket."""
    bound = [event.type, event.job_id, event.generation, event.execution_id, event.grader_id, event.ticket]
    return hmac.digest(key, json.dumps(bound).encode(), "sha256").hex()


def deployment_id(secret: bytes) -> str:
    """Return the id of a deployment, which its containers and directories show on their host."""
    return hmac.digest(secret, b"the deployment's id", "sha256")[:_BYTES].hex()
