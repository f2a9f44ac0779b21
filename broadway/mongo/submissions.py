"""The collection ``submission``: the manifests of submissions."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from broadway.domain.files import SubmittedFile
from broadway.domain.pages import position
from broadway.domain.submission import Submission
from broadway.mongo.assignments import check_storable
from broadway.mongo.collection import Collection, Document, Documents, insert_each
from broadway.mongo.runs import following


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
        await self._submissions.create_index("files.sha256", name="contents")

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
    ) -> list[Submission]:
        """Return submissions for an assignment, latest first; only those of a student if one is given.

        Raises:
            CursorError: ``before`` is not a cursor.
        """
        query: Document = {"course": course, "assignment": assignment}
        if student is not None:
            query["student"] = student
        if before:
            query |= following("at", *position(before))
        found = await self._submissions.find(query, sort=[("at", -1), ("_id", -1)], limit=limit)
        return [_submission(document) for document in found]

    async def used(self, digests: AbstractSet[str]) -> set[str]:
        """Return the digests of contents that submissions have."""
        used: set[str] = set()
        for digest in digests:  # one question each, since the index answers equality alone without a scan
            if await self._submissions.find_one({"files.sha256": digest}, {"_id": 1}):
                used.add(digest)
        return used


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
    )


def _files(documents: Sequence[Document]) -> tuple[SubmittedFile, ...]:
    return tuple(SubmittedFile(each["path"], each["sha256"], each["size"], each["mode"]) for each in documents)
