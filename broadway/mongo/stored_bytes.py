"""The collection ``stored_bytes``: the bytes of the submissions of each course."""

from broadway.mongo.collection import Collection, Documents
from broadway.mongo.errors import DuplicateKeyError


class StoredBytes:
    """Bytes by course. A submission's bytes are counted before it is stored; a crash between leaves too high a number.

    Equal contents are stored once and counted for each submission that has them.
    """

    def __init__(self, collection: Collection, submissions: Collection) -> None:
        self._courses = Documents(collection)
        self._submissions = Documents(submissions)

    async def take(self, course: str, size: int, *, most: int) -> bool:
        """Count bytes of a course; return False if that would be more than it may have."""
        if size > most:
            return False
        try:
            await self._courses.update_one(
                {"_id": course, "bytes": {"$lte": most - size}}, {"$inc": {"bytes": size}}, upsert=True
            )
        except DuplicateKeyError:  # the course has a number, and it is too high
            return False
        return True

    async def recount(self, course: str) -> None:
        """Correct the number of a course, unless it changes meanwhile; reads one number of each of its submissions."""
        before = await self._courses.find_one({"_id": course})
        if before is not None:
            found = await self._submissions.find({"course": course}, {"size": 1})
            await self._courses.update_one(before, {"$set": {"bytes": sum(each["size"] for each in found)}})

    async def give_back(self, course: str, size: int) -> None:
        """Take back bytes that were counted."""
        await self._courses.update_one({"_id": course}, {"$inc": {"bytes": -size}})
