"""Ids of runs and jobs by their beginnings."""

import re
from dataclasses import dataclass

from bson import ObjectId

from broadway.mongo.collection import Collection, Document, Documents

LENGTH = 24  # hexadecimal digits


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids in the collections of runs and of jobs."""

    runs: Collection
    jobs: Collection

    async def of_runs(self, course: str, prefix: str, *, limit: int) -> list[str]:
        """Return the ids of a course's runs that begin with ``prefix``, 6 to 24 hexadecimal digits."""
        return await _found(self.runs, prefix, {"assignment_id": {"$regex": f"^{re.escape(course)}/"}}, limit)

    async def of_jobs(self, course: str, prefix: str, *, limit: int) -> list[str]:
        """Return the ids of a course's jobs that begin with ``prefix``, 6 to 24 hexadecimal digits."""
        return await _found(self.jobs, prefix, {"course": {"$eq": course}}, limit)


async def _found(collection: Collection, prefix: str, of_course: Document, limit: int) -> list[str]:
    if len(prefix) == LENGTH:  # not every store uses the index of ids for a range
        found = await Documents(collection).find({"_id": ObjectId(prefix), **of_course}, {"_id": 1})
        return [str(document["_id"]) for document in found]
    # The index of ids answers a range of them, which is small.
    span = {"$gte": ObjectId(prefix.ljust(LENGTH, "0")), "$lte": ObjectId(prefix.ljust(LENGTH, "f"))}
    found = await Documents(collection).find({"_id": span, **of_course}, {"_id": 1}, limit=limit)
    return [str(document["_id"]) for document in found]
