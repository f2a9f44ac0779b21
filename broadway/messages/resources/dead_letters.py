"""Messages that no service could handle."""

from datetime import datetime

from broadway.messages.resources.base import View


class LetterView(View):
    """A message that no service could handle. ``subject`` is course/run/job; ``body`` is cut off after 64 KiB."""

    id: str
    message_id: str
    queue: str
    subject: str
    reason: str
    count: int
    first_at: datetime
    last_at: datetime
    body: str
