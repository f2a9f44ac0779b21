"""Results that graders behind the gateway report."""

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from broadway.domain.grader import Grader
from broadway.domain.job import Attempt, Job, JobState, Outcome
from broadway.domain.moves import Moved
from broadway.ingest.gateway.changes import JobChanges
from broadway.ingest.gateway.hidden import without_hidden
from broadway.ingest.gateway.ports import GatewayGraders, GatewayJobs
from broadway.ingest.gateway.verdicts import judge
from broadway.lifecycle.recording import Recorder, record_what_can_be
from broadway.messages.events import Event, JobFinished, ids_of
from broadway.messages.http import JobResult
from broadway.ports import PublishError, Reject, refusal
from broadway.runtime import metrics
from broadway.runtime.metrics import Refusal

log = structlog.get_logger(__name__)

JOB_NOT_FOUND = "job with the given ID not found"
NOT_STARTED = "cannot update job that is not in STARTED state"
NOT_HELD = "job is held by another worker"


class UnwantedResultError(Exception):
    """A result that is refused; the text gives the reason in the original's words."""


@dataclass(frozen=True, slots=True)
class Results:
    """Stores results, with their logs and the next steps of their runs."""

    graders: GatewayGraders
    jobs: GatewayJobs
    recorder: Recorder
    changes: JobChanges

    async def report(self, grader: Grader, result: JobResult) -> None:
        """Take a result: the job, its log and the run's next step are stored when this returns.

        Raises:
            UnwantedResultError: The job is unknown, not running, or held by another grader; or the store refuses even
                the outcome.
            StoreError: The store is unavailable; the grader must report the result again.
        """
        job = await self.jobs.get(result.grading_job_id)
        if job is None:
            raise _unwanted(JOB_NOT_FOUND, Refusal.UNKNOWN)
        attempt = job.execution_of(grader.id)
        if job.state is not JobState.RUNNING or attempt is None:
            why = NOT_HELD if job.state is JobState.RUNNING else NOT_STARTED
            if await self._keep_log(grader, job, result):
                raise UnwantedResultError(why)
            raise _unwanted(why, _refusal(job))
        await self.record(grader, job, await self._finished(grader, job, attempt, result))

    async def _keep_log(self, grader: Grader, job: Job, result: JobResult) -> bool:
        """Store the output of an execution that was cancelled; return whether the grader had one that may report it.

        These protocols have no cancellation: the grader runs the job to its end. Nothing but the log changes.
        """
        attempt = _cancelled_execution(job, grader.id, datetime.now(UTC))
        if attempt is None:
            return False
        finished = await self._finished(grader, job, attempt, result)
        cancelled = {"generation": attempt.generation, "outcome": Outcome.CANCELLED}
        with contextlib.suppress(Reject):  # the store refuses this output
            await record_what_can_be(finished.model_copy(update=cancelled), self._record_one, refusal=refusal)
        return True

    async def record(self, grader: Grader, job: Job, finished: JobFinished) -> None:
        """Store as much of a job's outcome as the store accepts, and the next step of its run.

        Raises:
            UnwantedResultError: The store refuses even the outcome.
            StoreError: The store is unavailable.
        """
        try:
            moved = await record_what_can_be(finished, self._record_one, refusal=refusal)
        except PublishError as error:  # the outcome is stored, and the reconciler finds unpublished events
            log.warning("outcome not told", reason=str(error), **finished.context)
            moved = {}
        except Reject as error:
            raise _unwanted(str(error), Refusal.UNKNOWN) from error
        log.info("job reported", outcome=finished.outcome.value, **finished.context)
        await self.graders.take_back(grader.id, [job.id])
        if not moved or moved[job.id].after.is_terminal:
            await self.changes.bring_forward(job.run_id)

    async def _finished(self, grader: Grader, job: Job, attempt: Attempt, result: JobResult) -> JobFinished:
        verdict = judge(result)
        stdout, stderr = result.logs.stdout, result.logs.stderr
        if not grader.extended:  # the original's graders cannot leave out the output of one stage
            stages = (await self.jobs.stages([job.id])).get(job.id, [])
            stdout, stderr = (without_hidden(text, stages, result.results) for text in (stdout, stderr))
        return JobFinished(
            **ids_of(job),
            execution_id=attempt.execution_id,
            grader_id=grader.id,
            started_at=attempt.started_at,
            finished_at=datetime.now(UTC),
            results=result.results,
            stdout=stdout,
            stderr=stderr,
            **verdict.model_dump(),
        )

    async def _record_one(self, event: Event) -> dict[str, Moved]:
        return await self.recorder.record([event])


def _cancelled_execution(job: Job, grader_id: str, now: datetime) -> Attempt | None:
    """Return a grader's newest attempt if it was cancelled while it ran and is before its deadline, else None."""
    newest = next((a for a in reversed(job.attempts) if a.grader_id == grader_id), None)
    if newest is None or newest.outcome is None or not newest.outcome.is_order:
        return None
    return newest if newest.deadline is None or now <= newest.deadline else None


def _refusal(job: Job) -> Refusal:
    if job.state is JobState.RUNNING:
        return Refusal.UNKNOWN
    return Refusal.DUPLICATE if job.is_terminal else Refusal.STALE


def _unwanted(why: str, refusal: Refusal) -> UnwantedResultError:
    metrics.OUTCOMES_REFUSED.labels(refusal).inc()
    return UnwantedResultError(why)
