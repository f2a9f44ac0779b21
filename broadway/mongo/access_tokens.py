"""The collection ``access_token``: tokens that the API has handed out, by the hashes of their secrets."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from pymongo import ReturnDocument

from broadway.domain.access import AccessToken, Kind, token_id
from broadway.domain.pages import position
from broadway.mongo.collection import Collection, Document, Documents


class AccessTokens:
    """Access tokens by id. A revoked token stays, so that its name in the audit log keeps its meaning."""

    def __init__(self, collection: Collection) -> None:
        self._tokens = Documents(collection)

    async def ensure_indexes(self) -> None:
        await self._tokens.create_index([("course", 1), ("student", 1), ("created_at", 1)], name="of_course")

    async def add(self, token: AccessToken) -> None:
        """Store a new token."""
        document = asdict(token)
        document["_id"] = document.pop("id")
        document["kind"] = token.kind.value
        document["pools"] = None if token.pools is None else list(token.pools)
        await self._tokens.insert_many([document])

    async def find(self, secret: str) -> AccessToken | None:
        """Return the token with a secret, valid or not, or None."""
        document = await self._tokens.find_one({"_id": token_id(secret)})
        token = _token(document) if document else None
        return token if token and token.is_secret(secret) else None

    async def valid(
        self, course: str, kinds: Sequence[Kind], now: datetime, *, student: str | None = None
    ) -> list[AccessToken]:
        """Return a course's valid tokens of some kinds; only those of a student if one is given."""
        query = {**_of(course, kinds, student), "revoked_at": None}
        return [token for document in await self._tokens.find(query) if (token := _token(document)).is_valid(now)]

    async def of_course(
        self, course: str, kinds: Sequence[Kind], *, student: str | None = None, before: str | None, limit: int
    ) -> list[AccessToken]:
        """Return a course's tokens of some kinds, valid or not, latest first; only a student's if one is given.

        Raises:
            CursorError: ``before`` is not a cursor.
        """
        query = _of(course, kinds, student)
        if before:
            at, identity = position(before)
            query["$or"] = [{"created_at": {"$lt": at}}, {"created_at": at, "_id": {"$lt": identity}}]
        found = await self._tokens.find(query, sort=[("created_at", -1), ("_id", -1)], limit=limit)
        return [_token(document) for document in found]

    async def one(self, course: str, identity: str) -> AccessToken | None:
        """Return a course's token, valid or not, or None."""
        document = await self._tokens.find_one({"_id": identity, "course": course})
        return _token(document) if document else None

    async def revoke(self, course: str, kinds: Sequence[Kind], identity: str, now: datetime) -> AccessToken | None:
        """Revoke a course's token of one of the kinds; return it as changed, or None if there is none to revoke."""
        query = {"_id": identity, **_of(course, kinds), "revoked_at": None}
        change = {"$set": {"revoked_at": now}}
        found = await self._tokens.find_one_and_update(query, change, return_document=ReturnDocument.AFTER)
        return _token(found) if found else None


def _of(course: str, kinds: Sequence[Kind], student: str | None = None) -> Document:
    query: Document = {"course": course, "kind": {"$in": [kind.value for kind in kinds]}}
    return query if student is None else {**query, "student": student}


def _token(document: Document) -> AccessToken:
    pools = document.get("pools")
    return AccessToken(
        id=str(document["_id"]),
        digest=document["digest"],
        kind=Kind(document["kind"]),
        name=document.get("name", ""),
        created_at=document["created_at"],
        course=document.get("course"),
        student=document.get("student"),
        expires_at=document.get("expires_at"),
        revoked_at=document.get("revoked_at"),
        created_by=document.get("created_by", ""),
        uses_left=document.get("uses_left"),
        pools=None if pools is None else tuple(pools),
    )
