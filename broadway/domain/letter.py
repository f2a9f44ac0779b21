"""Dead letters: messages that no service could handle. Pure."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: its queue, the reason and the number of its deaths, and the message's subject and body."""

    id: str
    message_id: str
    queue: str
    subject: str
    reason: str
    body: bytes
    count: int
    first_at: datetime
    last_at: datetime
