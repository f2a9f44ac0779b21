"""Dead letters: messages that no service could handle. Pure."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Letter:
    """A message as it died: in which queue, why, about what, and how often it has."""

    id: str
    message_id: str
    queue: str
    subject: str
    reason: str
    body: bytes
    count: int
    first_at: datetime
    last_at: datetime
