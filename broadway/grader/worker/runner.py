"""The part of a grader that runs jobs, the same for every link."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

import structlog

from broadway.domain.job import FaultPhase
from broadway.grader.grading.directories import Directories
from broadway.grader.grading.grade import Graded, Preparation, fault, grade
from broadway.grader.ports import ContainerError, Containers, Labels
from broadway.grader.sandbox.users import Users
from broadway.runtime import metrics

log = structlog.get_logger(__name__)

TRIAL_WITHIN = 60.0  # seconds for a container of the grader's own


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs jobs with a container engine, each in a directory of its own.

    Args:
        grader_id: The id of this grader.
        identity: The name of this process; see ``process_identity.own_identity``.
        containers: The container engine.
        directories: The directories of the jobs.
        users: The users for untrusted stages, of which each job has one.
        verbose: Log the output of jobs.
        deployment: The id of the grader's deployment.
    """

    grader_id: str
    identity: str
    containers: Containers
    directories: Directories
    users: Users = field(default_factory=Users)
    verbose: bool = False
    deployment: str = ""

    async def run(
        self,
        job_id: str,
        execution_id: str,
        stages: Sequence[Mapping[str, Any]],
        preparation: Preparation | None = None,
    ) -> Graded:
        """Run a job's stages, after the preparation of its directory. If cancelled, leave no container and no file."""
        with metrics.GRADER_SLOTS_USED.track_inprogress():
            graded = await self._grade(job_id, execution_id, stages, preparation)
        metrics.GRADER_JOBS.labels(graded.outcome).inc()
        if self.verbose:
            log.info("output", stdout=graded.stdout, stderr=graded.stderr)
        return graded

    async def try_out(self) -> None:
        """Run a container of the grader's own.

        Raises:
            ContainerError: It could not be run.
        """
        execution_id = f"trial-{token_hex(6)}"
        labels = Labels(self.grader_id, self.identity, job_id="", execution_id=execution_id, stage=0)
        try:
            async with asyncio.timeout(TRIAL_WITHIN):
                await self.containers.try_out(labels)
        except TimeoutError:
            reason = f"a container of the grader's own did not end within {TRIAL_WITHIN:g} s"
            raise ContainerError(reason, phase=FaultPhase.WAIT, retryable=True) from None

    async def _grade(
        self,
        job_id: str,
        execution_id: str,
        stages: Sequence[Mapping[str, Any]],
        preparation: Preparation | None,
    ) -> Graded:
        try:
            with self.users.taken() as user:
                labels = Labels(self.grader_id, self.identity, job_id, execution_id, 0, self.deployment, user)
                return await grade(
                    stages,
                    containers=self.containers,
                    directories=self.directories,
                    labels=labels,
                    preparation=preparation,
                )
        except Exception as error:  # a job without a reported outcome would start again and again
            log.exception("the grader failed")
            reason = f"the grader failed: {type(error).__name__}"
            return fault(ContainerError(reason, phase=FaultPhase.WAIT, retryable=True))
