"""The collection ``access_token``: tokens that operators and courses have handed out, without their secrets."""

from collections.abc import Sequence
from datetime import datetime

from pymongo import ReturnDocument

from broadway.domain.access import AccessToken, TokenKind, is_of_digest, token_id
from broadway.domain.pages import position
from broadway.mongo.collection import Collection, Document, Documents


class AccessTokens:
    """Access tokens by id."""

    def __init__(self, collection: Collection) -> None:
        self._tokens = Documents(collection)

    async def ensure_indexes(self) -> None:
        await self._tokens.create_index([("course", 1), ("created_at", -1), ("_id", -1)], name="latest_of_course")

    async def add(self, token: AccessToken) -> None:
        """Store a new token."""
        await self.add_all([token])

    async def add_all(self, tokens: Sequence[AccessToken]) -> None:
        """Store new tokens."""
        await self._tokens.insert_many([_document(token) for token in tokens])

    async def of_ids(self, identities: Sequence[str]) -> list[AccessToken]:
        """Return the tokens with some public ids, valid or not."""
        return [_token(document) for document in await self._tokens.find_by_ids(identities)]

    async def revoke_all(self, identities: Sequence[str], now: datetime) -> None:
        """Revoke tokens; those that are revoked already stay as they are."""
        query: Document = {"_id": {"$in": list(identities)}, "revoked_at": None}
        await self._tokens.update_many(query, {"$set": {"revoked_at": now}})

    async def find(self, secret: str, kind: TokenKind) -> AccessToken | None:
        """Return the token with a secret, valid or not; None if there is no such token of this kind."""
        found = await self._tokens.find_one({"_id": token_id(secret), "kind": kind.value})
        return _token(found) if found and is_of_digest(secret, found["digest"]) else None

    async def get(self, identity: str, kind: TokenKind) -> AccessToken | None:
        """Return a token by its public id, or None."""
        found = await self._tokens.find_one({"_id": {"$eq": identity}, "kind": kind.value})
        return _token(found) if found else None

    async def of_secret(self, secret: str) -> AccessToken | None:
        """Return the token with a secret, of any kind, valid or not; None if there is no such token."""
        found = await self._tokens.find_one({"_id": token_id(secret)})
        return _token(found) if found and is_of_digest(secret, found["digest"]) else None

    async def valid(
        self, course: str, kinds: Sequence[TokenKind], now: datetime, *, student: str | None = None
    ) -> list[AccessToken]:
        """Return a course's valid tokens of some kinds; only those of a student if one is given."""
        query = {**_of(course, kinds, student), "revoked_at": None}
        return [token for document in await self._tokens.find(query) if (token := _token(document)).is_valid(now)]

    async def of_course(
        self, course: str, kinds: Sequence[TokenKind], *, student: str | None = None, before: str | None, limit: int
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

    async def one_of_course(self, course: str, identity: str) -> AccessToken | None:
        """Return a course's token, valid or not, or None."""
        found = await self._tokens.find_one({"_id": {"$eq": identity}, "course": course})
        return _token(found) if found else None

    async def revoke_of_course(
        self, course: str, kinds: Sequence[TokenKind], identity: str, now: datetime
    ) -> AccessToken | None:
        """Revoke a course's token of one of the kinds; return it as changed, or None if there is none to revoke."""
        query = {"_id": {"$eq": identity}, **_of(course, kinds), "revoked_at": None}
        change: Document = {"$set": {"revoked_at": now}}
        found = await self._tokens.find_one_and_update(query, change, return_document=ReturnDocument.AFTER)
        return _token(found) if found else None

    async def of_kind(self, kind: TokenKind, *, limit: int) -> list[AccessToken]:
        """Return the tokens of a kind, latest first."""
        found = await self._tokens.find({"kind": kind.value}, sort=[("created_at", -1), ("_id", 1)], limit=limit)
        return [_token(document) for document in found]

    async def revoke(self, identity: str, kind: TokenKind, now: datetime) -> bool:
        """Revoke a token; return False if it does not exist. Revoking it again changes nothing."""
        query: Document = {"_id": {"$eq": identity}, "kind": kind.value}
        await self._tokens.update_one({**query, "revoked_at": None}, {"$set": {"revoked_at": now}})
        return await self._tokens.find_one(query, {"_id": 1}) is not None

    async def use(self, identity: str, user: str, now: datetime) -> bool:
        """Count a use of a token, once for each user; return False if it is invalid now, or has no uses left."""
        valid: Document = {
            "_id": {"$eq": identity},
            "revoked_at": None,
            "$or": [{"expires_at": None}, {"expires_at": {"$gt": now}}],
        }
        counted: Document = {"$inc": {"uses_left": -1}, "$push": {"users": user}}
        fresh: Document = {**valid, "uses_left": {"$gt": 0}, "users": {"$ne": user}}
        if (await self._tokens.update_one(fresh, counted)).matched_count:
            return True
        allowed: Document = {**valid, "$and": [{"$or": [{"uses_left": None}, {"users": user}]}]}
        return await self._tokens.find_one(allowed, {"_id": 1}) is not None

    async def ended(self, course: str, before: datetime) -> list[str]:
        """Return the ids of a course's tokens that were revoked, or expired, before a moment.

        An empty course stands for tokens without one.
        """
        found = await self._tokens.find({"course": course}, {"revoked_at": 1, "expires_at": 1})
        ends = {each["_id"]: [each.get("revoked_at"), each.get("expires_at")] for each in found}
        return [identity for identity, times in ends.items() if any(time and time < before for time in times)]

    async def remove(self, identities: Sequence[str]) -> int:
        """Remove tokens; return their number."""
        return (await self._tokens.delete_many({"_id": {"$in": list(identities)}})).deleted_count

    async def give_back(self, identity: str, user: str) -> None:
        """Take back the use of a user, if it was counted."""
        query: Document = {"_id": {"$eq": identity}, "users": user, "uses_left": {"$ne": None}}
        await self._tokens.update_one(query, {"$inc": {"uses_left": 1}, "$pull": {"users": user}})


def _of(course: str, kinds: Sequence[TokenKind], student: str | None = None) -> Document:
    query: Document = {"course": course, "kind": {"$in": [kind.value for kind in kinds]}}
    return query if student is None else {**query, "student": student}


def _document(token: AccessToken) -> Document:
    return {
        "_id": token.id,
        "kind": token.kind.value,
        "digest": token.digest,
        "created_at": token.created_at,
        "created_by": token.created_by,
        "name": token.name,
        "course": token.course,
        "student": token.student,
        "pools": None if token.pools is None else list(token.pools),
        "uses_left": token.uses_left,
        "users": list(token.users),
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
    }


def _token(document: Document) -> AccessToken:
    pools = document.get("pools")
    return AccessToken(
        id=document["_id"],
        kind=TokenKind(document["kind"]),
        digest=document["digest"],
        created_at=document["created_at"],
        created_by=document.get("created_by", ""),
        name=document.get("name", ""),
        course=document.get("course", ""),
        student=document.get("student", ""),
        pools=None if pools is None else tuple(pools),
        uses_left=document.get("uses_left"),
        users=tuple(document.get("users", ())),
        expires_at=document.get("expires_at"),
        revoked_at=document.get("revoked_at"),
    )
