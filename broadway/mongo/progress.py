"""The progress of runs: few fields of many jobs, which cost half of what whole documents cost."""

from collections.abc import Collection as Container
from collections.abc import Sequence
from dataclasses import replace

from broadway.domain.job import Outcome
from broadway.domain.progress import JobProgress
from broadway.mongo.collection import Collection, Document, Documents, object_ids
from broadway.mongo.job_documents import OPEN, PHASE, TYPE, outcome_of, state_of
from broadway.mongo.outcomes import Outcomes

_FIELDS = (
    *("type", "index", "state", "outcome", "success"),
    *("queued_at", "started_at", "finished_at", "generation"),
)
_PROJECTION = dict.fromkeys(_FIELDS, 1)
_OF_OPEN = dict.fromkeys(("state", "started_at"), 1)  # the fields of an open job that change within a round
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
        self, run_id: str, earlier: Sequence[JobProgress], lasting: Container[str]
    ) -> list[JobProgress]:
        """Return the progress of a run's jobs after an earlier read, in the same round of the run.

        Args:
            run_id: The run.
            earlier: All its jobs as the earlier read has found them.
            lasting: The ids of those that cannot have changed, which are not read.
        """
        # Equal to a bare value: for ``$eq`` the embedded store does not use both fields of the index.
        stored = await self._jobs.find({"grading_run_id": run_id, "state": {"$in": OPEN}}, _OF_OPEN)
        known = {job.id: job for job in earlier}
        opened = {str(each["_id"]): each for each in stored}
        still = [each for identity, each in opened.items() if identity in known and identity not in lasting]
        # New ones, ended ones, and those that an order has opened meanwhile.
        moved = [identity for identity in opened if identity not in known or identity in lasting]
        moved += [identity for identity in known if identity not in opened and identity not in lasting]
        if len(moved) > MOST_BY_ID:
            return await self.of_run(run_id)
        read = await self._joined(await self._jobs.find_by_ids(object_ids(moved), _PROJECTION)) if moved else []
        kept = [known[identity] for identity in lasting if identity not in opened]
        jobs = [*(_still_open(known[str(each["_id"])], each) for each in still), *kept, *read]
        return sorted(jobs, key=_in_roster_order)

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


def _still_open(earlier: JobProgress, document: Document) -> JobProgress:
    """Return an open job after an earlier read: the same object if it has not changed."""
    state, started_at = state_of(document), document.get("started_at")
    is_same = (state, started_at) == (earlier.state, earlier.started_at)
    return earlier if is_same else replace(earlier, state=state, started_at=started_at)


_PLACES = {phase: place for place, phase in enumerate(TYPE)}


def _in_roster_order(job: JobProgress) -> tuple[object, ...]:
    """Return a sort key, as ``job_documents.in_roster_order``."""
    return (_PLACES[job.phase], job.index, job.queued_at, job.id)
