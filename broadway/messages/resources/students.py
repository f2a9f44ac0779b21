"""Deletions of students' data."""

from datetime import datetime

from pydantic import Field

from broadway.messages.resources.base import Body, View

MAX_REASON = 1000  # characters


class DeletionRequest(Body):
    """A deletion of all that is stored about a student; a dry one only counts."""

    dry_run: bool = Field(default=False, description="remove nothing")
    reason: str = Field(default="", max_length=MAX_REASON, description="for the receipt; required unless `dry_run`")


class DeletionView(View):
    """A deletion, with a pseudonym for the student; a receipt once it has ended.

    The counts are those at the beginning. `digest` is the SHA-256 of the receipt's other fields.
    """

    student: str
    number: int
    dry_run: bool
    ordered_at: datetime
    by: str
    reason: str
    counts: dict[str, int]
    ended_at: datetime | None
    digest: str
    not_reached: list[str] = Field(description="what services cannot remove")
