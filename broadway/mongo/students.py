"""The collection ``run_students``: the students' environments of large runs, in chunks beside the run.

A run's document is rewritten at each of its steps, and has at most 16 MiB. So the environments of a large run are
stored apart, before the run itself, so that no reader finds a run without them. An intent, stored before the chunks and
removed after the run, leads to the chunks of a process that died in between.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from typing import Self

from bson import BSON

from broadway.domain.assignment import Env
from broadway.domain.parts import in_parts
from broadway.mongo.collection import Collection, Document, Documents
from broadway.ports import StoreError

INLINE = 256 * 1024  # bytes of environments that stay in the run's document
CHUNK = 512 * 1024  # bytes of environments in a chunk
_EPOCH = datetime.fromtimestamp(0, UTC)
_READ = 8  # chunks per question: other callers use the store, too


@dataclass(frozen=True, slots=True)
class Reference:
    """The place of a run's environments. ``token`` tells them from those of another try to store the run."""

    run_id: str
    token: str
    chunks: int
    students: int

    @property
    def ids(self) -> list[str]:
        """The ids of the chunks, in the roster's order."""
        return [f"{self.run_id}:{self.token}:{number}" for number in range(self.chunks)]

    @property
    def intent(self) -> str:
        """The id of the intent to store the run."""
        return f"{self.run_id}:{self.token}"

    @property
    def document(self) -> Document:
        """The value of the run's field ``students_env``, at which services of earlier versions fail.

        They would take a run without environments for one without students, and end it.
        """
        return {"token": self.token, "chunks": self.chunks, "students": self.students}

    @classmethod
    def of(cls, run: Document) -> Self | None:
        """Return the reference in a run's document; None if the environments are in the document, or left out."""
        kept = run.get("students_env")
        return cls(str(run["_id"]), kept["token"], kept["chunks"], kept["students"]) if isinstance(kept, dict) else None


class Students:
    """Environments of students, by run."""

    def __init__(self, collection: Collection) -> None:
        self._chunks = Documents(collection)

    async def ensure_indexes(self) -> None:
        await self._chunks.create_index("begun_at", name="intents")

    async def put(self, run_id: str, chunks: Sequence[Sequence[Env]], now: datetime) -> Reference:
        """Store chunks of environments for a run that is stored afterwards."""
        stored = Reference(run_id, token_hex(8), len(chunks), sum(map(len, chunks)))
        await self._chunks.insert_many([{"_id": stored.intent, "begun_at": now, **stored.document, "run": run_id}])
        for identity, envs in zip(stored.ids, chunks, strict=True):
            await self._chunks.insert_many([{"_id": identity, "envs": list(envs)}])
        return stored

    async def settle(self, reference: Reference, *, is_used: bool) -> None:
        """Keep environments whose run is stored, or remove them; either ends the intent."""
        if not is_used:
            await self._chunks.delete_many({"_id": {"$in": reference.ids}})
        await self._chunks.delete_one({"_id": reference.intent})

    async def unsettled(self, before: datetime) -> list[Reference]:
        """Return the environments whose run was not stored by a moment, as far as their process told."""
        # The lower bound keeps a store from scanning the chunks, which have no such field.
        found = await self._chunks.find({"begun_at": {"$gt": _EPOCH, "$lt": before}})
        return [Reference(each["run"], each["token"], each["chunks"], each["students"]) for each in found]

    async def get_many(self, references: Sequence[Reference]) -> dict[str, list[Env]]:
        """Return the environments of runs by run id, in the roster's order.

        Raises:
            StoreError: A chunk is missing: a part of the store was removed or not restored.
        """
        ids = [identity for reference in references for identity in reference.ids]
        chunks: dict[str, list[Env]] = {}
        for some in in_parts(ids, _READ):
            found = await self._chunks.find({"_id": {"$in": some}})
            chunks |= {each["_id"]: each["envs"] for each in found}
        if missing := next((identity for identity in ids if identity not in chunks), None):
            raise StoreError(f"the environments {missing} of a run are missing in the collection run_students")
        return {each.run_id: [env for identity in each.ids for env in chunks[identity]] for each in references}


def chunked(envs: Sequence[Env]) -> list[list[Env]]:
    """Split environments into chunks; return none if all together are small enough for the run's document."""
    sizes = [len(BSON.encode(dict(env))) for env in envs]
    return list(_split(envs, sizes)) if sum(sizes) > INLINE else []


def _split(envs: Sequence[Env], sizes: Sequence[int]) -> Iterator[list[Env]]:
    chunk: list[Env] = []
    total = 0
    for env, size in zip(envs, sizes, strict=True):
        if chunk and total + size > CHUNK:
            yield chunk
            chunk, total = [], 0
        chunk.append(env)
        total += size
    yield chunk
