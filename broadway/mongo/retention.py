"""The collection ``retention``: each course's own rules, and the passes that were ordered and that ended last.

The document of things without a course has the id ``@deployment``, which no course can have.
"""

from dataclasses import asdict
from datetime import datetime

from broadway.domain.retention import CourseRules, Pass, State
from broadway.mongo.collection import Collection, Document, Documents

DEPLOYMENT = "@deployment"


class RetentionStates:
    """States of retention by course; an empty course stands for things without one."""

    def __init__(self, collection: Collection) -> None:
        self._states = Documents(collection)

    async def get(self, course: str) -> State:
        found = await self._states.find_one({"_id": course or DEPLOYMENT})
        return _state(course, found) if found else State(course)

    async def put_rules(self, course: str, rules: CourseRules) -> None:
        """Replace a course's own rules."""
        await self._set(course, {"rules": rules.model_dump()})

    async def order(self, course: str, ordered: Pass) -> bool:
        """Store a pass that is to be made; return False, and change nothing, if another one is ordered."""
        await self._states.update_one({"_id": course or DEPLOYMENT}, {"$setOnInsert": {"rules": {}}}, upsert=True)
        query = {"_id": course or DEPLOYMENT, "ordered": None}
        return (await self._states.update_one(query, {"$set": {"ordered": asdict(ordered)}})).modified_count > 0

    async def end(self, course: str, ended: Pass) -> None:
        """Store the end of a pass."""
        name = "last_dry" if ended.is_dry else "last"
        await self._set(course, {name: asdict(ended)})
        query = {"_id": course or DEPLOYMENT, "ordered.id": ended.id}
        await self._states.update_one(query, {"$set": {"ordered": None}})

    async def ordered(self) -> list[State]:
        """Return the states with ordered passes, the earliest first."""
        found = await self._states.find({"ordered": {"$ne": None}}, sort=[("ordered.ordered_at", 1)])
        return [_state("" if each["_id"] == DEPLOYMENT else each["_id"], each) for each in found]

    async def _set(self, course: str, fields: Document) -> None:
        await self._states.update_one({"_id": course or DEPLOYMENT}, {"$set": fields}, upsert=True)


def _state(course: str, document: Document) -> State:
    return State(
        course,
        CourseRules.model_validate(document.get("rules") or {}),
        _pass(document.get("ordered")),
        _pass(document.get("last")),
        _pass(document.get("last_dry")),
    )


def _pass(document: Document | None) -> Pass | None:
    if document is None:
        return None
    ended: datetime | None = document.get("ended_at")
    return Pass(
        document["id"],
        document["is_dry"],
        document["ordered_at"],
        document.get("by", ""),
        ended,
        document.get("counts") or {},
        document.get("kept") or {},
    )
