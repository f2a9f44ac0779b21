"""Documents of the collection ``grading_job``: jobs as they are stored, and as they are read."""

from dataclasses import asdict, fields
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from broadway.domain.handed_in import HandedIn
from broadway.domain.job import Attempt, FaultPhase, Job, JobClass, JobState, Outcome, Phase
from broadway.domain.marks import Marks
from broadway.domain.moves import Moved
from broadway.domain.report import Source, Visibility, shown
from broadway.domain.run import PlannedJob
from broadway.mongo.collection import Document, object_id

TYPE = {
    Phase.PRE_PROCESSING: "pre processing job",
    Phase.STUDENTS: "student grading job",
    Phase.POST_PROCESSING: "post processing job",
}
BEFORE_START = (JobState.QUEUED.value, JobState.DISPATCHED.value)  # earlier versions store DISPATCHED
OPEN = [state.value for state in JobState if state is not JobState.FINISHED]
PHASE = {text: phase for phase, text in TYPE.items()}

# Fields of a Job that are stored under another name.
_STORED_AS = {"run_id": "grading_run_id", "phase": "type", "job_class": "class", "grader_id": "worker_id"}


def document_of(job: Job) -> Document:
    document = {_STORED_AS.get(f.name, f.name): _value(f.name, getattr(job, f.name)) for f in fields(job)}
    document["_id"] = object_id(document.pop("id"))
    if not document["needs"]:
        del document["needs"]
    if job.handed_in is None:
        del document["handed_in"]
    return document


def planned_document(plan: PlannedJob) -> Document:
    return {**document_of(plan.job), "stages": plan.stages, "students": None}


def staged(plan: PlannedJob) -> Document:
    """Return the fields of a job that follow from its config."""
    handed_in = plan.job.handed_in
    fields_: Document = {"stages": plan.stages, "needs": list(plan.job.needs)}
    return fields_ | ({"handed_in": handed_in_document(handed_in)} if handed_in else {})


def difference(moved: Moved) -> Document:
    changed = {
        f.name: new
        for f in fields(Job)
        if f.name not in ("id", "revision")
        and (new := getattr(moved.after, f.name)) is not getattr(moved.before, f.name)
    }
    return {_STORED_AS.get(name, name): _value(name, value) for name, value in changed.items()}


def _value(name: str, value: Any) -> Any:
    if name == "phase":
        return TYPE[value]
    if name == "attempts":
        return [attempt_document(attempt) for attempt in value]
    if name == "marks":
        return None if value is None else _marks_document(value)
    if name == "handed_in":
        return None if value is None else handed_in_document(value)
    if name == "results":
        return None if value is None else list(value)
    return value.value if isinstance(value, Enum) else value


def attempt_document(attempt: Attempt) -> Document:
    document = {f.name: _value(f.name, getattr(attempt, f.name)) for f in fields(attempt)}
    if not document["redelivered"]:
        del document["redelivered"]
    if document["marks"] is None:
        del document["marks"]
    return document


def handed_in_document(handed_in: HandedIn) -> Document:
    return asdict(handed_in)


def handed_in_of(document: Document | None) -> HandedIn | None:
    """Return the stored work of a job; None for a job of an earlier version, and for one that grades no work."""
    if document is None:
        return None
    config, regrade = document.get("config", ""), document.get("regrade", "")
    return HandedIn(document["id"], document["student"], document["at"], config, regrade)


def _marks_document(marks: Marks) -> Document:
    """Return marks for storing: empty without a report; points as text, which is exact."""
    if marks.source is None:
        return {}
    return {
        "source": marks.source.value,
        "score": None if marks.score is None else shown(marks.score),
        "max": None if marks.max is None else shown(marks.max),
        "gradable": marks.gradable,
        "visibilities": [each.value for each in marks.visibilities],
    }


def _marks_of(document: Document | None) -> Marks | None:
    """Return stored marks; None for an attempt whose end an earlier version recorded."""
    if not document:
        return None if document is None else Marks()
    score, limit = document["score"], document["max"]
    return Marks(
        source=Source(document["source"]),
        score=None if score is None else Decimal(score),
        max=None if limit is None else Decimal(limit),
        gradable=document["gradable"],
        visibilities=tuple(map(Visibility, document["visibilities"])),
    )


def job_of(document: Document) -> Job:
    """Return a job from its document; documents of the original system lack most fields."""
    return Job(
        id=str(document["_id"]),
        run_id=document["grading_run_id"],
        course=document.get("course", ""),
        assignment=document.get("assignment", ""),
        phase=PHASE[document["type"]],
        index=document.get("index", 0),
        job_class=JobClass(document.get("class", JobClass.BULK)),
        pool=document.get("pool", "default"),
        queued_at=document.get("queued_at") or document["_id"].generation_time,
        generation=document.get("generation", 1),
        round=document.get("round", 1),
        revision=document.get("revision", 0),
        state=state_of(document),
        not_before=document.get("not_before"),
        traceparent=document.get("traceparent"),
        dispatched_at=document.get("dispatched_at"),
        started_at=document.get("started_at"),
        finished_at=document.get("finished_at"),
        lease_expires_at=document.get("lease_expires_at"),
        attempts=tuple(attempt_of(a) for a in document.get("attempts") or []),
        execution_id=document.get("execution_id"),
        grader_id=document.get("worker_id"),
        outcome=outcome_of(document),
        reason=document.get("reason") or "",
        fault_phase=FaultPhase(phase) if (phase := document.get("fault_phase")) else None,
        success=document.get("success"),
        results=document.get("results"),
        needs=tuple(document.get("needs") or ()),
        handed_in=handed_in_of(document.get("handed_in")),
    )


def state_of(document: Document) -> JobState:
    if "state" in document:
        return JobState(document["state"])
    if document.get("finished_at"):
        return JobState.FINISHED
    return JobState.RUNNING if document.get("started_at") else JobState.QUEUED


def outcome_of(document: Document) -> Outcome | None:
    if document.get("outcome"):
        return Outcome(document["outcome"])
    if state_of(document) is JobState.FINISHED:
        return Outcome.SUCCEEDED if document.get("success") else Outcome.FAILED
    return None


def attempt_of(document: Document) -> Attempt:
    outcome = document.get("outcome")
    return Attempt(
        execution_id=document["execution_id"],
        grader_id=document["grader_id"],
        started_at=document["started_at"],
        ended_at=document.get("ended_at"),
        outcome=Outcome(outcome) if outcome else None,
        reason=document.get("reason") or "",
        released=document.get("released", False),
        deadline=document.get("deadline"),
        generation=document.get("generation", 1),
        redelivered=document.get("redelivered", False),
        marks=_marks_of(document.get("marks")),
    )


def in_roster_order(job: Job) -> tuple[int, int, datetime, str]:
    """Return a sort key. Jobs of the original system lack an index and often share a millisecond; their ids ascend."""
    return (list(TYPE).index(job.phase), job.index, job.queued_at, job.id)
