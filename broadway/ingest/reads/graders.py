"""Reads of graders, which all courses share."""

from dataclasses import dataclass

from broadway.domain.grader import Grader
from broadway.ingest.reads.stores import GraderQueries


@dataclass(frozen=True, slots=True)
class GraderReads:
    """Reads of all graders."""

    graders: GraderQueries

    async def one(self, grader_id: str) -> Grader | None:
        """Return a grader, or None."""
        return await self.graders.get(grader_id)

    async def alive(self) -> list[Grader]:
        """Return the live graders."""
        return await self.graders.alive()

    async def all(self) -> list[Grader]:
        """Return all graders that have ever joined, by id."""
        return await self.graders.all()
