"""Reads of artifacts, of the attempts that are on record only."""

from dataclasses import dataclass
from typing import Protocol

from broadway.domain.artifacts import Manifest
from broadway.domain.job import Job


class ManifestQueries(Protocol):
    """Queries on manifests of artifacts."""

    async def get(self, job: str, generation: int, execution: str, grader: str) -> Manifest | None:
        """Return the manifest of an execution by a grader, or None."""


@dataclass(frozen=True, slots=True)
class ArtifactReads:
    """Reads of the artifacts of any course's jobs."""

    manifests: ManifestQueries

    async def of_attempt(self, job: Job, execution: str) -> Manifest | None:
        """Return the artifacts of one of a job's attempts, if its grader has sent some."""
        for attempt in job.attempts:
            if attempt.execution_id == execution:
                return await self.manifests.get(job.id, attempt.generation, execution, attempt.grader_id)
        return None
