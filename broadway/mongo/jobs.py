"""The collection ``grading_job``, the authoritative state of every job."""

from collections.abc import Sequence
from datetime import datetime

from bson import ObjectId
from pymongo import UpdateOne

from broadway.domain.job import Job, JobClass, JobState, Outcome, Phase
from broadway.domain.parts import in_parts
from broadway.domain.pool_load import StoredLoad
from broadway.domain.run import JobOutline, PlannedJob
from broadway.domain.waiting_time import Pace
from broadway.mongo.assignments import check_storable
from broadway.mongo.collection import IDS, Collection, Document, insert_each, object_id, object_ids
from broadway.mongo.job_documents import (
    BEFORE_START,
    PHASE,
    TYPE,
    in_roster_order,
    job_of,
    planned_document,
    staged,
    state_of,
)
from broadway.mongo.job_moves import UPDATES, WITHOUT_BULK, MovedJobs
from broadway.mongo.open_phases import OpenPhases
from broadway.mongo.outcomes import Outcomes
from broadway.mongo.paces import load_of_pool, pace_of
from broadway.mongo.waiting import WaitingJobs
from broadway.mongo.work_results import WorkResults

_OUTLINE = {"type": 1, "index": 1, "state": 1, "started_at": 1, "finished_at": 1, "generation": 1, "success": 1}
_INSERTS = 200  # jobs written at a time


