"""Removal of one student's other traces: rosters, tokens, sessions, deliveries, callbacks, letters and audit texts."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Self

from bson import ObjectId
from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.deletion import Deletion
from broadway.domain.webhook import quota_key
from broadway.mongo.collection import IDS, Document, Documents, below
from broadway.runtime.crashpoints import Point, reach

_TEXTS = ("name", "object", "given", "before", "after")
_PAGE = 200
_REVISION = 8  # bytes


@dataclass(frozen=True, slots=True)
class DeletedTraces:
    """Removal of traces by student. Each call is safe to repeat."""

    main: AsyncDatabase[dict[str, Any]]

    @classmethod
    def of(cls, main: AsyncDatabase[dict[str, Any]]) -> Self:
        """Return the removal from a database."""
        return cls(main)

    async def entries(self, course: str, student: str) -> list[Document]:
        """Return a student's entries in the rosters of a course: the student's own, and those of groups."""
        found = [each for roster in await self._rosters(course, [student]) for each in roster["students"]]
        return [each for each in found if student in _people(each) or each["student"] == student]

    async def count(self, who: Deletion, assignments: Sequence[str]) -> Counter[str]:
        """Return the numbers of a student's traces."""
        counts = Counter(rosters=len(await self._rosters(who.course, who.names)))
        for kind, name, query in self._removed(who, assignments):
            counts[kind] += len(await self._of(name).find(query, {"_id": 1}))
        counts["callbacks"] = len(await self._of("callback_event").find(_events(who), {"_id": 1}))
        counts["submitted_for_groups"] = len(await self._of("submission").find(_by(who), {"_id": 1}))
        counts["dead_letters"] = len(await self._letters(who, ()))
        counts["audit"] = sum([1 async for _ in self._audit(who)])
        return counts

    async def withdraw(self, who: Deletion, assignments: Sequence[str]) -> None:
        """Remove a student from rosters, and all tokens, sessions and deliveries, so that nothing new is stored."""
        for roster in await self._rosters(who.course, who.names):
            await self._leave(who, roster)
        for _, name, query in self._removed(who, assignments):
            await self._of(name).delete_many(query)

    async def replace(self, who: Deletion, jobs: Sequence[str]) -> None:
        """Replace the name in what stays, and remove dead letters about some jobs or with the name."""
        await self._of("callback_event").update_many(_events(who), {"$set": {"data.student": None}})
        await self._of("submission").update_many(_by(who), {"$set": {"by": who.pseudonym}})
        await self._replace_reasons(who)
        for letter in await self._letters(who, jobs):
            await self._of("dead_letter").delete_one({"_id": letter})
        await reach(Point.DELETION_NAMES_REPLACED)
        async for record in self._audit(who):
            texts = {name: who.replaced(record[name]) for name in _TEXTS if record.get(name)}
            await self._of("audit").update_one({"_id": record["_id"]}, {"$set": texts})

    def _removed(self, who: Deletion, assignments: Sequence[str]) -> list[tuple[str, str, Document]]:
        """Return kinds, collections and queries of the traces that are removed."""
        course, mine = who.course, {"$in": list(who.names)}
        quotas = [quota_key(course, assignment, name) for assignment in assignments for name in who.names]
        pushed: Document = {"$or": [{"student": mine}, {"push.student": mine}]}
        if who.repositories:
            pushed["$or"].append({"push.repository": {"$in": list(who.repositories)}})
        return [
            ("tokens", "access_token", {"course": course, "student": who.student}),
            ("sessions", "page_session", {"courses": course, "student": who.student}),
            ("sessions", "page_session", {"roles": {"$elemMatch": {"courses": course, "student": who.student}}}),
            ("deliveries", "hook_delivery", {"course": course, **pushed}),
            ("quotas", "hook_quota", {"_id": {"$in": quotas}}),
        ]

    async def _rosters(self, course: str, names: Sequence[str]) -> list[Document]:
        found = await self._of("roster").find(below(course))
        some = set(names)
        return [each for each in found if any(some & {entry["student"], *_people(entry)} for entry in each["students"])]

    async def _leave(self, who: Deletion, roster: Document) -> None:
        """Take a student out of a roster, unless it is replaced meanwhile; the next pass finds it then."""
        students = [left for each in roster["students"] if (left := _without(who, each))]
        unchanged = {"_id": roster["_id"], "revision": roster.get("revision")}
        change = {"students": students, "revision": token_hex(_REVISION)}
        await self._of("roster").update_one(unchanged, {"$set": change})

    async def _replace_reasons(self, who: Deletion) -> None:
        """Replace the name in events of deliveries that fitted no entry."""
        query: Document = {"course": who.course, "data.reason": {"$exists": True}}
        for each in await self._of("callback_event").find(query, {"data.reason": 1}):
            reason = each["data"]["reason"]
            if isinstance(reason, str) and (left := who.replaced(reason)) != reason:
                await self._of("callback_event").update_one({"_id": each["_id"]}, {"$set": {"data.reason": left}})

    async def _letters(self, who: Deletion, jobs: Sequence[str]) -> list[str]:
        """Return the dead letters that name a job of the student, or the student and the course."""
        named = [
            json.dumps(each, ensure_ascii=ascii_only).encode() for each in who.names for ascii_only in (True, False)
        ]
        course, ids = json.dumps(who.course).encode(), [each.encode() for each in jobs]
        found: list[str] = []
        for letter in await self._of("dead_letter").find({}, {"body": 1}):
            body = bytes(letter.get("body") or b"")
            is_named = course in body and any(each in body for each in named)
            if is_named or any(each in body for each in ids):
                found.append(letter["_id"])
        return found

    async def _audit(self, who: Deletion) -> AsyncIterator[Document]:
        """Yield the records that name the student; those without a course if no other course has the student."""
        scopes: list[str | None] = [who.course]
        if not await self._is_elsewhere(who):
            scopes.append(None)
        for scope in scopes:
            after: Any = ObjectId("0" * 24)
            fields = dict.fromkeys(_TEXTS, 1)
            while found := await self._of("audit").find(
                {"course": scope, "_id": {"$gt": after}}, fields, sort=[("_id", 1)], limit=_PAGE
            ):
                after = found[-1]["_id"]
                for each in found:
                    if any(who.replaced(each[name]) != each[name] for name in _TEXTS if each.get(name)):
                        yield each

    async def _is_elsewhere(self, who: Deletion) -> bool:
        """Return whether another course has the student in a roster."""
        for key in ("students.student", "students.members"):
            rosters = await self._of("roster").find({key: {"$eq": who.student}}, {"_id": 1}, limit=IDS)
            if any(not str(each["_id"]).startswith(f"{who.course}/") for each in rosters):
                return True
        return False

    def _of(self, name: str) -> Documents:
        return Documents(self.main[name])


def _people(entry: Document) -> Sequence[str]:
    return entry.get("members") or [entry["student"]]


def _without(who: Deletion, entry: Document) -> Document | None:
    """Return an entry of a roster without the student; None for an entry without others."""
    left = [each for each in _people(entry) if each not in who.names]
    if not left or entry["student"] in who.names:
        return None
    return {**entry, "members": left} if entry.get("members") else entry


def _events(who: Deletion) -> Document:
    return {"course": who.course, "data.student": {"$in": list(who.names)}}


def _by(who: Deletion) -> Document:
    """Return the query for submissions of groups that the student has handed in."""
    return {"course": who.course, "by": who.student}
