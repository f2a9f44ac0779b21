"""The progress of runs: few fields of many jobs, which cost half of what whole documents cost."""

from collections.abc import Sequence

from broadway.domain.job import JobState, Outcome
from broadway.domain.progress import JobProgress
from broadway.mongo.collection import Collection, Document, Documents, object_ids
from broadway.mongo.job_documents import PHASE, TYPE, outcome_of, state_of
from broadway.mongo.outcomes import Outcomes

_FIELDS = (
    *("type", "index", "state", "outcome", "success"),
    *("queued_at", "started_at", "finished_at", "generation"),
)
_PROJECTION = dict.fromkeys(_FIELDS, 1)
_OPEN = [state.value for state in JobState if state is not JobState.FINISHED]
MOST_BY_ID = 200  # jobs read one by one; if more have ended since, all jobs of the run are read


class Progress:
    """The progress of the jobs of runs."""

    def __init__(self, jobs: Collection, outcomes: Outcomes) -> None:
        self._jobs = Documents(jobs)
        self._outcomes = outcomes

    async def of_run(self, run_id: str) -> list[JobProgress]:
        """Return the progress of a run's jobs, in the order of phases and of the roster."""
        found = await self._jobs.find({"grading_run_id": {"$eq": run_id}}, _PROJECTION)
        return sorted(await self._joined(found), key=_in_roster_order)

    async def of_run_again(
        self, run_id: str, lasting: Sequence[JobProgress], others: Sequence[str]
    ) -> list[JobProgress]:
        """Return the progress of a run's jobs after an earlier read.

        Args:
            run_id: The run.
            lasting: Jobs of the earlier read that cannot have changed; they are returned as they are.
            others: The ids of its other jobs.
        """
        # Equal to a bare value: for ``$eq`` the embedded store does not use both fields of the index.
        found = await self._jobs.find({"grading_run_id": run_id, "state": {"$in": _OPEN}}, _PROJECTION)
        known = {str(each["_id"]) for each in found}
        ended = [each for each in others if each not in known]
        if len(ended) > MOST_BY_ID:
            return await self.of_run(run_id)
        if ended:
            found += await self._jobs.find_by_ids(object_ids(ended), _PROJECTION)
        again = await self._joined(found)
        ids = {job.id for job in again}
        return sorted([*again, *(job for job in lasting if job.id not in ids)], key=_in_roster_order)

    async def _joined(self, found: Sequence[Document]) -> list[JobProgress]:
        """Return the jobs of documents, with the times of their starts."""
        # A job that ended before its start was stored has the time of that with its outcome only.
        unknown = [each for each in found if each.get("finished_at") and not each.get("started_at")]
        starts = await self._outcomes.starts(unknown) if unknown else {}
        return [
            _progress({**each, "started_at": starts.get(str(each["_id"]))})
            if each.get("started_at") is None and starts
            else _progress(each)
            for each in found
        ]


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