class Jobs(MovedJobs, WaitingJobs):
    """Grading jobs by id."""

    def __init__(self, collection: Collection, outcomes: Outcomes, results: WorkResults) -> None:
        MovedJobs.__init__(self, collection, outcomes, results)
        self._open_phases = OpenPhases(self._jobs)
        self._last_waiting: dict[str, ObjectId] = {}  # a job of each pool that waited when it was looked for

    async def ensure_indexes(self) -> None:
        # Each index makes state changes more expensive: these three serve all queries.
        await self._jobs.create_index([("grading_run_id", 1), ("state", 1)], name="by_run")
        await self._jobs.create_index([("state", 1), ("pool", 1), ("queued_at", 1)], name="by_pool")
        await self._jobs.create_index([("course", 1), ("state", 1), ("class", 1), ("queued_at", 1)], name="backlog")

    def check(self, planned: Sequence[PlannedJob]) -> None:
        """Check that jobs can be stored.

        Raises:
            UnstorableError: MongoDB would refuse one of the jobs.
        """
        for plan in planned:
            check_storable(planned_document(plan))

    async def insert(self, planned: Sequence[PlannedJob]) -> None:
        """Store new jobs; a stored job with the same id stays as it is."""
        for some in in_parts(planned, _INSERTS):
            await insert_each(self._jobs, [planned_document(plan) for plan in some])

    async def get(self, job_id: str) -> Job | None:
        identity = object_id(job_id)
        document = await self._jobs.find_one({"_id": identity}, {"stages": 0}) if identity else None
        return (await self._joined([document], results=True))[0] if document else None

    async def stages(self, job_ids: Sequence[str]) -> dict[str, list[Document]]:
        """Return the stages of jobs, with their merged environments, by id; unknown ids are left out."""
        found = await self._jobs.find_by_ids(object_ids(job_ids), {"stages": 1})
        return {str(document["_id"]): document.get("stages") or [] for document in found}

    async def with_stages(self, job_ids: Sequence[str]) -> dict[str, tuple[Job, list[Document]]]:
        """Return jobs with their stages by id, without results; unknown ids are left out."""
        found = await self._jobs.find_by_ids(object_ids(job_ids), {"results": 0})
        return {str(document["_id"]): (job_of(document), document.get("stages") or []) for document in found}

    async def with_results(self, job_ids: Sequence[str]) -> dict[str, Job]:
        """Return jobs by id with their results, without stages; unknown ids are left out."""
        found = await self._jobs.find_by_ids(object_ids(job_ids), {"stages": 0})
        return {job.id: job for job in await self._joined(found, results=True)}

    async def restage(self, planned: Sequence[PlannedJob]) -> None:
        """Replace the stages of stored jobs."""
        for some in in_parts(planned, UPDATES):
            writes = [UpdateOne({"_id": object_id(plan.job.id)}, {"$set": staged(plan)}) for plan in some]
            await self._jobs.bulk_write(writes, ordered=False)

    async def of_run(self, run_id: str) -> list[Job]:
        """Return a run's jobs in the order of phases and of the roster, without stages and results."""
        found = await self._jobs.find({"grading_run_id": {"$eq": run_id}}, WITHOUT_BULK)
        return sorted(await self._joined(found), key=in_roster_order)

    async def of_runs(self, run_ids: Sequence[str]) -> dict[str, list[Job]]:
        """Return the jobs of runs by run, in the order of phases and of the roster, without stages and results."""
        found = [
            each
            for some in in_parts(run_ids, IDS)
            for each in await self._jobs.find({"grading_run_id": {"$in": list(some)}}, WITHOUT_BULK)
        ]
        jobs: dict[str, list[Job]] = {}
        for job in sorted(await self._joined(found), key=in_roster_order):
            jobs.setdefault(job.run_id, []).append(job)
        return jobs

    async def outlines_of_run(self, run_id: str) -> list[JobOutline]:
        """Return the outlines of a run's jobs, in the order of phases and of the roster."""
        found = await self._jobs.find({"grading_run_id": {"$eq": run_id}}, _OUTLINE)
        outlines = [
            JobOutline(
                id=str(document["_id"]),
                phase=PHASE[document["type"]],
                index=document.get("index", 0),
                state=state_of(document),
                generation=document.get("generation", 1),
                success=bool(document.get("success")),
            )
            for document in found
        ]
        return sorted(outlines, key=lambda outline: (list(TYPE).index(outline.phase), outline.index, outline.id))

    async def stages_of_run(self, run_id: str) -> dict[str, list[Document]]:
        """Return the stages of each job of a run, by job id."""
        found = await self._jobs.find({"grading_run_id": {"$eq": run_id}}, {"stages": 1})
        return {str(document["_id"]): document.get("stages") or [] for document in found}

    async def renew_leases(
        self, execution_ids: Sequence[str], job_ids: Sequence[str], until: datetime, *, unless_after: datetime
    ) -> None:
        """Extend the leases of running executions, unless they end after ``unless_after``."""
        if not execution_ids:
            return
        await self._jobs.update_many(
            {
                "_id": {"$in": object_ids(job_ids)},
                "state": JobState.RUNNING.value,
                "execution_id": {"$in": list(execution_ids)},
                "lease_expires_at": {"$lte": unless_after},
            },
            {"$set": {"lease_expires_at": until}},
        )

    async def held_by(self, grader_id: str) -> list[Job]:
        """Return the jobs that are stored as running on a grader."""
        found = await self._jobs.find({"state": JobState.RUNNING.value, "worker_id": {"$eq": grader_id}}, WITHOUT_BULK)
        return [job_of(document) for document in found]

    async def are_any_waiting(self, pool: str) -> bool:
        """Return whether a pool has a job that no grader has taken."""
        last = self._last_waiting.get(pool)
        if last and await self._jobs.find_one({"_id": last, "state": {"$in": list(BEFORE_START)}}, {"_id": 1}):
            return True
        for state in BEFORE_START:
            # The embedded store reads all jobs that match; the job that came last waits longest.
            query: Document = {"state": state, "pool": {"$eq": pool}}
            if found := await self._jobs.find_one(query, {"_id": 1}, sort=[("queued_at", -1)]):
                self._last_waiting[pool] = found["_id"]
                return True
        return False

    async def expired(self, now: datetime, *, limit: int) -> list[Job]:
        """Return running jobs whose lease has expired, the earliest expired first."""
        query = {"state": JobState.RUNNING.value, "lease_expires_at": {"$lt": now}}
        return await self._some(query, sort="lease_expires_at", limit=limit)

    async def dispatched_before(self, moment: datetime, *, limit: int) -> list[Job]:
        """Return jobs that were dispatched before a moment and are not stored as started, oldest first."""
        query = {"state": JobState.DISPATCHED.value, "dispatched_at": {"$lt": moment}}
        return await self._some(query, sort="dispatched_at", limit=limit)

    async def queued_of_run(self, run_id: str, phase: Phase) -> list[Job]:
        """Return the queued jobs of a phase, in the roster's order."""
        found = await self._jobs.find({"grading_run_id": run_id, "state": JobState.QUEUED.value}, WITHOUT_BULK)
        return sorted((job for job in map(job_of, found) if job.phase is phase), key=in_roster_order)

    async def queued(self, course: str, job_class: JobClass, *, limit: int, unless_of: Sequence[str] = ()) -> list[Job]:
        """Return queued jobs of a course and class, oldest first, without those of the runs ``unless_of``."""
        queued, rest = _backlog(course, job_class), {"grading_run_id": {"$nin": list(unless_of)}}
        if not unless_of:
            return await self._some(queued, sort="queued_at", limit=limit)
        found = await self._jobs.find_among(queued, rest, sort="queued_at", limit=limit, without=WITHOUT_BULK)
        return [job_of(document) for document in found]

    async def count_queued(self, course: str, job_class: JobClass, *, unless_of: Sequence[str] = ()) -> int:
        """Return the number of queued jobs of a course and class, without those of the runs ``unless_of``."""
        queued = _backlog(course, job_class)
        if not unless_of:
            return await self._jobs.count_documents(queued)
        return await self._jobs.count_among(queued, {"grading_run_id": {"$nin": list(unless_of)}})

    async def count_open(self, course: str, job_class: JobClass, state: JobState) -> int:
        """Return the number of jobs of a course and class in a state."""
        query = {"course": {"$eq": course}, "state": state.value, "class": job_class.value}
        return await self._jobs.count_documents(query)

    async def count_backlog(self, course: str) -> int:
        """Return the number of a course's jobs that are queued."""
        return await self._jobs.count_documents({"course": course, "state": JobState.QUEUED.value})

    async def _some(self, query: Document, *, sort: str, limit: int) -> list[Job]:
        found = await self._jobs.find(query, WITHOUT_BULK, sort=[(sort, 1)], limit=limit)
        return [job_of(document) for document in found]

    async def pace(self, course: str, now: datetime) -> Pace:
        """Return the pace of a course: of its running jobs, and of some recent ones of each class."""
        return await pace_of(self._jobs, self._outcomes, course, now)

    async def load_of_pool(self, pool: str, now: datetime) -> StoredLoad:
        """Return the load of a pool by its stored jobs, of which a bounded number is counted."""
        return await load_of_pool(self._jobs, self._outcomes, pool, now)

    async def courses_with_backlog(self) -> list[str]:
        """Return ids of courses with queued jobs, whether they are registered or not."""
        found: list[str] = await self._jobs.distinct("course", {"state": JobState.QUEUED.value})
        return found

    async def count(self, run_id: str, phase: Phase) -> int:
        """Return the number of stored jobs of a phase."""
        return await self._jobs.count_documents({"grading_run_id": run_id, "type": TYPE[phase]})

    async def is_phase_open(self, run_id: str, phase: Phase) -> bool:
        """Return whether a phase of a run has a stored job that has not finished."""
        return (await self.are_phases_open([(run_id, phase)]))[0]

    async def are_phases_open(self, phases: Sequence[tuple[str, Phase]]) -> list[bool]:
        """Return for each phase of a run whether it has a stored job that has not finished."""
        are_open = await self._open_phases.among(phases)
        return [phase in are_open for phase in phases]

    async def has_phase_succeeded(self, run_id: str, phase: Phase) -> bool:
        """Return whether every stored job of a phase has succeeded."""
        found = await self._jobs.find_one(
            {"grading_run_id": run_id, "type": TYPE[phase], "success": {"$ne": True}}, {"_id": 1}
        )
        return found is None

    async def is_ungraded(self, run_id: str) -> bool:
        """Return whether a run has students' jobs, and each of them ended as an infrastructure error."""
        of_students = {"grading_run_id": run_id, "type": TYPE[Phase.STUDENTS]}
        first = await self._jobs.find_one(of_students, {"outcome": 1})
        if first is None or first.get("outcome") != Outcome.INFRASTRUCTURE_ERROR.value:
            return False  # as nearly always
        graded = {**of_students, "outcome": {"$ne": Outcome.INFRASTRUCTURE_ERROR.value}}
        return await self._jobs.find_one(graded, {"_id": 1}) is None


def _backlog(course: str, job_class: JobClass) -> Document:
    return {"course": course, "state": JobState.QUEUED.value, "class": job_class.value}
