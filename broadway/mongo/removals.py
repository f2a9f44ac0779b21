"""The collection ``removal``: notes of runs and submissions that are removed, and the removal itself, step by step.

A note is written before the first step. It has the ids that the later steps need, until the last step: so a removal
that a crash interrupts is taken on. It then answers requests for the run, its jobs, or the submission, with the time.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.job import Phase
from broadway.domain.parts import in_parts
from broadway.domain.results_of_work import Among
from broadway.domain.retention import NOTED_DAYS, OldJob, OldRun, Removed
from broadway.domain.run import RunState
from broadway.domain.settlement import keys_of
from broadway.domain.submission import UPLOADS, VARIABLE
from broadway.domain.webhook import delivery_key
from broadway.mongo.collection import IDS, Document, Documents, insert_each, object_id, object_ids
from broadway.mongo.job_documents import TYPE
from broadway.mongo.reports import Reports
from broadway.mongo.students import Reference
from broadway.mongo.work_results import queries
from broadway.runtime.crashpoints import Point, reach

UNKNOWN = "?"  # the work of a job of an earlier version, which does not name it; so it stays
_MANY = 400  # runs of a question
_FIRST_SPAN, _LEAST_SPAN = timedelta(hours=4), timedelta(seconds=2)
_OLDEST = datetime(2010, 1, 1, tzinfo=UTC)  # no run is older
_RUN = {"state": 1, "round": 1, "order": 1, "finished_at": 1, "trigger": 1, f"students_env.{VARIABLE}": 1}
_ENDED = [state.value for state in RunState if state.is_terminal]
LOG = dict.fromkeys(("stdout", "stderr", "streams"), "")  # the fields of a log that is stored with an outcome
_TO_DO = dict.fromkeys(("is_open", "keys", "executions", "chunks"), "")


@dataclass(frozen=True, slots=True)
class Removals:
    """Removal of runs with all that belongs to them, and of submissions. Each call is safe to repeat."""

    notes: Documents
    runs: Documents
    students: Documents
    jobs: Documents
    outcomes: Documents
    results: Documents
    logs: Documents
    reports: Reports
    artifacts: Documents
    submissions: Documents
    deliveries: Documents

    @classmethod
    def of(cls, main: AsyncDatabase[dict[str, Any]], logs: AsyncDatabase[dict[str, Any]]) -> Self:
        """Return the removal from two databases."""
        return cls(
            notes=Documents(main["removal"]),
            runs=Documents(main["grading_run"]),
            students=Documents(main["run_students"]),
            jobs=Documents(main["grading_job"]),
            outcomes=Documents(main["job_outcome"]),
            results=Documents(main["work_result"]),
            logs=Documents(logs["job_log"]),
            reports=Reports(main["job_report"], main["report_file"]),
            artifacts=Documents(main["artifact"]),
            submissions=Documents(main["submission"]),
            deliveries=Documents(main["hook_delivery"]),
        )

    async def ensure_indexes(self) -> None:
        await self.notes.create_index("jobs", name="of_job")
        await self.notes.create_index("is_open", name="to_go_on")
        await self.notes.create_index("at", name="to_forget")

    async def old_runs(self, course: str, assignment: str, before: datetime, *, regrade: bool = False) -> list[OldRun]:
        """Return the runs of an assignment that ended before a moment and have no order; or those of its regrades."""
        name = f"{course}/{assignment}{'/@regrade' if regrade else ''}"
        old: list[OldRun] = []
        async for some in self.started_before(name, before, _RUN):
            found = [each for each in some if _is_over(each, before)]
            graded = {str(each["_id"]) for each in found if _grades_works(each)}
            jobs = await self._jobs_of([str(each["_id"]) for each in found], graded)
            runs = [(str(each["_id"]), each.get("round", 1)) for each in found]
            old += [OldRun(run, number, tuple(jobs.get(run, ()))) for run, number in runs]
        return old

    async def runs_of(self, rounds: Mapping[str, int]) -> list[OldRun]:
        """Return runs with their jobs, given the rounds of runs by id."""
        jobs = await self._jobs_of(list(rounds), frozenset())
        return [OldRun(run, number, tuple(jobs.get(run, ()))) for run, number in rounds.items()]

    async def started_before(self, name: str, end: datetime, fields: Document) -> AsyncIterator[list[Document]]:
        """Yield the runs of an assignment that started before a moment, in parts that keep no other caller waiting.

        A part is a span of time. Spans grow while there are few runs in them, and shrink where there are many.
        """
        span = _FIRST_SPAN
        while end > _OLDEST:
            start = max(_OLDEST, end - span)
            query = {"assignment_id": name, "started_at": {"$gte": start, "$lt": end}}
            found = await self.runs.find(query, fields, limit=_MANY if span > _LEAST_SPAN else 0)
            if len(found) == _MANY and span > _LEAST_SPAN:
                span = max(_LEAST_SPAN, span / 4)
                continue
            yield found
            end, span = start, span if len(found) > _MANY / 4 else span * 2

    async def _jobs_of(self, runs: Sequence[str], graded: AbstractSet[str]) -> dict[str, list[OldJob]]:
        """Return the jobs of runs by run; ``graded`` are the runs that grade works."""
        fields = {
            "grading_run_id": 1,
            "generation": 1,
            "execution_id": 1,
            "attempts.execution_id": 1,
            "handed_in.id": 1,
            "type": 1,
        }
        found: dict[str, list[OldJob]] = {}
        for some in in_parts(runs, IDS):
            query = {"grading_run_id": {"$in": list(some)}}
            documents = await self.jobs.find(query, fields)
            keys = [key for each in documents for key in keys_of(str(each["_id"]), each.get("generation", 1))]
            outcomes = await self.outcomes.find_by_ids(
                keys, {"grading_job_id": 1, "execution_id": 1, "attempts.execution_id": 1}
            )
            ended: dict[str, list[Document]] = {}
            for each in outcomes:
                ended.setdefault(each["grading_job_id"], []).append(each)
            for each in documents:
                job = _old_job(each, ended.get(str(each["_id"]), ()), is_graded=each["grading_run_id"] in graded)
                found.setdefault(each["grading_run_id"], []).append(job)
        return found

    async def remove_runs(self, course: str, runs: Sequence[OldRun], now: datetime) -> list[OldRun]:
        """Remove runs that have not changed, with all that belongs to them, at most ``IDS``; return those."""
        documents = await self.runs.find({"_id": {"$in": object_ids(run.id for run in runs)}}, {"students_env": 1})
        rosters = {str(each["_id"]): kept.ids for each in documents if (kept := Reference.of(each))}
        notes = [_note_of_run(course, run, rosters.get(run.id, []), now) for run in runs]
        earlier: Document = {"_id": {"$in": [run.id for run in runs]}, "is_open": None}
        await self.notes.delete_many(earlier)  # of runs that were made again with their idempotency key
        await insert_each(self.notes, notes)
        await reach(Point.RETENTION_NOTED)
        for number in sorted({run.round for run in runs}):
            ids = object_ids(run.id for run in runs if run.round == number)
            rounds = [number, None] if number == 1 else [number]
            unchanged: Document = {"state": {"$in": _ENDED}, "order": None, "round": {"$in": rounds}}
            await self.runs.delete_many({"_id": {"$in": ids}, **unchanged})
        await reach(Point.RETENTION_RUNS_REMOVED)
        await self._end([str(each["_id"]) for each in notes])
        left = {
            str(each["_id"]) for each in await self.runs.find_by_ids(object_ids(run.id for run in runs), {"_id": 1})
        }
        return [run for run in runs if run.id not in left]

    async def go_on(self, limit: int = IDS) -> int:
        """Take on removals of runs that were interrupted, some at a time; return their number."""
        found = await self.notes.find({"is_open": True}, {"_id": 1}, limit=limit)
        await self._end([each["_id"] for each in found])
        return len(found)

    async def _end(self, notes: Sequence[str]) -> None:
        """Remove all that belongs to runs that are gone; drop the notes of those that have changed, and stay."""
        found = await self.notes.find({"_id": {"$in": list(notes)}, "is_open": True})
        runs = object_ids(each["_id"] for each in found)
        staying = [str(each["_id"]) for each in await self.runs.find({"_id": {"$in": runs}}, {"_id": 1})]
        gone = [each for each in found if each["_id"] not in staying]
        jobs = [job for each in gone for job in each["jobs"]]
        keys = [key for each in gone for key in each["keys"]]
        executions = [execution for each in gone for execution in each["executions"]]
        await _delete(self.results, "_id", keys)
        await _delete(self.jobs, "_id", object_ids(jobs))
        await reach(Point.RETENTION_JOBS_REMOVED)
        await _delete(self.outcomes, "_id", keys)
        await _delete(self.logs, "grading_job_id", jobs)
        for some in in_parts(executions, IDS):
            await self.reports.remove_of(some)
        await _delete(self.artifacts, "job", jobs)
        await _delete(self.students, "_id", [chunk for each in gone for chunk in each["chunks"]])
        await self.notes.update_many({"_id": {"$in": [each["_id"] for each in gone]}}, {"$unset": _TO_DO})
        await _delete(self.notes, "_id", staying)

    async def remove_submissions(self, course: str, assignment: str, works: Sequence[str], now: datetime) -> int:
        """Remove submissions, at most ``IDS``, with their deliveries; return their number. Ids of pushes have none."""
        query = {"_id": {"$in": list(works)}, "course": course}
        found = [each["_id"] for each in await self.submissions.find(query, {"_id": 1})]
        notes = [{"_id": each, "kind": "submission", "course": course, "at": now} for each in found]
        if notes:
            await insert_each(self.notes, notes)
        await _delete(self.submissions, "_id", found)
        await reach(Point.RETENTION_SUBMISSIONS_REMOVED)
        await _delete(self.deliveries, "_id", [delivery_key(course, f"{UPLOADS}{assignment}", each) for each in works])
        return len(found)

    async def remove_logs(self, jobs: Sequence[OldJob], now: datetime) -> int:
        """Remove the logs of jobs, at most ``IDS``; return the number of the removed ones."""
        keys = [key for job in jobs for key in keys_of(job.id, job.generation)]
        removed = 0
        for some in in_parts(keys, IDS):
            query = {"_id": {"$in": list(some)}, "stdout": {"$exists": True}}
            change: Document = {"$unset": LOG, "$set": {"log_removed_at": now}}
            removed += (await self.outcomes.update_many(query, change)).modified_count
        ids = [job.id for job in jobs]
        apart = await self.logs.find({"grading_job_id": {"$in": ids}}, {"grading_job_id": 1})
        if apart:
            having = {each["grading_job_id"] for each in apart}
            marked = [key for job in jobs if job.id in having for key in keys_of(job.id, job.generation)]
            await self.outcomes.update_many({"_id": {"$in": marked}}, {"$set": {"log_removed_at": now}})
        return removed + await _delete(self.logs, "grading_job_id", ids)

    async def count_logs(self, jobs: Sequence[OldJob]) -> int:
        """Return the number of logs that jobs have, at most ``IDS`` jobs."""
        keys = [key for job in jobs for key in keys_of(job.id, job.generation)]
        query = {"stdout": {"$exists": True}}
        kept = [
            await self.outcomes.find({"_id": {"$in": list(some)}, **query}, {"_id": 1}) for some in in_parts(keys, IDS)
        ]
        apart = await self.logs.find({"grading_job_id": {"$in": [job.id for job in jobs]}}, {"_id": 1})
        return sum(map(len, kept)) + len(apart)

    async def log_removed_at(self, job_id: str, generation: int) -> datetime | None:
        """Return the time at which the log of a job was removed, or None."""
        found = await self.outcomes.find_by_ids(keys_of(job_id, generation), {"log_removed_at": 1})
        return max((each["log_removed_at"] for each in found if each.get("log_removed_at")), default=None)

    async def received(self, course: str, assignment: str, cuts: Sequence[str] = ()) -> dict[str, tuple[str, datetime]]:
        """Return the students and times of the uploads for an assignment, by id, read in parts between ``cuts``."""
        parts = [
            await self.submissions.find(query, {"student": 1, "at": 1})
            for query in queries(course, assignment, Among(cuts=tuple(cuts)), time="at")
        ]
        return {each["_id"]: (each["student"], each["at"]) for part in parts for each in part}

    async def count_submissions(self, course: str, works: Sequence[str]) -> int:
        """Return how many of some works, at most ``IDS``, are uploads."""
        return len(await self.submissions.find({"_id": {"$in": list(works)}, "course": course}, {"_id": 1}))

    async def noted(self, identity: str, course: str) -> Removed | None:
        """Return the note of a removed run, of the run of a removed job, or of a removed submission of a course."""
        own = {"course": course}
        found = await self.notes.find_one({"_id": {"$eq": identity}, **own})
        if found is None and object_id(identity):
            job = await self.notes.find_one({"jobs": {"$eq": identity}})
            found = {**job, "kind": "job"} if job and job["course"] == course else None
        return Removed(found["kind"], course, found["at"]) if found else None

    async def forget(self, now: datetime) -> None:
        """Drop notes that have been kept long enough."""
        await self.notes.delete_many({"at": {"$lt": now - timedelta(days=NOTED_DAYS)}, "is_open": None})


async def _delete(documents: Documents, name: str, values: Sequence[Any]) -> int:
    """Remove documents by the values of a field, some at a time."""
    parts = in_parts(values, IDS)
    return sum([(await documents.delete_many({name: {"$in": list(part)}})).deleted_count for part in parts])


def _is_over(run: Document, before: datetime) -> bool:
    finished_at = run.get("finished_at")
    return run["state"] in _ENDED and not run.get("order") and finished_at is not None and finished_at < before


def _grades_works(run: Document) -> bool:
    """Return whether a run was started for submissions: its jobs of an earlier version do not name them."""
    envs = run.get("students_env") or ()
    return bool(run.get("trigger")) or isinstance(envs, dict) or any(each.get(VARIABLE) for each in envs)


def _old_job(document: Document, outcomes: Sequence[Document], *, is_graded: bool) -> OldJob:
    known = [document, *outcomes]
    attempts = [attempt["execution_id"] for each in known for attempt in each.get("attempts") or ()]
    executions = {*attempts, *(each["execution_id"] for each in known if each.get("execution_id"))}
    work = (document.get("handed_in") or {}).get("id")
    if work is None and is_graded and document["type"] == TYPE[Phase.STUDENTS]:
        work = UNKNOWN
    return OldJob(str(document["_id"]), document.get("generation", 1), frozenset(executions), work)


def _note_of_run(course: str, run: OldRun, chunks: Sequence[str], now: datetime) -> Document:
    return {
        "_id": run.id,
        "kind": "run",
        "course": course,
        "at": now,
        "jobs": [job.id for job in run.jobs],
        "is_open": True,
        "keys": [key for job in run.jobs for key in keys_of(job.id, job.generation)],
        "executions": sorted({each for job in run.jobs for each in job.executions}),
        "chunks": list(chunks),
    }
