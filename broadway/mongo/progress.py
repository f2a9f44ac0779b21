"""The progress of runs: few fields of many jobs, which cost half of what whole documents cost."""

from broadway.domain.job import Outcome
from broadway.domain.progress import JobProgress
from broadway.mongo.collection import Collection, Document, Documents
from broadway.mongo.job_documents import PHASE, TYPE, outcome_of, state_of
from broadway.mongo.outcomes import Outcomes

_FIELDS = (
    *("type", "index", "state", "outcome", "success"),
    *("queued_at", "started_at", "finished_at", "generation"),
)
_PROJECTION = dict.fromkeys(_FIELDS, 1)


class Progress:
    """The progress of the jobs of runs."""

    def __init__(self, jobs: Collection, outcomes: Outcomes) -> None:
        self._jobs = Documents(jobs)
        self._outcomes = outcomes

    async def of_run(self, run_id: str) -> list[JobProgress]:
        """Return the progress of a run's jobs, in the order of phases and of the roster."""
        found = await self._jobs.find({"grading_run_id": {"$eq": run_id}}, _PROJECTION)
        # A job that ended before its start was stored has the time of that with its outcome only.
        unknown = [each for each in found if each.get("finished_at") and not each.get("started_at")]
        starts = await self._outcomes.starts(unknown) if unknown else {}
        jobs = [
            _progress({**each, "started_at": each.get("started_at") or starts.get(str(each["_id"]))}) for each in found
        ]
        return sorted(jobs, key=_in_roster_order)


def _progress(document: Document) -> JobProgress:
    outcome: Outcome | None = outcome_of(document)
    return JobProgress(
        id=str(document["_id"]),
        phase=PHASE[document["type"]],
        index=document.get("index", 0),
        state=state_of(document),
        queued_at=document.get("queued_at") or document["_id"].generation_time,
        started_at=document.get("started_at"),
        finished_at=document.get("finished_at"),
        outcome=outcome,
        success=document.get("success"),
    )


_PLACES = {phase: place for place, phase in enumerate(TYPE)}


def _in_roster_order(job: JobProgress) -> tuple[object, ...]:
    """Return a sort key, as ``job_documents.in_roster_order``."""
    return (_PLACES[job.phase], job.index, job.queued_at, job.id)
