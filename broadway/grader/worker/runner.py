"""The part of a grader that runs jobs, the same for every link."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from broadway.domain.job import FaultPhase
from broadway.grader.grading.grade import Graded, fault, grade
from broadway.grader.ports import ContainerError, Containers, Labels, Size
from broadway.grader.sandbox.users import Users
from broadway.runtime import metrics

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs jobs with a container engine, each in a directory of its own.

    Args:
        grader_id: The id of this grader.
        identity: The name of this process; see ``process_identity.own_identity``.
        containers: The container engine.
        directory: The parent of each execution's directory, which is removed after the execution.
        size: The capacity of each job's directory.
        users: The users for untrusted stages, of which each job has one.
        verbose: Log the output of jobs.
    """

    grader_id: str
    identity: str
    containers: Containers
    directory: Path
    size: Size = field(default_factory=Size)
    users: Users = field(default_factory=Users)
    verbose: bool = False

    async def run(self, job_id: str, execution_id: str, stages: Sequence[Mapping[str, Any]]) -> Graded:
        """Run a job's stages. If cancelled, leave no container and no file behind."""
        with metrics.GRADER_SLOTS_USED.track_inprogress():
            graded = await self._grade(job_id, execution_id, stages)
        metrics.GRADER_JOBS.labels(graded.outcome).inc()
        if self.verbose:
            log.info("output", stdout=graded.stdout, stderr=graded.stderr)
        return graded

    async def _grade(self, job_id: str, execution_id: str, stages: Sequence[Mapping[str, Any]]) -> Graded:
        try:
            with self.users.taken() as user:
                return await grade(
                    stages,
                    containers=self.containers,
                    size=self.size,
                    directory=self.directory / self.identity / execution_id,
                    labels=Labels(self.grader_id, self.identity, job_id, execution_id, stage=0, user=user),
                )
        except Exception as error:  # a job without a reported outcome would start again and again
            log.exception("the grader failed")
            reason = f"the grader failed: {type(error).__name__}"
            return fault(ContainerError(reason, phase=FaultPhase.WAIT, retryable=True))
