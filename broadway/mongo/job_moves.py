"""Changes of stored jobs. An outcome is inserted before its job is updated, all others are conditional updates.

The outcome that is inserted first counts: a process that finds another one in its place completes that one. So a crash
between the two writes is repaired by the next process that moves the job.
"""

from collections.abc import Mapping, Sequence

from broadway.domain.job import Job, JobState
from broadway.domain.moves import Move, Moved
from broadway.domain.result import JobLog
from broadway.domain.settlement import Settlement, key_of
from broadway.mongo.collection import Collection, Document, Documents, Update, object_id, object_ids, update_each
from broadway.mongo.job_documents import difference, job_of
from broadway.mongo.outcomes import Outcomes
from broadway.mongo.work_results import WorkResults
from broadway.runtime import metrics
from broadway.runtime.crashpoints import Point, reach

WITHOUT_BULK = {"stages": 0, "results": 0}
UPDATES = 20  # jobs updated at a time
_MAX_CONFLICTS = 20


class ConflictError(RuntimeError):
    """Other writers changed the same jobs at every try."""


class MovedJobs:
    """Jobs that are moved from state to state, with their outcomes."""

    def __init__(self, collection: Collection, outcomes: Outcomes, results: WorkResults) -> None:
        self._jobs = Documents(collection)
        self._outcomes = outcomes
        self._results = results

    async def get_many(self, job_ids: Sequence[str]) -> dict[str, Job]:
        """Return jobs by id, without stages and results; unknown ids are left out."""
        found = await self._jobs.find_by_ids(object_ids(job_ids), WITHOUT_BULK)
        return {job.id: job for job in await self._joined(found)}

    async def settlements(self, keys: Sequence[str]) -> dict[str, Settlement]:
        """Return outcomes of jobs' generations by key, with their results; unknown keys are left out."""
        return await self._outcomes.with_results(keys)

    async def move(
        self,
        moves: Mapping[str, Move],
        *,
        known: Mapping[str, Job] | None = None,
        logs: Mapping[str, JobLog] | None = None,
    ) -> dict[str, Moved]:
        """Apply moves to jobs by id; return the jobs that exist, before and after.

        Moves must be pure: if another writer has changed a job, its move is called again with the changed job. A job
        for which another outcome has been stored first gets that one.

        Args:
            moves: Moves by job id.
            known: Jobs as the caller has read them, by id, to save a read. If such a job has changed since, its move is
                applied to the stored job; but a move that does not change the known job is not tried on the stored job.
            logs: Logs by execution id, to be stored with the outcomes of these executions.

        Raises:
            ConflictError: Other writers changed the same jobs at every try.
        """
        done: dict[str, Moved] = {}
        pending = list(moves)
        present = dict(known or {})
        if unknown := [job_id for job_id in moves if job_id not in present]:
            present |= await self.get_many(unknown)
        for _ in range(_MAX_CONFLICTS):
            seen = {job_id: Moved(job, moves[job_id](job)) for job_id, job in present.items()}
            done |= {job_id: m for job_id, m in seen.items() if not m.changed}
            changed = [m for m in seen.values() if m.changed]
            written = await self._write(changed, logs or {})
            done |= written
            pending = [m.before.id for m in changed if m.before.id not in written]
            if not pending:
                return done
            present = await self.get_many(pending)
        raise ConflictError(f"{len(pending)} jobs could not be updated, the first is {pending[0]}")

    async def complete(self, jobs: Sequence[Job]) -> dict[str, Moved]:
        """End those of the open jobs whose outcome is stored, and return them before and after.

        The process that stored the outcome has died before it updated the job, or is about to do that.
        """
        settlements = await self._outcomes.get_many([key_of(job.id, job.generation) for job in jobs])
        moved = [Moved(job, settlements[job.id].applied_to(job)) for job in jobs if job.id in settlements]
        return await self._update(moved, settlements)

    async def _write(self, changed: Sequence[Moved], logs: Mapping[str, JobLog]) -> dict[str, Moved]:
        """Store moves of jobs that have not changed since they were read; return them by job id."""
        ending = [Settlement.of(m) for m in changed if m.ends]
        settlements: dict[str, Settlement] = {}
        if ending:
            settlements = await self._outcomes.insert(ending, logs)
            await reach(Point.OUTCOME_INSERTED)
        moved = [
            Moved(m.before, settlements[m.before.id].applied_to(m.before)) if m.before.id in settlements else m
            for m in changed
        ]
        return await self._update(moved, settlements)

    async def _update(self, moved: Sequence[Moved], settlements: Mapping[str, Settlement]) -> dict[str, Moved]:
        """Update jobs; return the moves of those that were updated. ``settlements``: the stored outcomes by job id."""
        if not moved:
            return {}
        if settlements:
            ended = [(m.before, settlements[m.before.id]) for m in moved if m.before.id in settlements]
            await self._results.keep(ended)
            await reach(Point.OUTCOME_OF_WORK_KEPT)
        updates = [_update_of(m, settlements.get(m.before.id)) for m in moved]
        are_written = await update_each(self._jobs, updates, at_a_time=UPDATES)
        written = [m for m, is_written in zip(moved, are_written, strict=True) if is_written]
        metrics.note_moves(written)
        return {m.before.id: m.written for m in written}

    async def _joined(self, documents: Sequence[Document], *, results: bool = False) -> list[Job]:
        """Return the jobs in documents, the finished ones with their outcomes."""
        finished = [document for document in documents if document.get("state") == JobState.FINISHED.value]
        settlements = await self._outcomes.of_finished(finished, results=results) if finished else {}
        jobs = [job_of(document) for document in documents]
        return [settlements[job.id].applied_to(job) if job.id in settlements else job for job in jobs]


def _update_of(moved: Moved, settlement: Settlement | None) -> Update:
    """Return the update of a job: for outcomes with values that many jobs share, so that they become one write."""
    before = moved.before
    if settlement is None:
        return Update(object_id(before.id), {"revision": before.revision}, difference(moved), {"revision": 1})
    is_open = {"generation": settlement.generation, "state": {"$ne": JobState.FINISHED.value}}
    change: Document = {
        "state": JobState.FINISHED.value,
        "outcome": settlement.outcome.value,
        "success": settlement.success,
        "finished_at": settlement.finished_at,
        "not_before": None,
        "lease_expires_at": None,
    }
    if settlement.next_generation != settlement.generation:
        change["generation"] = settlement.next_generation
    return Update(object_id(before.id), is_open, change, {"revision": 1})
