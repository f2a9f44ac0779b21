"""The collection ``submission``: the manifests of submissions."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime

from broadway.domain.files import SubmittedFile
from broadway.domain.pages import position
from broadway.domain.submission import LatestSubmission, Submission, SubmissionHead
from broadway.mongo.assignments import check_storable
from broadway.mongo.blobs import used_contents
from broadway.mongo.collection import IDS, Collection, Document, Documents, insert_each
from broadway.mongo.run_lists import following
from broadway.mongo.work_results import GRADED

_LATEST = ("_id", "at")
_HEAD = dict.fromkeys(("assignment", "student", "at", "by", "count", "size"), 1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # before each stored time, and after null in the index


class SubmissionStore:
    """Submissions by id."""

    def __init__(self, collection: Collection) -> None:
        self._submissions = Documents(collection)

    async def ensure_indexes(self) -> None:
        await self._submissions.create_index(
            [("course", 1), ("assignment", 1), ("student", 1), ("at", -1), ("_id", -1)], name="latest_of_student"
        )
        await self._submissions.create_index(
            [("course", 1), ("assignment", 1), ("at", -1), ("_id", -1)], name="latest_of_assignment"
        )
        await self._submissions.create_index(
            [("course", 1), ("assignment", 1), (GRADED, 1), ("student", 1)], name="to_grade"
        )
        await self._submissions.create_index("files.sha256", name="contents")
        await self._submissions.create_index("due_at", name="to_begin")

    async def add(self, submission: Submission) -> bool:
        """Store a submission; return False if its id is taken.

        Raises:
            UnstorableError: It is too large for the store.
        """
        document = _document(submission)
        check_storable(document)
        return (await insert_each(self._submissions, [document]))[0]

    async def get(self, course: str, identity: str) -> Submission | None:
        found = await self._submissions.find_one({"_id": identity, "course": course})
        return _submission(found) if found else None

    async def latest(
        self, course: str, assignment: str, *, student: str | None, before: str | None, limit: int
    ) -> list[SubmissionHead]:
        """Return submissions for an assignment without their files, latest first; only a student's if one is given.

        Raises:
            CursorError: ``before`` is not a cursor.
        """
        query: Document = {"course": course, "assignment": assignment}
        if student is not None:
            query["student"] = student
        if before:
            query |= following("at", *position(before))
        found = await self._submissions.find(query, _HEAD, sort=[("at", -1), ("_id", -1)], limit=limit)
        return [_head(document) for document in found]

    async def remove(self, course: str, assignment: str, student: str) -> list[int]:
        """Remove a student's submissions for an assignment; return the bytes of each that this call has removed."""
        query = {"course": course, "assignment": assignment, "student": student}
        found = await self._submissions.find(query, {"size": 1})
        return [
            each["size"] for each in found if (await self._submissions.delete_one({"_id": each["_id"]})).deleted_count
        ]

    async def settle(self, identity: str) -> None:
        """Note that the grading of a submission has begun, or waits for a run for the roster."""
        await self._submissions.update_one({"_id": identity}, {"$unset": {"due_at": ""}})

    async def due(self, now: datetime, *, limit: int) -> list[Submission]:
        """Return submissions whose grading should have begun."""
        found = await self._submissions.find(
            {"due_at": {"$gt": _EPOCH, "$lte": now}}, sort=[("due_at", 1)], limit=limit
        )
        return [_submission(document) for document in found]

    async def latest_ids(self, course: str, assignment: str, students: AbstractSet[str]) -> dict[str, LatestSubmission]:
        """Return the latest submission of each of some students, by student; those without one are left out."""
        query: Document = {"course": course, "assignment": assignment}
        if len(students) <= IDS:  # a longer list costs the embedded store more than all students do
            query["student"] = {"$in": sorted(students)}
        found = await self._submissions.first_of_each(query, "student", sort=[("at", -1), ("_id", -1)], fields=_LATEST)
        latest = {document["student"]: LatestSubmission(document["_id"], document["at"]) for document in found}
        return {student: latest[student] for student in students & latest.keys()}

    async def used(self, digests: AbstractSet[str]) -> set[str]:
        """Return the digests of contents that submissions have."""
        return await used_contents(self._submissions, digests)


def _document(submission: Submission) -> Document:
    return {
        "_id": submission.id,
        "course": submission.course,
        "assignment": submission.assignment,
        "student": submission.student,
        "at": submission.at,
        "by": submission.by,
        "digest": submission.digest,
        "archive": submission.archive,
        "traceparent": submission.traceparent,
        **({"due_at": submission.due_at} if submission.due_at else {}),
        "count": submission.count,
        "size": submission.size,
        "files": [
            {"path": file.path, "sha256": file.sha256, "size": file.size, "mode": file.mode}
            for file in submission.files
        ],
    }


def _submission(document: Document) -> Submission:
    return Submission(
        id=document["_id"],
        course=document["course"],
        assignment=document["assignment"],
        student=document["student"],
        at=document["at"],
        files=_files(document["files"]),
        digest=document["digest"],
        by=document.get("by", ""),
        archive=document.get("archive", ""),
        due_at=document.get("due_at"),
        traceparent=document.get("traceparent"),
    )


def _head(document: Document) -> SubmissionHead:
    return SubmissionHead(
        id=document["_id"],
        assignment=document["assignment"],
        student=document["student"],
        at=document["at"],
        by=document["by"],
        count=document["count"],
        size=document["size"],
    )


def _files(documents: Sequence[Document]) -> tuple[SubmittedFile, ...]:
    return tuple(SubmittedFile(each["path"], each["sha256"], each["size"], each["mode"]) for each in documents)
