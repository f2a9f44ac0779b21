"""Operations that all collections share."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

from bson import ObjectId
from pymongo import UpdateMany, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, OperationFailure
from pymongo.results import BulkWriteResult, DeleteResult, InsertManyResult, UpdateResult

from broadway.domain.parts import in_parts
from broadway.mongo.errors import DuplicateKeyError, translated
from broadway.ports import StoreError

Document = dict[str, Any]
Collection = AsyncCollection[Document]

DUPLICATE_KEY = 11000
_NO_INDEX = (26, 27)  # no such collection, no such index
IDS = 50  # in a question


class Documents:
    """The documents of a collection: the driver's methods and options, with the errors of ``broadway.ports``."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    async def find(self, query: Document, fields: Document | None = None, **options: Any) -> list[Document]:
        """Return all matching documents; the options include ``sort`` and ``limit``."""
        return await translated(self._collection.find(query, fields, **options).to_list())

    async def find_by_ids(self, identities: Sequence[Any], fields: Document | None = None) -> list[Document]:
        """Return the documents with some ids, in several questions: a long list costs the embedded store its square."""
        parts = in_parts(identities, IDS)
        return [each for part in parts for each in await self.find({"_id": {"$in": list(part)}}, fields)]

    async def find_one(self, query: Document, fields: Document | None = None, **options: Any) -> Document | None:
        return await translated(self._collection.find_one(query, fields, **options))

    async def find_one_and_update(self, query: Document, change: Document, **options: Any) -> Document | None:
        return await translated(self._collection.find_one_and_update(query, change, **options))

    async def count_documents(self, query: Document, *, limit: int | None = None) -> int:
        """Return the number of matching documents, at most ``limit``."""
        options: dict[str, Any] = {} if limit is None else {"limit": limit}
        return await translated(self._collection.count_documents(query, **options))

    async def count_among(self, indexed: Document, rest: Document) -> int:
        """Count the documents that match both filters, with an index for the first one.

        The embedded store uses an index only if a whole filter fits it, and for the first stage of a pipeline only.
        """
        stages: list[Document] = [{"$match": indexed}, {"$match": rest}, {"$count": "number"}]
        found = await translated((await translated(self._collection.aggregate(stages))).to_list())
        return int(found[0]["number"]) if found else 0

    async def find_of(self, indexed: Document, rest: Document, fields: Document) -> list[Document]:
        """Return fields of the documents that match both filters, with an index for the first one."""
        stages: list[Document] = [{"$match": indexed}, {"$match": rest}, {"$project": fields}]
        return await translated((await translated(self._collection.aggregate(stages))).to_list())

    async def find_among(
        self, indexed: Document, rest: Document, *, sort: str, limit: int, without: Document
    ) -> list[Document]:
        """Return the first documents that match both filters, by ``sort``, with an index for the first filter."""
        stages: list[Document] = [{"$match": indexed}, {"$match": rest}, {"$sort": {sort: 1}}, {"$limit": limit}]
        found = await translated(self._collection.aggregate([*stages, {"$project": without}]))
        return await translated(found.to_list())

    async def first_of_each(
        self, query: Document, key: str, *, sort: Sequence[tuple[str, int]], fields: Sequence[str]
    ) -> list[Document]:
        """Return fields of the first matching document for each value of ``key``, with this value.

        MongoDB reads one entry for each value from an index on the query's fields, the key and ``sort``, in that order.
        """
        first: Document = {"_id": f"${key}", **{f"first{name}": {"$first": f"${name}"} for name in fields}}
        stages: list[Document] = [{"$match": query}, {"$sort": dict([(key, 1), *sort])}, {"$group": first}]
        found = await translated((await translated(self._collection.aggregate(stages))).to_list())
        return [{key: each["_id"], **{name: each[f"first{name}"] for name in fields}} for each in found]

    async def distinct(self, key: str, query: Document) -> list[Any]:
        return await translated(self._collection.distinct(key, query))

    async def insert_many(self, documents: Sequence[Document], **options: Any) -> InsertManyResult:
        return await translated(self._collection.insert_many(documents, **options))

    async def update_one(self, query: Document, change: Document, *, upsert: bool = False) -> UpdateResult:
        """Update a document; with ``upsert``, insert it if no document matches.

        Raises:
            DuplicateKeyError: No document matches, and there is one with the same id.
        """
        return await self._upserted(query, lambda: self._collection.update_one(query, change, upsert=upsert))

    async def update_many(self, query: Document, change: Document) -> UpdateResult:
        return await translated(self._collection.update_many(query, change))

    async def replace_one(self, query: Document, document: Document, *, upsert: bool = False) -> UpdateResult:
        """Replace a document; with ``upsert``, insert it if no document matches."""
        return await self._upserted(query, lambda: self._collection.replace_one(query, document, upsert=upsert))

    async def _upserted(self, query: Document, write: Callable[[], Awaitable[UpdateResult]]) -> UpdateResult:
        """Write, and again if another writer has inserted the document meanwhile, which the second write will find."""
        try:
            return await translated(write())
        except DuplicateKeyError:
            if query.keys() != {"_id"}:  # the document may exist and not match
                raise
            return await translated(write())

    async def bulk_write(self, writes: Sequence[UpdateOne | UpdateMany], **options: Any) -> BulkWriteResult:
        return await translated(self._collection.bulk_write(writes, **options))

    async def delete_one(self, query: Document) -> DeleteResult:
        return await translated(self._collection.delete_one(query))

    async def delete_many(self, query: Document) -> DeleteResult:
        return await translated(self._collection.delete_many(query))

    async def drop_index(self, name: str) -> None:
        """Drop an index that an earlier version has made, if it exists."""
        try:
            await translated(self._collection.drop_index(name))
        except StoreError as error:
            if not (isinstance(error.__cause__, OperationFailure) and error.__cause__.code in _NO_INDEX):
                raise

    async def create_index(self, keys: str | Sequence[tuple[str, int]], *, name: str) -> str:
        return await translated(self._collection.create_index(keys, name=name))


