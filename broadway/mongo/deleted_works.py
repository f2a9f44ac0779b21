"""Removal of one student's works: submissions, runs with all that belongs to them, and jobs of runs over a roster.

A run of this student alone is removed as retention removes it. In any other run the student's entry and job stay, at
their places, without anything that is the student's: so the entries of others keep their positions, and the numbers of
the run stay right. The entry goes last, since it leads to the job.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.deletion import ERASED, Deletion, positions
from broadway.domain.files import PART
from broadway.domain.job import Phase
from broadway.domain.parts import in_parts
from broadway.domain.run import RunState
from broadway.domain.settlement import key_of, keys_of
from broadway.domain.submission import STUDENT
from broadway.mongo.blobs import UNUSED_FOR
from broadway.mongo.collection import IDS, Document, Documents, below, object_id, object_ids
from broadway.mongo.job_documents import OPEN, TYPE
from broadway.mongo.removals import LOG, Removals
from broadway.mongo.students import Reference
from broadway.runtime.crashpoints import Point, reach

_ENV = "students_env"
_RUN = dict.fromkeys(
    ("state", "round", "order", "regrade", *(f"{_ENV}.{name}" for name in ("token", "chunks", "students", STUDENT))), 1
)
_AHEAD = timedelta(days=1)  # clocks differ


@dataclass(slots=True)
class Found:
    """A run in which the student is: whether no other is in it, whether it has ended, the student's places and jobs."""

    run: str
    round: int = 1
    is_own: bool = False
    is_over: bool = True
    is_stored: bool = True
    places: Sequence[int] = ()
    reference: Reference | None = None
    jobs: dict[str, bool] = field(default_factory=dict)  # by id: whether it is open

    @property
    def open_jobs(self) -> list[str]:
        """The ids of the student's jobs that have not ended."""
        return [job for job, is_open in self.jobs.items() if is_open]


