"""The place where a grader runs jobs, whichever way they reached it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from broadway.domain.job import FaultPhase
from broadway.grader.grading.grade import Graded, fault, grade
from broadway.grader.ports import ContainerError, Containers, Labels, Size
from broadway.runtime import metrics

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Runner:
    """A container engine and a directory, and whose they are.

    Args:
        identity: This process; see ``process_identity.own_identity``.
        directory: Where each execution gets a directory of its own, which goes with it.
        size: What a job may store.
        verbose: Job output goes to the log.
    """

    grader_id: str
    identity: str
    containers: Containers
    directory: Path
    size: Size = field(default_factory=Size)
    verbose: bool = False

    async def run(self, job_id: str, execution_id: str, stages: Sequence[Mapping[str, Any]]) -> Graded:
        """Run a job's stages. Cancelled, it leaves nothing behind."""
        with metrics.GRADER_SLOTS_USED.track_inprogress():
            graded = await self._grade(job_id, execution_id, stages)
        metrics.GRADER_JOBS.labels(graded.outcome).inc()
        if self.verbose:
            log.info("output", stdout=graded.stdout, stderr=graded.stderr)
        return graded

    async def _grade(self, job_id: str, execution_id: str, stages: Sequence[Mapping[str, Any]]) -> Graded:
        try:
            return await grade(
                stages,
                containers=self.containers,
                size=self.size,
                directory=self.directory / self.identity / execution_id,
                labels=Labels(self.grader_id, self.identity, job_id, execution_id, stage=0),
            )
        except Exception as error:  # a job that nobody reports would start again and again
            log.exception("the grader failed")
            reason = f"the grader failed: {type(error).__name__}"
            return fault(ContainerError(reason, phase=FaultPhase.WAIT, retryable=True))
