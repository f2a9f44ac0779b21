"""Removal of one student from the grades of a course: books, adjustments, extensions, choices, and parts of regrades.

Versions of a book share chunks, whose ids are the hashes of their contents. New chunks without the student are stored
first; then one version after the other gets them; the old chunks, which are noted before, are removed last.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.deletion import Deletion
from broadway.domain.grade_book import ChunkRef, chunks_of
from broadway.domain.parts import in_parts
from broadway.domain.submission import STUDENT
from broadway.mongo.collection import IDS, Document, Documents, below
from broadway.mongo.deletions import StudentDeletions
from broadway.mongo.grade_books import GradeBooks
from broadway.runtime.crashpoints import Point, reach

_TRIES = 5


@dataclass(frozen=True, slots=True)
class DeletedGrades:
    """Removal of students from grades. Each call is safe to repeat."""

    books: GradeBooks
    deletions: StudentDeletions
    main: AsyncDatabase[dict[str, Any]]

    @classmethod
    def of(cls, main: AsyncDatabase[dict[str, Any]]) -> Self:
        """Return the removal from a database."""
        books = GradeBooks(main["grade_entries"], main["grade_book"], main["grade_book_published"])
        return cls(books, StudentDeletions(main["student_deletion"]), main)

    async def count(self, who: Deletion) -> Counter[str]:
        """Return the numbers of what grades have of a student."""
        counts: Counter[str] = Counter()
        for kind, name, query in _own(who):
            counts[kind] += len(await self._of(name).find(query, {"_id": 1}))
        for version in await self._versions(who.course):
            counts["grade_entries"] += len(await self._changed(who, version))
        counts["regrade_parts"] = len(await self._parts(who))
        return counts

    async def remove(self, who: Deletion) -> None:
        """Remove a student from the grades of a course; the grades of others stay as they are."""
        await self._remove_entries(who)
        await reach(Point.DELETION_GRADES_REMOVED)
        await self._redact_extensions(who)
        for kind, name, query in _own(who):
            if kind == "adjustments":
                made = [each["_id"] for each in await self._of(name).find(query, {"_id": 1})]
                await self._of(name).delete_many({"_id": {"$in": [f"{each}/withdrawn" for each in made]}})
            await self._of(name).delete_many(query)
        for part in await self._parts(who):
            items = [_item(who, each) for each in part["items"]]
            seen = [each for each in part["seen"] if each[0] not in who.names]
            await self._of("regrade_part").update_one({"_id": part["_id"]}, {"$set": {"items": items, "seen": seen}})

    async def _remove_entries(self, who: Deletion) -> None:
        for version in await self._versions(who.course):
            for _ in range(_TRIES):
                if not (changed := await self._changed(who, version)):
                    break
                if await self._replace(who, version, changed):
                    break
        await self.remove_chunks(who)

    async def remove_chunks(self, who: Deletion) -> None:
        """Remove the noted chunks that no version has any more."""
        noted = await self.deletions.chunks(who)
        if not noted:
            return
        used = {each[0] for book in await self._of("grade_book").find({}, {"chunks": 1}) for each in book["chunks"]}
        unused = [each for each in noted if each not in used]
        for some in in_parts(unused, IDS):
            await self._of("grade_entries").delete_many({"_id": {"$in": list(some)}})

    async def _replace(self, who: Deletion, version: Document, changed: Sequence[ChunkRef]) -> bool:
        """Give a version chunks without the student, and a pointer to it the number of its entries."""
        chunks: list[list[Any]] = []
        for digest, first, count in version["chunks"]:
            old = ChunkRef(digest, first, count)
            if old not in changed:
                chunks.append([digest, first, count])
                continue
            kept = [each for each in await self.books.entries([old]) if each.student not in who.names]
            new = chunks_of(kept)
            await self.books.put_chunks(new)
            chunks += [[each.ref.digest, each.ref.first, each.ref.count] for each in new]
        await self.deletions.note_chunks(who, [each.digest for each in changed])
        await reach(Point.DELETION_CHUNKS_STORED)
        unchanged = {"_id": version["_id"], "chunks": version["chunks"]}
        done = await self._of("grade_book").update_one(unchanged, {"$set": {"chunks": chunks}})
        await reach(Point.DELETION_VERSION_POINTED)
        return done.modified_count > 0

    async def recount(self, who: Deletion) -> None:
        """Correct the numbers of students of published versions."""
        for version in await self._versions(who.course):
            pointer = {"_id": f"{who.course}/{version['assignment']}", "version": version["number"]}
            number = sum(each[2] for each in version["chunks"])
            await self._of("grade_book_published").update_one(
                {**pointer, "students": {"$gt": number}}, {"$set": {"students": number}}
            )

    async def _changed(self, who: Deletion, version: Document) -> list[ChunkRef]:
        """Return the chunks of a version that have an entry of the student."""
        refs = [ChunkRef(*each) for each in version["chunks"]]
        firsts = [each.first for each in refs]
        found: list[ChunkRef] = []
        for name in who.names:
            index = sum(first <= name for first in firsts) - 1
            if index >= 0 and any(each.student == name for each in await self.books.entries([refs[index]])):
                found.append(refs[index])
        return list(dict.fromkeys(found))

    async def _versions(self, course: str) -> list[Document]:
        fields = {"chunks": 1, "assignment": 1, "number": 1}
        return await self._of("grade_book").find(below(course), fields, sort=[("_id", 1)])

    async def _redact_extensions(self, who: Deletion) -> None:
        """Replace the name in extensions, whose numbers follow one another, so that none may be missing."""
        for each in await self._of("extension").find(_extensions(who)):
            order = {**each["order"], "name": who.pseudonym}
            order.pop("reason", None)
            await self._of("extension").update_one({"_id": each["_id"]}, {"$set": {"order": order}})

    async def _parts(self, who: Deletion) -> list[Document]:
        """Return the parts of regrades that have the student."""
        regrades = await self._of("regrade").find({"course": who.course}, {"_id": 1})
        fields = {"items": 1, "seen": 1}
        found: list[Document] = []
        for regrade in regrades:
            for part in await self._of("regrade_part").find({"regrade": regrade["_id"]}, fields):
                has_item = any((each.get("env") or {}).get(STUDENT) in who.names for each in part["items"])
                if has_item or any(each[0] in who.names for each in part["seen"]):
                    found.append(part)
        return found

    def _of(self, name: str) -> Documents:
        return Documents(self.main[name])


def _own(who: Deletion) -> list[tuple[str, str, Document]]:
    """Return kinds, collections and queries of the documents that are the student's alone."""
    mine: Document = {"student": {"$in": list(who.names)}}
    of_course: Document = {"course": who.course, **mine}
    return [
        ("adjustments", "grade_adjustment", {**below(who.course), **mine}),
        ("late_days", "late_day_claim", of_course),
        ("choices", "chosen_submission", of_course),
        ("extensions", "extension", _extensions(who)),
    ]


def _extensions(who: Deletion) -> Document:
    return {"course": who.course, "order.target": {"$in": ["student", "group"]}, "order.name": {"$in": list(who.names)}}


def _item(who: Deletion, item: Document) -> Document:
    if (item.get("env") or {}).get(STUDENT) not in who.names:
        return item
    return {**item, "submission": who.pseudonym, "env": {STUDENT: who.pseudonym}, "job": "", "execution": ""}
