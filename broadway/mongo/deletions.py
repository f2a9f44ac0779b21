"""The collection ``student_deletion``: ordered deletions of students' data, and the receipts of those that ended."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from broadway.domain.deletion import Deletion
from broadway.mongo.collection import Collection, Document, Documents, insert_each

_TO_DO = dict.fromkeys(("is_open", "names", "repositories", "chunks"), "")
_SCALARS = ("course", "pseudonym", "number", "by", "reason", "ordered_at")


class StudentDeletions:
    """Deletions, with the ids ``<course>/<pseudonym>/<number>``."""

    def __init__(self, collection: Collection) -> None:
        self._deletions = Documents(collection)

    async def ensure_indexes(self) -> None:
        await self._deletions.create_index("is_open", name="to_go_on")

    async def latest(self, course: str, pseudonym: str) -> Deletion | None:
        """Return the last deletion of a student, or None."""
        query = {"_id": {"$regex": f"^{re.escape(f'{course}/{pseudonym}/')}"}}
        found = await self._deletions.find(query, sort=[("_id", -1)], limit=1)
        return _deletion(found[0]) if found else None

    async def order(self, deletion: Deletion) -> bool:
        """Store a deletion that is to be made; return False if its number is taken."""
        document: Document = {name: getattr(deletion, name) for name in _SCALARS}
        lists = {"names": list(deletion.names), "repositories": list(deletion.repositories), "chunks": []}
        return (await insert_each(self._deletions, [{"_id": deletion.id, **document, **lists, "is_open": True}]))[0]

    async def open(self) -> list[Deletion]:
        """Return the deletions that have not ended, the earliest first."""
        return [_deletion(each) for each in await self._deletions.find({"is_open": True}, sort=[("ordered_at", 1)])]

    async def count(self, deletion: Deletion, counts: Mapping[str, int]) -> None:
        """Store the numbers of what is to be removed."""
        await self._deletions.update_one({"_id": deletion.id, "is_open": True}, {"$set": {"counts": dict(counts)}})

    async def chunks(self, deletion: Deletion) -> list[str]:
        """Return the chunks of grade books that are noted for removal."""
        found = await self._deletions.find_one({"_id": deletion.id}, {"chunks": 1})
        return list((found or {}).get("chunks") or ())

    async def note_chunks(self, deletion: Deletion, digests: Sequence[str]) -> None:
        """Note chunks of grade books that are to be removed once no version has them."""
        await self._deletions.update_one({"_id": deletion.id}, {"$addToSet": {"chunks": {"$each": list(digests)}}})

    async def end(self, deletion: Deletion, ended_at: datetime) -> None:
        """Store the receipt, without the student's name."""
        fields: Document = {"ended_at": ended_at, "digest": deletion.digest_at(ended_at)}
        await self._deletions.update_one({"_id": deletion.id, "is_open": True}, {"$set": fields, "$unset": _TO_DO})


def _deletion(document: Document) -> Deletion:
    return Deletion(
        **{name: document[name] for name in _SCALARS},
        names=tuple(document.get("names") or ()),
        repositories=tuple(document.get("repositories") or ()),
        counts=document.get("counts") or {},
        ended_at=document.get("ended_at"),
        digest=document.get("digest") or "",
    )
