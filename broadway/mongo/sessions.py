"""The collection ``page_session``: people who have signed in to the pages, without their secrets."""

from datetime import datetime

from broadway.domain.access import Kind, is_of_digest, token_id
from broadway.domain.page_session import PageRole, PageSession
from broadway.mongo.collection import Collection, Document, Documents


class PageSessions:
    """Sessions by id."""

    def __init__(self, collection: Collection) -> None:
        self._sessions = Documents(collection)

    async def ensure_indexes(self) -> None:
        await self._sessions.create_index([("courses", 1), ("created_at", -1)], name="of_course")
        await self._sessions.create_index("gone_at", name="to_remove")

    async def add(self, session: PageSession) -> None:
        """Store a new session."""
        await self._sessions.insert_many([_document(session)])

    async def of_secret(self, secret: str) -> PageSession | None:
        """Return the session with a secret, valid or not, or None."""
        found = await self._sessions.find_one({"_id": token_id(secret)})
        return _session(found) if found and is_of_digest(secret, found["digest"]) else None

    async def note_seen(self, session: PageSession) -> None:
        """Store the time of the session's last request."""
        times: Document = {"seen_at": session.seen_at, "gone_at": session.gone_at}
        await self._sessions.update_one({"_id": session.id}, {"$set": times})

    async def end(self, identity: str, now: datetime) -> None:
        """End a session; ending it again changes nothing."""
        await self._sessions.update_one({"_id": {"$eq": identity}, "ended_at": None}, {"$set": {"ended_at": now}})

    async def open(
        self, kind: Kind | None, courses: tuple[str, ...], student: str, now: datetime, *, limit: int
    ) -> list[PageSession]:
        """Return sessions that have not ended, latest first: of a kind, of any of some courses, and of a student.

        ``kind`` None and an empty ``student`` stand for all; without courses, only sessions without a course. Sessions
        that may change into such a role are among them, of students only for a certain kind.
        """
        role: Document = {"courses": {"$in": list(courses)} if courses else []}
        role |= ({"kind": kind.value} if kind else {}) | ({"student": {"$eq": student}} if student else {})
        later = role if kind else {**role, "kind": Kind.COURSE.value}  # a student's role ends with the roster
        query: Document = {"$or": [role, {"roles": {"$elemMatch": later}}], "ended_at": None, "gone_at": {"$gt": now}}
        found = await self._sessions.find(query, sort=[("created_at", -1), ("_id", 1)], limit=limit)
        return [_session(document) for document in found]

    async def remove_gone(self, before: datetime) -> None:
        """Remove sessions that were over before a moment."""
        await self._sessions.delete_many({"gone_at": {"$lt": before}})


def _document(session: PageSession) -> Document:
    roles = [
        {"kind": each.kind.value, "courses": list(each.courses), "student": each.student} for each in session.roles
    ]
    return {
        "_id": session.id,
        "digest": session.digest,
        "kind": session.kind.value,
        "name": session.name,
        "courses": list(session.courses),
        "student": session.student,
        "created_at": session.created_at,
        "created_by": session.created_by,
        "seen_at": session.seen_at,
        "expires_at": session.expires_at,
        "gone_at": session.gone_at,
        "origin": session.origin,
        "ended_at": session.ended_at,
        **({"roles": roles} if roles else {}),
    }


def _session(document: Document) -> PageSession:
    return PageSession(
        id=document["_id"],
        digest=document["digest"],
        kind=Kind(document["kind"]),
        name=document["name"],
        courses=tuple(document["courses"]),
        student=document["student"],
        created_at=document["created_at"],
        created_by=document["created_by"],
        seen_at=document["seen_at"],
        expires_at=document["expires_at"],
        origin=document["origin"],
        ended_at=document["ended_at"],
        roles=tuple(
            PageRole(Kind(each["kind"]), tuple(each["courses"]), each["student"]) for each in document.get("roles", ())
        ),
    )
