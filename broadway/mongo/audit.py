"""The collection ``audit``: a record of each unsafe action of a person. No record is ever changed or removed."""

from collections.abc import Sequence
from dataclasses import asdict

from bson import ObjectId

from broadway.domain.audit import AuditRecord
from broadway.domain.pages import position
from broadway.mongo.collection import Collection, Document, Documents, insert_each


class Audit:
    """The audit log, append-only."""

    def __init__(self, collection: Collection) -> None:
        self._records = Documents(collection)

    async def ensure_indexes(self) -> None:
        await self._records.create_index([("at", -1), ("_id", -1)], name="latest")
        await self._records.create_index([("course", 1), ("at", -1), ("_id", -1)], name="latest_of_course")
        await self._records.create_index([("object", 1), ("at", -1)], name="of_object")

    async def add(self, record: AuditRecord, *, is_urgent: bool = True) -> None:  # noqa: ARG002 - for batches
        """Store a record; a repetition changes nothing. A record that is not urgent may wait for others."""
        await self.add_all([record])

    async def add_all(self, records: Sequence[AuditRecord]) -> list[None]:
        """Store records, as ``add``."""
        await insert_each(self._records, [_document(record) for record in records])
        return [None] * len(records)

    async def latest(
        self,
        *,
        course: str | None = None,
        name: str | None = None,
        operation: str | None = None,
        paths: Sequence[str] = (),
        before: str | None = None,
        limit: int,
    ) -> list[AuditRecord]:
        """Return records, latest first; only of a course, a principal's name or an operation if those are given.

        With ``paths``, only those whose object is one of them, or goes on from one.

        Raises:
            CursorError: ``before`` is not a cursor.
        """
        given = {"course": course, "name": name, "operation": operation}
        query: Document = {key: value for key, value in given.items() if value is not None}
        either: list[Document] = []
        if paths:
            either.append({"$or": [{"object": {"$in": list(paths)}}, *map(_below, paths)]})
        if before:
            at, identity = position(before)
            either.append({"$or": [{"at": {"$lt": at}}, {"at": at, "_id": {"$lt": ObjectId(identity)}}]})
        if either:
            query["$and"] = either
        found = await self._records.find(query, sort=[("at", -1), ("_id", -1)], limit=limit)
        return [_record(document) for document in found]


def _below(path: str) -> Document:
    return {"object": {"$gt": f"{path}/", "$lt": f"{path}0"}}  # "0" follows "/"


def _document(record: AuditRecord) -> Document:
    document = asdict(record)
    document["_id"] = ObjectId(document.pop("id"))
    return document


def _record(document: Document) -> AuditRecord:
    return AuditRecord(id=str(document.pop("_id")), **document)
