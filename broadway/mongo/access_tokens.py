"""The collection ``access_token``: tokens that the API has handed out, by the hashes of their secrets."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from broadway.domain.access import AccessToken, Kind, token_id
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

    async def of_course(self, course: str, kinds: Sequence[Kind], *, student: str | None = None) -> list[AccessToken]:
        """Return a course's tokens of some kinds, oldest first; only those of a student if one is given."""
        query: Document = {"course": course, "kind": {"$in": [kind.value for kind in kinds]}}
        if student is not None:
            query["student"] = student
        found = await self._tokens.find(query, sort=[("created_at", 1), ("_id", 1)])
        return [_token(document) for document in found]

    async def revoke(self, course: str, identity: str, now: datetime, *, student: str | None = None) -> bool:
        """Revoke a course's token, or a student's if one is given; return False if there is none to revoke."""
        query = {"_id": identity, "course": course, "student": student, "revoked_at": None}
        return (await self._tokens.update_one(query, {"$set": {"revoked_at": now}})).modified_count == 1


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
