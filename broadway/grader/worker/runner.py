"""The part of a grader that runs jobs, the same for every link."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import Any

import structlog

from broadway.domain.job import FaultPhase, Outcome
from broadway.grader.grading.artifacts import Collection
from broadway.grader.grading.directories import Directories
from broadway.grader.grading.grade import Graded, Preparation, fault, grade
from broadway.grader.ports import ContainerError, Containers, Labels, Listener
from broadway.grader.sandbox.users import Users
from broadway.runtime import metrics

log = structlog.get_logger(__name__)

TRIAL_WITHIN = 60.0  # seconds for a container of the grader's own

Sending = Callable[[Collection], Awaitable[str]]  # stores artifacts, and returns a note if it could not


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
        sending: Sending | None = None,
        listener: Listener | None = None,
        stop: asyncio.Event | None = None,
    ) -> Graded:
        """Run a job's stages, after the preparation of its directory. If cancelled, leave no container and no file.

        ``listener`` gets their output while they run. The artifacts of the stages are sent before this returns; a note
        in ``stderr`` says which are left out. Once ``stop`` is set, the job ends soon as cancelled, with its output so
        far, and without artifacts.
        """
        with metrics.GRADER_SLOTS_USED.track_inprogress():
            collection = Collection()
            graded = await self._grade(job_id, execution_id, stages, preparation, collection, listener, stop)
            if graded.outcome is Outcome.CANCELLED:
                return graded
            if not collection.is_empty:
                failure = await _sent(collection, sending)
                graded = replace(graded, stderr=f"{graded.stderr}{collection.note}{failure}")
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
        collection: Collection,
        listener: Listener | None,
        stop: asyncio.Event | None,
    ) -> Graded:
        try:
            with self.users.taken() as user:
                owner = (self.grader_id, self.identity, job_id, execution_id, 0, self.deployment, user)
                labels = Labels(*owner, listener, stop)
                return await grade(
                    stages,
                    containers=self.containers,
                    directories=self.directories,
                    labels=labels,
                    preparation=preparation,
                    collection=collection,
                )
        except Exception as error:  # a job without a reported outcome would start again and again
            log.exception("the grader failed")
            reason = f"the grader failed: {type(error).__name__}"
            return fault(ContainerError(reason, phase=FaultPhase.WAIT, retryable=True))


async def _sent(collection: Collection, sending: Sending | None) -> str:
    """Send artifacts; return a note if they are not stored. The outcome must be reported all the same."""
    if sending is None:
        return "artifacts: not stored: this grader knows no API\n"
    try:
        return await sending(collection)
    except Exception as error:
        log.exception("artifacts not stored")
        return f"artifacts: not stored: the grader failed: {type(error).__name__}\n"