def below(name: str) -> Document:
    """Return the query for documents whose ids begin with a name and a slash."""
    return {"_id": {"$gte": f"{name}/", "$lt": f"{name}0"}}  # "0" comes after "/"


def object_id(text: str) -> ObjectId | None:
    """Parse an id; return None for an invalid text, which no document can have as its id."""
    return ObjectId(text) if ObjectId.is_valid(text) and text == text.lower() else None


def object_ids(texts: Iterable[str]) -> list[ObjectId]:
    return [identity for text in texts if (identity := object_id(text)) is not None]


async def insert_each(collection: Documents, documents: Sequence[Document]) -> list[bool]:
    """Insert documents; return False for each whose id is taken. The stored document stays as it is."""
    refused: set[int] = set()
    try:
        await collection.insert_many(documents, ordered=False)
    except StoreError as error:
        if not isinstance(error.__cause__, BulkWriteError):
            raise
        problems = error.__cause__.details["writeErrors"]
        refused = {e["index"] for e in problems if e.get("code") == DUPLICATE_KEY}
        if len(refused) < len(problems):
            raise
    return [index not in refused for index in range(len(documents))]


@dataclass(frozen=True, slots=True)
class Update:
    """A change to the document with an id, applied only if the document matches ``unchanged``."""

    identity: Any
    unchanged: Document
    change: Document
    increment: Document = field(default_factory=dict)


async def update_each(collection: Documents, updates: Sequence[Update], *, at_a_time: int) -> list[bool]:
    """Apply updates; return for each whether it was applied.

    Updates of several documents with equal changes are merged into one, which the store applies at once. A write has at
    most ``at_a_time`` updates, so that a store that locks the collection for it serves other callers between writes.
    """
    writer = token_hex(8)
    equal: dict[tuple[str, int], list[int]] = {}
    seen: Counter[tuple[str, Any]] = Counter()
    for index, update in enumerate(updates):
        content = repr((update.unchanged, update.change, update.increment))
        # Equal updates of one document must not merge: after the first, the next may not match any more.
        equal.setdefault((content, seen[content, update.identity]), []).append(index)
        seen[content, update.identity] += 1
    groups = [part for group in equal.values() for part in in_parts(group, at_a_time)]
    marks = {index: f"{writer}:{number}" for number, group in enumerate(groups) for index in group}
    writes = [_write([updates[index] for index in group], marks[group[0]]) for group in groups]
    results = [await collection.bulk_write(some, ordered=False) for some in in_parts(writes, at_a_time)]
    modified = sum(result.modified_count for result in results)
    if modified in (0, len(updates)):
        return [modified > 0] * len(updates)
    found = await collection.find_by_ids([update.identity for update in updates], {"writer": 1})
    done = {(document["_id"], document.get("writer")) for document in found}
    return [(update.identity, marks[index]) in done for index, update in enumerate(updates)]


def _write(updates: Sequence[Update], mark: str) -> UpdateOne | UpdateMany:
    """Return one write for updates that are equal except for their documents."""
    first = updates[0]
    change: Document = {"$set": {**first.change, "writer": mark}}
    if first.increment:
        change["$inc"] = first.increment
    if len(updates) == 1:
        return UpdateOne({"_id": first.identity, **first.unchanged}, change)
    return UpdateMany({"_id": {"$in": [update.identity for update in updates]}, **first.unchanged}, change)
