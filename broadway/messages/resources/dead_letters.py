"""Messages that no service could handle."""

from datetime import datetime

from pydantic import Field

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


class LetterRetryView(View):
    """The result of a dead letter's retry. The letter is removed unless a run has refused."""

    letter: str
    jobs: list[str] = Field(description="ids of the jobs that run again")
    unchanged: list[str] = Field(description="ids of jobs that did not end by the letter, or run again already")
    refused: list[str] = Field(description="reasons of the runs that cannot run their jobs again now")
