"""The collection ``access_token``: tokens that operators and courses have handed out, without their secrets."""

from datetime import datetime

from broadway.domain.access import AccessToken, TokenKind, is_of_digest, token_id
from broadway.mongo.collection import Collection, Document, Documents


class AccessTokens:
    """Access tokens by id."""

    def __init__(self, collection: Collection) -> None:
        self._tokens = Documents(collection)

    async def add(self, token: AccessToken) -> None:
        """Store a new token."""
        await self._tokens.insert_many([_document(token)])

    async def find(self, secret: str, kind: TokenKind) -> AccessToken | None:
        """Return the token with a secret, valid or not; None if there is no such token of this kind."""
        found = await self._tokens.find_one({"_id": token_id(secret), "kind": kind.value})
        return _token(found) if found and is_of_digest(secret, found["digest"]) else None

    async def get(self, identity: str, kind: TokenKind) -> AccessToken | None:
        """Return a token by its public id, or None."""
        found = await self._tokens.find_one({"_id": {"$eq": identity}, "kind": kind.value})
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

    async def give_back(self, identity: str, user: str) -> None:
        """Take back the use of a user, if it was counted."""
        query: Document = {"_id": {"$eq": identity}, "users": user, "uses_left": {"$ne": None}}
        await self._tokens.update_one(query, {"$inc": {"uses_left": 1}, "$pull": {"users": user}})


def _document(token: AccessToken) -> Document:
    return {
        "_id": token.id,
        "kind": token.kind.value,
        "digest": token.digest,
        "created_at": token.created_at,
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
        name=document.get("name", ""),
        course=document.get("course", ""),
        student=document.get("student", ""),
        pools=None if pools is None else tuple(pools),
        uses_left=document.get("uses_left"),
        users=tuple(document.get("users", ())),
        expires_at=document.get("expires_at"),
        revoked_at=document.get("revoked_at"),
    )