@dataclass(frozen=True, slots=True)
class DeletedWorks:
    """Removal of works by student. Each call is safe to repeat."""

    removals: Removals
    assignments: Documents
    blobs: Documents

    @classmethod
    def of(cls, main: AsyncDatabase[dict[str, Any]], logs: AsyncDatabase[dict[str, Any]]) -> Self:
        """Return the removal from two databases."""
        return cls(Removals.of(main, logs), Documents(main["assignment_config"]), Documents(main["blob"]))

    async def names(self, course: str) -> list[str]:
        """Return the names of a course's assignments."""
        found = await self.assignments.find(below(course), {"_id": 1})
        return sorted(str(each["_id"]).partition("/")[2] for each in found)

    async def runs(self, who: Deletion) -> list[Found]:
        """Return the runs in which a student is."""
        jobs = await self._known_jobs(who)
        found: dict[str, Found] = {}
        for assignment in await self.names(who.course):
            for name in (f"{who.course}/{assignment}", f"{who.course}/{assignment}/@regrade"):
                async for some in self.removals.started_before(name, datetime.now(UTC) + _AHEAD, _RUN):
                    for document in some:
                        run = await self._found(who, document)
                        if run.places or run.run in jobs:
                            found[run.run] = run
        for identity in jobs.keys() - found.keys():
            found[identity] = Found(identity, is_own=True, is_stored=False)
        for each in found.values():
            await self._add_jobs(each, jobs.get(each.run, set()))
        return list(found.values())

    async def _known_jobs(self, who: Deletion) -> dict[str, set[str]]:
        """Return the student's jobs with results, and those that are open, by run."""
        query: Document = {"course": who.course, "student": {"$in": list(who.names)}}
        keys = [each["_id"] for each in await self.removals.results.find(query, {"_id": 1})]
        fields = {"grading_run_id": 1, "handed_in.student": 1}
        jobs = object_ids(sorted({str(key).partition(":")[0] for key in keys}))
        documents = await self.removals.jobs.find_by_ids(jobs, fields)
        is_open = {"course": who.course, "state": {"$in": OPEN}}
        for each in await self.removals.jobs.find(is_open, fields):
            if (each.get("handed_in") or {}).get("student") in who.names:
                documents.append(each)
        found: dict[str, set[str]] = {}
        for each in documents:
            found.setdefault(each["grading_run_id"], set()).add(str(each["_id"]))
        return found

    async def _found(self, who: Deletion, document: Document) -> Found:
        """Return a run with the student's places in its list. A run without a list may be the student's own."""
        is_over = RunState(document["state"]).is_terminal and not document.get("order")
        found = Found(str(document["_id"]), document.get("round", 1), is_over=is_over)
        found.reference = Reference.of(document)
        if found.reference:
            students = await self._students(found.reference)
        else:
            students = [each.get(STUDENT) for each in document.get(_ENV) or ()]
        found.places = positions(students, who.names)
        found.is_own = not document.get("regrade") and len(found.places) == len(students)
        return found

    async def _students(self, reference: Reference) -> list[str | None]:
        chunks = await self.removals.students.find_by_ids(reference.ids, {f"envs.{STUDENT}": 1})
        envs = {each["_id"]: each["envs"] for each in chunks}
        return [env.get(STUDENT) for each in reference.ids for env in envs.get(each, ())]

    async def _add_jobs(self, found: Found, known: set[str]) -> None:
        """Add the student's jobs to a run; a run without a list is the student's own if all its jobs are."""
        fields = {"index": 1, "type": 1, "state": 1, "finished_at": 1}
        documents = await self.removals.jobs.find({"grading_run_id": found.run}, fields)
        of_students = [each for each in documents if each["type"] == TYPE[Phase.STUDENTS]]
        for each in of_students:
            if str(each["_id"]) in known or each.get("index", 0) in found.places:
                found.jobs[str(each["_id"])] = each.get("state") in OPEN
        if found.is_own and not found.places:
            found.is_own = len(found.jobs) == len(of_students)

    async def count(self, who: Deletion, runs: Iterable[Found]) -> Counter[str]:
        """Return the numbers of what is stored about a student's works."""
        some = list(runs)
        own = [each for each in some if each.is_own]
        keys = [key_of(job, 1) for each in some for job in each.jobs]
        logs = await self.removals.outcomes.find_by_ids(keys, {"stdout": 1})
        jobs = [job for each in some for job in each.jobs]
        executions = await self._executions(jobs)
        return Counter(
            submissions=len(await self.submissions(who)),
            runs=sum(each.is_stored for each in own),
            jobs=sum(len(each.jobs) for each in own),
            jobs_in_other_runs=sum(max(len(each.jobs), len(each.places)) for each in some if not each.is_own),
            logs=sum("stdout" in each for each in logs) + await _count(self.removals.logs, "grading_job_id", jobs),
            reports=await self.removals.reports.count_of(executions),
            artifacts=await _count(self.removals.artifacts, "job", jobs),
        )

    async def submissions(self, who: Deletion) -> list[Document]:
        """Return a student's submissions, with their files."""
        query: Document = {"course": who.course, "student": {"$in": list(who.names)}}
        fields = {"assignment": 1, "files.sha256": 1, "files.size": 1}
        return [
            each
            for assignment in await self.names(who.course)
            for each in await self.removals.submissions.find({**query, "assignment": assignment}, fields)
        ]

    async def remove_submissions(self, who: Deletion, now: datetime) -> None:
        """Remove a student's submissions; contents that no other has are swept within a day."""
        found = await self.submissions(who)
        await self._sweep_soon(found)
        by_assignment: dict[str, list[str]] = {}
        for each in found:
            by_assignment.setdefault(each["assignment"], []).append(each["_id"])
        for assignment, works in by_assignment.items():
            for part in in_parts(works, IDS):
                await self.removals.remove_submissions(who.course, assignment, part, now)

    async def remove_runs(self, who: Deletion, runs: Sequence[Found], now: datetime) -> None:
        """Remove the student's own runs, which have ended, and clear the student's places in all others."""
        while await self.removals.go_on():
            pass
        jobs = [job for each in runs for job in each.jobs]
        for part in in_parts(jobs, IDS):
            some = {"job": {"$in": list(part)}}
            await self._sweep_soon(await self.removals.artifacts.find(some, {"files.sha256": 1, "files.size": 1}))
        rounds = {each.run: each.round for each in runs if each.is_own and each.is_stored}
        for some_rounds in in_parts(list(rounds.items()), IDS):
            old = await self.removals.runs_of(dict(some_rounds))
            await self.removals.remove_runs(who.course, old, now)
        for each in runs:
            if each.run not in rounds:
                await self._clear(who, each)

    async def _clear(self, who: Deletion, found: Found) -> None:
        """Clear the student's places in a run: the jobs with all that belongs to them, and the entries at last."""
        fields = {"generation": 1, "attempts": 1, "stages": 1}
        for job in await self.removals.jobs.find_by_ids(object_ids(found.jobs), fields):
            await self._clear_job(who, job)
        await reach(Point.DELETION_JOBS_CLEARED)
        for identity in found.jobs:
            await self.removals.results.delete_many({"_id": {"$gte": f"{identity}:", "$lt": f"{identity};"}})
        entry = {STUDENT: who.pseudonym}
        if found.places and found.reference:
            for chunk in await self.removals.students.find_by_ids(found.reference.ids):
                envs = [entry if each.get(STUDENT) in who.names else each for each in chunk["envs"]]
                if envs != chunk["envs"]:
                    await self.removals.students.update_one({"_id": chunk["_id"]}, {"$set": {"envs": envs}})
        elif found.places:
            query = {"_id": object_id(found.run)}
            run = await self.removals.runs.find_one(query, {_ENV: 1}) or {}
            envs = [entry if each.get(STUDENT) in who.names else each for each in run.get(_ENV) or ()]
            await self.removals.runs.update_one(query, {"$set": {_ENV: envs}})
        await reach(Point.DELETION_RUNS_CLEARED)

    async def _clear_job(self, who: Deletion, job: Document) -> None:
        identity = str(job["_id"])
        executions = await self._executions([identity])
        env = {STUDENT: who.pseudonym}
        cleared: Document = {
            "handed_in": None,
            "results": None,
            "reason": ERASED,
            "attempts": _without_marks(job),
            "stages": [{**stage, "env": env} for stage in job.get("stages") or ()],
        }
        await self.removals.jobs.update_one({"_id": job["_id"]}, {"$set": cleared})
        keys = keys_of(identity, job.get("generation", 1))
        for outcome in await self.removals.outcomes.find_by_ids(keys, {"attempts": 1}):
            fields = {"results": None, "reason": ERASED, "attempts": _without_marks(outcome)}
            await self.removals.outcomes.update_one({"_id": outcome["_id"]}, {"$set": fields, "$unset": LOG})
        await self.removals.logs.delete_many({"grading_job_id": identity})
        for some in in_parts(executions, IDS):
            await self.removals.reports.remove_of(some)
        await self.removals.artifacts.delete_many({"job": identity})

    async def _executions(self, jobs: Sequence[str]) -> list[str]:
        documents = await self.removals.jobs.find_by_ids(
            object_ids(jobs), {"generation": 1, "execution_id": 1, "attempts.execution_id": 1}
        )
        keys = [key for each in documents for key in keys_of(str(each["_id"]), each.get("generation", 1))]
        known = [*documents, *await self.removals.outcomes.find_by_ids(keys, {"execution_id": 1, "attempts": 1})]
        attempts = {one["execution_id"] for each in known for one in each.get("attempts") or ()}
        return sorted(attempts | {each["execution_id"] for each in known if each.get("execution_id")})

    async def _sweep_soon(self, manifests: Iterable[Document]) -> None:
        """Have the contents of files checked within a day; an upload that has one of them meanwhile puts that off."""
        files = {file["sha256"]: file.get("size", 0) for each in manifests for file in each.get("files") or ()}
        ids = [
            f"{digest}.{number}" if number else digest
            for digest, size in files.items()
            for number in range(max(1, -(-size // PART)))
        ]
        soon = {"$min": {"sweep_at": datetime.now(UTC) + UNUSED_FOR}}
        for some in in_parts(ids, IDS):
            await self.blobs.update_many({"_id": {"$in": list(some)}}, soon)


async def _count(documents: Documents, name: str, values: Sequence[str]) -> int:
    return sum([len(await documents.find({name: {"$in": list(part)}}, {"_id": 1})) for part in in_parts(values, IDS)])


def _without_marks(document: Document) -> list[Document]:
    return [{**each, "marks": None, "reason": ""} for each in document.get("attempts") or ()]
