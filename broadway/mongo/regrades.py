"""The collections ``regrade`` and ``regrade_part``: regrades, and the submissions that their runs grade again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from broadway.domain.pages import position
from broadway.domain.parts import in_parts
from broadway.domain.regrade import Item, Part, PartKind, Regrade, RegradeOrder, Seen
from broadway.domain.regrade_terms import RegradeState, Select
from broadway.mongo.assignments import check_storable
from broadway.mongo.collection import Collection, Document, Documents, insert_each
from broadway.mongo.run_lists import following

_INSERTS = 50  # parts written at a time
_SCALARS = (
    *("course", "assignment", "config_digest", "created_at", "by", "base", "submissions", "ready_at", "version"),
    *(
        "publishing_at",
        "published_at",
        "published_by",
        "note",
        "discarded_at",
        "discarded_by",
        "clean_at",
        "announce_at",
        "revision",
    ),
)


class Regrades:
    """Regrades by id."""

    def __init__(self, regrades: Collection, parts: Collection) -> None:
        self._regrades = Documents(regrades)
        self._parts = Documents(parts)

    async def ensure_indexes(self) -> None:
        await self._regrades.create_index(
            [("course", 1), ("assignment", 1), ("created_at", -1), ("_id", -1)], name="latest_of_assignment"
        )
        await self._regrades.create_index("is_active", name="to_advance")
        await self._regrades.create_index("announce_at", name="to_announce")
        await self._parts.create_index([("regrade", 1), ("plan", 1)], name="of_plan")

    async def add(self, regrade: Regrade) -> bool:
        """Store a regrade; return False if its id is taken.

        Raises:
            UnstorableError: It is too large for the store.
        """
        document = {"_id": regrade.id, **_fields(regrade), "order": _order(regrade), "config": dict(regrade.config)}
        check_storable(document)
        return (await insert_each(self._regrades, [document]))[0]

    async def get(self, course: str, identity: str) -> Regrade | None:
        """Return a regrade of a course, or None."""
        found = await self._regrades.find_one({"_id": {"$eq": identity}, "course": {"$eq": course}})
        return _regrade(found) if found else None

    async def latest(self, course: str, assignment: str, *, before: str | None, limit: int) -> list[Regrade]:
        """Return the regrades of an assignment without their configs, latest first.

        Raises:
            CursorError: ``before`` is not a cursor.
        """
        query: Document = {"course": course, "assignment": assignment}
        if before:
            query |= following("created_at", *position(before))
        order = [("created_at", -1), ("_id", -1)]
        return [_regrade(each) for each in await self._regrades.find(query, {"config": 0}, sort=order, limit=limit)]

    async def move(self, after: Regrade) -> bool:
        """Store the next revision of a regrade; return False if the stored one is not the one before it."""
        known = {"_id": after.id, "revision": after.revision - 1}
        return (await self._regrades.update_one(known, {"$set": _fields(after)})).modified_count > 0

    async def put_parts(self, parts: Sequence[Part]) -> None:
        """Store parts; one that is stored already stays as it is."""
        for some in in_parts(parts, _INSERTS):
            await insert_each(self._parts, [_part_document(part) for part in some])

    async def parts(self, regrade: Regrade) -> list[Part]:
        """Return the parts of a regrade's plans, in the order of the plans."""
        found: list[Part] = []
        for plan in regrade.plans:
            query = {"regrade": regrade.id, "plan": plan}
            found += [_part(each) for each in await self._parts.find(query, sort=[("_id", 1)])]
        return found

    async def parts_by_id(self, identities: Sequence[str]) -> list[Part]:
        """Return parts by their ids, in the order of the ids; unknown ids are left out."""
        found = {each["_id"]: _part(each) for each in await self._parts.find_by_ids(list(identities))}
        return [found[each] for each in identities if each in found]

    async def tidy(self, regrade: Regrade) -> None:
        """Remove the parts of plans that the regrade does not have."""
        await self._parts.delete_many({"regrade": regrade.id, "plan": {"$nin": list(regrade.plans)}})

    async def active(self, *, after: str, limit: int) -> list[Regrade]:
        """Return regrades for which a process has something to do, now or later, by id; those after an id."""
        query: Document = {"is_active": True, "_id": {"$gt": after}}
        return [_regrade(each) for each in await self._regrades.find(query, sort=[("_id", 1)], limit=limit)]

    async def count_active(self, course: str) -> int:
        """Return the number of a course's regrades for which a process has something to do."""
        return await self._regrades.count_documents({"is_active": True, "course": course})

    async def is_open(self, course: str, assignment: str) -> bool:
        """Return whether an assignment has a regrade that is neither published nor discarded."""
        states = [each.value for each in RegradeState if each not in (RegradeState.PUBLISHED, RegradeState.DISCARDED)]
        query: Document = {"course": course, "assignment": assignment, "state": {"$in": states}}
        return await self._regrades.find_one(query, {"_id": 1}) is not None

    async def discarded(self, course: str, assignment: str, before: datetime) -> list[Regrade]:
        """Return regrades that were discarded before a moment and whose jobs have ended; without configs."""
        query: Document = {"course": course, "assignment": assignment, "state": RegradeState.DISCARDED.value}
        found = await self._regrades.find({**query, "discarded_at": {"$lt": before}, "clean_at": None}, {"config": 0})
        return [_regrade(each) for each in found]

    async def remove_parts(self, regrade: Regrade) -> None:
        """Remove the parts of a discarded regrade, whose runs are removed."""
        await self._parts.delete_many({"regrade": regrade.id})

    async def to_announce(self, *, limit: int) -> list[Regrade]:
        """Return regrades that are ready and whose callback is not sent yet, the earliest first; without configs."""
        query = {"announce_at": {"$gt": datetime.fromtimestamp(0, UTC), "$lte": datetime.now(UTC)}}
        found = await self._regrades.find(query, {"config": 0}, sort=[("announce_at", 1)], limit=limit)
        return [_regrade(each) for each in found]

    async def announced(self, regrade: Regrade) -> None:
        """Clear ``announce_at``, unless the regrade is ready once more."""
        query = {"_id": regrade.id, "announce_at": regrade.announce_at}
        await self._regrades.update_one(query, {"$set": {"announce_at": None}})


