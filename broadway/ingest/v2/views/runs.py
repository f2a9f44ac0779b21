"""Runs as resources."""

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from broadway.domain.job import Job, Phase
from broadway.domain.run import Run, RunState
from broadway.ingest.v2.views.jobs import UNWANTED, job_summary
from broadway.messages.resources.runs import PhaseView, RunDetail


def run_fields(run: Run, *, students: int | None = None) -> dict[str, Any]:
    """Return the fields that all views of a run share."""
    return {
        "id": run.id,
        "course": run.course,
        "assignment": run.assignment,
        "state": run.state.slug,
        "round": run.round,
        "students": students,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "success": run.success,
        "trigger": run.trigger,
        "order": run.order.kind.value if run.order else None,
    }


def run_detail(run: Run, jobs: Sequence[Job], stages: Mapping[str, Sequence[Mapping[str, Any]]]) -> RunDetail:
    """Return a run with its jobs, which are in the order of phases; ``stages`` are keyed by job id."""
    by_phase = [(phase, [job for job in jobs if job.phase is phase]) for phase in Phase]
    students = sum(job.phase is Phase.STUDENTS for job in jobs)
    return RunDetail(
        **run_fields(run, students=students),
        reason=_why_failed(jobs) if run.state is RunState.FAILED else "",
        phases=[_phase(phase, own) for phase, own in by_phase if own],
        jobs=[job_summary(job, stages.get(job.id, [])) for job in jobs],
    )


def _phase(phase: Phase, jobs: Sequence[Job]) -> PhaseView:
    started = [job.started_at for job in jobs if job.started_at]
    ended = [job.finished_at for job in jobs if job.is_terminal and job.finished_at]
    undone = [job for job in jobs if job.is_terminal and not job.success]
    is_over = len(ended) == len(jobs)
    return PhaseView(
        phase=phase.value,
        state="finished" if is_over else "running" if started else "queued",
        jobs=len(jobs),
        outcomes=Counter(job.outcome.value for job in jobs if job.outcome),
        queued_at=min(job.queued_at for job in jobs),
        started_at=min(started, default=None),
        finished_at=max(ended) if is_over else None,
        reason=_reason(undone[0]) if undone else "",
    )


def _why_failed(jobs: Sequence[Job]) -> str:
    """Return the reason of the job that ended last without success: a run goes on after earlier ones."""
    undone = [(job.finished_at, job) for job in jobs if job.finished_at and not job.success]
    if not undone:
        return ""
    _, last = max(undone, key=itemgetter(0))
    return _reason(last) if last.outcome in UNWANTED else f"{last.phase.value}: {_reason(last)}"


def _reason(job: Job) -> str:
    """Return the reason of a job's outcome, or the outcome if no reason is stored, as in the original's jobs."""
    return job.reason or (job.outcome.value if job.outcome else "")
