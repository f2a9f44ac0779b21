"""The collection ``assignment_config``, keyed ``<course>/<assignment>``."""

from collections.abc import Sequence

from bson import BSON
from bson.errors import BSONError
from pymongo.errors import DocumentTooLarge

from broadway.domain.assignment import AssignmentConfig
from broadway.mongo.collection import Collection, Document, Documents, below
from broadway.ports import UnstorableError

MAX_DOCUMENT = 16 * 1024 * 1024 - 16 * 1024  # bytes; MongoDB's limit, less the overhead of an update


def check_storable(document: Document) -> None:
    """Encode a document as the driver will, to check that it can be stored.

    Raises:
        UnstorableError: The document is over the size limit, or contains a value without a BSON form.
    """
    try:
        size = len(BSON.encode(document))
    except (BSONError, OverflowError, UnicodeEncodeError, RecursionError, DocumentTooLarge) as error:
        raise UnstorableError(f"cannot be stored: {error}") from error
    if size > MAX_DOCUMENT:
        raise UnstorableError(f"is too large to be stored: {size} bytes, {MAX_DOCUMENT} are allowed")


class Assignments:
    """Assignment configs, as they were posted."""

    def __init__(self, collection: Collection) -> None:
        self._configs = Documents(collection)

    async def get(self, course: str, assignment: str) -> Document | None:
        """Return the four keys of a config, absent keys as None; None if the assignment does not exist."""
        name = f"{course}/{assignment}"
        return (await self.get_many([name])).get(name)

    async def get_many(self, names: Sequence[str]) -> dict[str, Document]:
        """Return configs by ``<course>/<assignment>``."""
        found = await self._configs.find({"_id": {"$in": list(names)}})
        return {d["_id"]: {key: d.get(key) for key in AssignmentConfig.model_fields} for d in found}

    async def names(self, course: str) -> list[str]:
        """Return the names of a course's assignments, sorted."""
        found = await self._configs.find(below(course), {"_id": 1})
        return sorted(str(document["_id"]).removeprefix(f"{course}/") for document in found)

    async def count(self, course: str) -> int:
        """Return the number of a course's assignments."""
        return await self._configs.count_documents(below(course))

    async def put(self, course: str, assignment: str, config: Document) -> None:
        """Store a config; it replaces an earlier config completely.

        Raises:
            UnstorableError: MongoDB would refuse the config; the earlier config is unchanged.
        """
        check_storable(config)
        await self._configs.replace_one({"_id": f"{course}/{assignment}"}, config, upsert=True)
