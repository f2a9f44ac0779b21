"""Removing what a student handed in, as the student may ask of the course staff."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from broadway.ingest.commands.upload import CountedBytes


class RemovableSubmissions(Protocol):
    """Submissions that can be removed."""

    async def remove(self, course: str, assignment: str, student: str) -> Sequence[int]:
        """Remove a student's submissions for an assignment; return the bytes of each."""


@dataclass(frozen=True, slots=True)
class SubmissionRemoval:
    """Removes submissions. Their contents follow by the sweep, unless other submissions have them.

    A process that dies before it has taken back their bytes leaves too high a number; see ``Room``.
    """

    submissions: RemovableSubmissions
    counted: CountedBytes

    async def remove(self, course: str, assignment: str, student: str) -> int:
        """Remove all that a student or a group handed in for an assignment; return the number of submissions."""
        sizes = await self.submissions.remove(course, assignment, student)
        if sizes:
            await self.counted.give_back(course, sum(sizes))
        return len(sizes)