def _fields(regrade: Regrade) -> Document:
    """Return the fields that may change, with those that are looked for."""
    fields: Document = {name: getattr(regrade, name) for name in _SCALARS}
    return fields | {
        "state": regrade.state.value,
        "plans": list(regrade.plans),
        "is_active": True if regrade.is_active else None,
    }


def _order(regrade: Regrade) -> Document:
    order = regrade.order
    return {**asdict(order), "select": order.select.value, "submissions": list(order.submissions)}


def _regrade(document: Mapping[str, Any]) -> Regrade:
    order = document["order"]
    return Regrade(
        id=document["_id"],
        state=RegradeState(document["state"]),
        order=RegradeOrder(
            select=Select(order["select"]),
            submissions=tuple(order["submissions"]),
            control_percent=order["control_percent"],
            reason=order["reason"],
        ),
        config=document.get("config") or {},
        plans=tuple(document["plans"]),
        **{name: document[name] for name in _SCALARS},
    )


def _part_document(part: Part) -> Document:
    return {
        "_id": part.id,
        "regrade": part.regrade,
        "plan": part.plan,
        "number": part.number,
        "kind": part.kind.value,
        "items": [asdict(item) for item in part.items],
        "seen": [[each.student, each.counting, list(each.submissions), each.is_listed] for each in part.seen],
        "config": dict(part.config) if part.config is not None else None,
    }


def _part(document: Document) -> Part:
    return Part(
        regrade=document["regrade"],
        plan=document["plan"],
        number=document["number"],
        kind=PartKind(document["kind"]),
        items=tuple(Item(**each) for each in document["items"]),
        seen=tuple(Seen(name, counting, tuple(own), listed) for name, counting, own, listed in document["seen"]),
        config=document["config"],
    )
