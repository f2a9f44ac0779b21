"""Runs as resources."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from broadway.domain.job import Job, Phase
from broadway.domain.progress import JobProgress, RunProgress, first_undone, last_undone
from broadway.domain.run import Run, RunState
from broadway.ingest.v2.views.jobs import UNWANTED
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
        "success": run.has_succeeded,
        "trigger": None if run.regrade else run.trigger,
        "order": run.order.kind.value if run.order else None,
    }


def run_detail(progress: RunProgress) -> RunDetail:
    """Return a run with its phases."""
    run, jobs = progress.run, progress.jobs
    by_phase = [(phase, [job for job in jobs if job.phase is phase]) for phase in Phase]
    students = sum(job.phase is Phase.STUDENTS for job in jobs)
    return RunDetail(
        **run_fields(run, students=students),
        reason=_why(progress),
        phases=[_phase(phase, own, progress.reasons) for phase, own in by_phase if own],
    )


def submitter(run: Run, job: Job) -> str | None:
    """Return the student whose submission started the run, for a student's job."""
    return run.trigger.get("student") if run.trigger and job.phase is Phase.STUDENTS else None


def _why(progress: RunProgress) -> str:
    """Return the reason why a run has not succeeded; empty if it has, or is not over."""
    if progress.run.is_ungraded:
        return f"every student's job ended as an infrastructure error: {_why_failed(progress)}"
    return _why_failed(progress) if progress.run.state is RunState.FAILED else ""


def _phase(phase: Phase, jobs: Sequence[JobProgress], reasons: Mapping[str, str]) -> PhaseView:
    started = [job.started_at for job in jobs if job.started_at]
    ended = [job.finished_at for job in jobs if job.is_terminal and job.finished_at]
    undone = first_undone(jobs)
    is_over = len(ended) == len(jobs)
    return PhaseView(
        phase=phase.value,
        state="finished" if is_over else "running" if started else "queued",
        jobs=len(jobs),
        outcomes=Counter(job.outcome.value for job in jobs if job.outcome),
        queued_at=min(job.queued_at for job in jobs),
        started_at=min(started, default=None),
        finished_at=max(ended) if is_over else None,
        reason=_reason(undone, reasons) if undone else "",
    )


def _why_failed(progress: RunProgress) -> str:
    """Return the reason of the job that ended last without success: a run goes on after earlier ones."""
    last = last_undone(progress.jobs)
    if last is None:
        return ""
    reason = _reason(last, progress.reasons)
    return reason if last.outcome in UNWANTED else f"{last.phase.value}: {reason}"


def _reason(job: JobProgress, reasons: Mapping[str, str]) -> str:
    """Return the reason of a job's outcome, or the outcome if no reason is stored, as in the original's jobs."""
    return reasons.get(job.id) or (job.outcome.value if job.outcome else "")
