"""Jobs as resources."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from broadway.domain.abilities import obstacle
from broadway.domain.grader import Grader
from broadway.domain.job import Attempt, Job, JobState, Outcome
from broadway.domain.result import Scores, StageResult
from broadway.domain.submission import student_of
from broadway.domain.work import final_marks
from broadway.ingest.reads.waiting import Place, queue_view
from broadway.ingest.v2.views.points import Points, points_of
from broadway.messages.resources.jobs import AttemptView, JobSummary, JobView, StageView

_WAITING = (JobState.QUEUED, JobState.DISPATCHED)
UNWANTED = (Outcome.CANCELLED, Outcome.SUPERSEDED)


def job_summary(
    job: Job,
    stages: Sequence[Mapping[str, Any]],
    graders: Sequence[Grader] | None = None,
    *,
    for_staff: bool,
    student: str | None = None,
    most: Decimal | None = None,
) -> JobSummary:
    """Return a job as an entry of its run.

    Args:
        job: The job.
        stages: Its stages.
        graders: The live graders; None to leave out what the job waits for.
        for_staff: Include its variables, which may be secrets, and its points.
        student: The student that the run names, if any.
        most: The assignment's points, if it has any.
    """
    summary = _summary(job, stages, graders)
    private: Mapping[str, Any] = points_of(final_marks(job), most) if for_staff else {"env": {}}
    return JobSummary(**{**summary, **private, "student": student or summary["student"]})


def job_view(
    job: Job,
    stages: Sequence[Mapping[str, Any]],
    graders: Sequence[Grader] | None = None,
    place: Place | None = None,
    *,
    most: Decimal | None = None,
) -> JobView:
    """Return a job, for staff.

    ``graders`` are the live ones, None to leave out what it waits for. ``most``: the assignment's points.
    """
    marks = final_marks(job)
    results = [StageResult.read(entry) for entry in job.results or []]
    scores = next((result.scores for result in reversed(results) if result.scores), None)
    return JobView(
        **_summary(job, stages, graders),
        run=job.run_id,
        course=job.course,
        assignment=job.assignment,
        generation=job.generation,
        executions=[attempt_view(attempt) for attempt in job.attempts],
        stages=list(_stages(stages, results, "" if job.outcome in UNWANTED else job.reason)),
        **(points_of(marks, most) if marks else _stored(scores)),
        results=scores.document if scores else None,
        queue=queue_view(place) if place else None,
    )


def _stored(scores: Scores | None) -> Points:
    """Return the points of a job that an earlier version has ended."""
    return {"score": scores.score if scores else None, "max_score": scores.max_score if scores else None}


def attempt_view(attempt: Attempt) -> AttemptView:
    return AttemptView(
        id=attempt.execution_id,
        grader=attempt.grader_id,
        generation=attempt.generation,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        outcome=attempt.outcome.value if attempt.outcome else None,
        reason=attempt.reason,
        given_back=attempt.released,
    )


def _summary(job: Job, stages: Sequence[Mapping[str, Any]], graders: Sequence[Grader] | None = None) -> dict[str, Any]:
    return {
        "id": job.id,
        "phase": job.phase.value,
        "state": job.state.value,
        "outcome": job.outcome.value if job.outcome else None,
        "reason": job.reason,
        "fault_phase": job.fault_phase.value if job.fault_phase else None,
        "seconds": job.seconds if job.is_terminal else None,
        "queue_seconds": (job.started_at - job.queued_at).total_seconds() if job.started_at else None,
        "attempts": job.starts,
        "grader": job.grader_id,
        "queued_at": job.queued_at,
        "dispatched_at": job.dispatched_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "env": (stages[-1].get("env") or {}) if stages else {},
        "waits_for": "" if graders is None or job.state not in _WAITING else obstacle(job.pool, job.needs, graders),
        "student": student_of(stages),
    }


def _stages(stages: Sequence[Mapping[str, Any]], results: Sequence[StageResult], reason: str) -> Iterable[StageView]:
    """Yield the stages of a job; ``reason``, the job's own, belongs to the last stage that ran."""
    for index, stage in enumerate(stages):
        image = stage.get("image")
        result = results[index] if index < len(results) else StageResult()
        yield StageView(
            image=image if isinstance(image, str) else None,
            untrusted=bool(stage.get("untrusted")),
            success=result.success,
            killed=result.killed,
            killed_for=result.killed_for,
            exit_code=result.exit_code,
            signal=result.signal,
            out_of_memory=result.out_of_memory,
            started_at=result.started_at,
            finished_at=result.finished_at,
            reason=reason if index == len(results) - 1 else "",
            usage=result.usage.document() if result.usage else None,
            refused_results=result.refused_results,
        )
