"""All that is stored about one student of a course, read collection by collection, for an export.

A group's submissions, and all that belongs to them, are those of each of its members.
"""

import base64
import json
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from bson import ObjectId
from pydantic import TypeAdapter
from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.grade_book import BookEntry
from broadway.domain.parts import in_parts
from broadway.domain.settlement import keys_of
from broadway.domain.student_data import Record, is_below, mentions, own_part
from broadway.mongo.collection import IDS, Document, Documents, below, object_id, object_ids
from broadway.mongo.grade_books import GradeBooks
from broadway.mongo.job_documents import OPEN
from broadway.mongo.reports import plain_report

_HIDDEN = {"digest": 0, "roles": 0}  # the roles of a session name other courses
_STATES = ("given", "before", "after")
_PAGE = 200
_ENTRY = TypeAdapter(BookEntry)


@dataclass(frozen=True, slots=True)
class StudentData:
    """Reads of all collections by student."""

    main: AsyncDatabase[dict[str, Any]]
    logs: AsyncDatabase[dict[str, Any]]
    books: GradeBooks

    @classmethod
    def of(cls, main: AsyncDatabase[dict[str, Any]], logs: AsyncDatabase[dict[str, Any]]) -> Self:
        """Return the reads of two databases."""
        return cls(main, logs, GradeBooks(main["grade_entries"], main["grade_book"], main["grade_book_published"]))

    async def records(self, course: str, student: str) -> AsyncIterator[Record]:
        """Yield all records about a student."""
        for assignment in await self._assignments(course):
            names = [student]
            async for entry in self._roster(course, assignment, student):
                names.append(entry.fields["student"])
                yield entry
            async for record in self._of_assignment(course, assignment, student, list(dict.fromkeys(names))):
                yield record
        for kind, name, query in (
            ("tokens", "access_token", {"course": course, "student": student}),
            ("sessions", "page_session", {"courses": course, "student": student}),
        ):
            for each in await Documents(self.main[name]).find(query, _HIDDEN):
                yield _record(kind, each)
        async for record in self._audit(course, student):
            yield record

    async def _assignments(self, course: str) -> list[str]:
        query = {"_id": {"$regex": f"^{re.escape(course)}/"}}
        found = await Documents(self.main["assignment_config"]).find(query, {"_id": 1})
        return sorted(str(each["_id"]).partition("/")[2] for each in found)

    async def _roster(self, course: str, assignment: str, student: str) -> AsyncIterator[Record]:
        roster = await Documents(self.main["roster"]).find_one({"_id": f"{course}/{assignment}"})
        for entry in (roster or {}).get("students", ()):
            if student == entry["student"] or student in (entry.get("members") or ()):
                yield _record("rosters", {"assignment": assignment, **entry})

    async def _of_assignment(
        self, course: str, assignment: str, student: str, names: Sequence[str]
    ) -> AsyncIterator[Record]:
        """Yield the records of an assignment; ``names`` are the student and the group."""
        own: Document = {"course": course, "assignment": assignment, "student": {"$in": list(names)}}
        jobs: set[str] = set()
        for kind, name in (("submissions", "submission"), ("results", "work_result"), ("deliveries", "hook_delivery")):
            for each in await Documents(self.main[name]).find(own):
                if name == "work_result":
                    jobs.add(str(each["_id"]).partition(":")[0])
                yield _record(kind, each)
        for kind, name in (("late_days", "late_day_claim"), ("choices", "chosen_submission")):
            for each in await Documents(self.main[name]).find({**own, "student": student}):
                yield _record(kind, each)
        jobs |= await self._open_jobs(course, assignment, names)
        async for record in self._of_jobs(sorted(jobs)):
            yield record
        async for record in self._decisions(course, assignment, student, names):
            yield record

    async def _open_jobs(self, course: str, assignment: str, names: Sequence[str]) -> set[str]:
        """Return the jobs of an assignment that wait or run for a student or a group."""
        query = {"course": course, "state": {"$in": OPEN}}
        found = await Documents(self.main["grading_job"]).find(query, {"assignment": 1, "handed_in": 1})
        own = [each for each in found if each.get("assignment") == assignment]
        return {str(each["_id"]) for each in own if (each.get("handed_in") or {}).get("student") in names}

    async def _of_jobs(self, jobs: Sequence[str]) -> AsyncIterator[Record]:
        """Yield jobs with their outcomes, logs, reports, artifacts and runs; runs without other students' variables."""
        for part in in_parts(jobs, IDS):
            some = list(part)
            found = await Documents(self.main["grading_job"]).find({"_id": {"$in": object_ids(some)}})
            for each in found:
                yield _record("jobs", each)
            keys = [key for each in found for key in keys_of(str(each["_id"]), each.get("generation", 1))]
            for each in await Documents(self.main["job_outcome"]).find_by_ids(keys):
                yield _record("outcomes", each)
            for each in await Documents(self.logs["job_log"]).find({"grading_job_id": {"$in": some}}):
                yield _record("logs", each)
            async for record in self._reports(found, keys):
                yield record
            for each in await Documents(self.main["artifact"]).find({"job": {"$in": some}}):
                yield _record("artifacts", each)
            runs = object_ids(sorted({each["grading_run_id"] for each in found}))
            fields = {"config": 0, "students_env": 0, "order": 0}
            for each in await Documents(self.main["grading_run"]).find_by_ids(runs, fields):
                yield _record("runs", each)

    async def _reports(self, jobs: Iterable[Document], keys: Sequence[str]) -> AsyncIterator[Record]:
        outcomes = await Documents(self.main["job_outcome"]).find_by_ids(keys, {"execution_id": 1, "attempts": 1})
        known = [*jobs, *outcomes]
        attempts = {attempt["execution_id"] for each in known for attempt in each.get("attempts") or ()}
        executions = attempts | {each["execution_id"] for each in known if each.get("execution_id")}
        identities = [object_id(each) or each for each in sorted(executions)]
        for each in await Documents(self.main["job_report"]).find_by_ids(identities):
            yield _record("reports", plain_report(each))

    async def _decisions(
        self, course: str, assignment: str, student: str, names: Sequence[str]
    ) -> AsyncIterator[Record]:
        """Yield extensions, adjustments and the entries of all versions of the grade book."""
        for each in await Documents(self.main["extension"]).find({"course": course, "assignment": assignment}):
            if each["order"].get("name") in names:
                yield _record("extensions", each)
        own = {**below(f"{course}/{assignment}"), "student": student}
        for each in await Documents(self.main["grade_adjustment"]).find(own):
            yield _record("adjustments", each)
        before: int | None = None
        while versions := await self.books.latest(course, assignment, before=before, limit=_PAGE):
            before = versions[-1].number
            for version in versions:
                chunk = version.chunk_of(student)
                for entry in await self.books.entries([chunk]) if chunk else ():
                    if entry.student == student:
                        about = {"assignment": assignment, "version": version.number, "published_at": version.at}
                        yield _record("grades", {**about, **json.loads(_ENTRY.dump_json(entry))})

    async def _audit(self, course: str, student: str) -> AsyncIterator[Record]:
        quoted = json.dumps(student, ensure_ascii=False)
        after: Any = ObjectId("0" * 24)
        records = Documents(self.main["audit"])
        query: Document = {"course": course}
        while found := await records.find({**query, "_id": {"$gt": after}}, sort=[("_id", 1)], limit=_PAGE):
            after = found[-1]["_id"]
            for each in found:
                texts = [str(each.get(name) or "") for name in ("object", *_STATES)]
                if is_below(texts[0], student):
                    yield _record("audit", each)
                elif any(mentions(text, student, quoted) for text in texts):
                    own = {name: own_part(str(each[name]), student) for name in _STATES if each.get(name)}
                    yield _record("audit", {**each, **own})


def _record(kind: str, document: Document) -> Record:
    return Record(kind, {str(key): _plain(value) for key, value in document.items()})


def _plain(value: Any) -> Any:
    """Return a stored value as plain JSON: times as text in UTC, bytes in Base64."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if isinstance(value, str | int | float | bool | None) else str(value)
