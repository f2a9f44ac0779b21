"""The collections ``hook``, ``roster``, ``hook_delivery`` and ``hook_quota``."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from pydantic import ValidationError
from pymongo import ReturnDocument

from broadway.domain.pages import position
from broadway.domain.roster import Roster, RosterEntry
from broadway.domain.webhook import Delivery, DeliveryState, Hook, HookConfig, Push, Quota
from broadway.mongo.assignments import check_storable
from broadway.mongo.cache import Cache
from broadway.mongo.collection import Collection, Document, Documents, Update, insert_each, update_each
from broadway.mongo.errors import DuplicateKeyError
from broadway.mongo.run_lists import following

log = structlog.get_logger(__name__)

_EPOCH = datetime.fromtimestamp(0, UTC)
_UPDATES = 20  # at a time


class Hooks:
    """Hooks, by ``<course>/<name>``."""

    def __init__(self, collection: Collection) -> None:
        self._hooks = Documents(collection)
        self._cache = Cache(self._read)

    async def get(self, course: str, name: str) -> Hook | None:
        """Return a hook; None if it does not exist or its document is invalid. An invalid document is logged."""
        return await self._read(f"{course}/{name}")

    async def recent(self, course: str, name: str) -> Hook | None:
        """Return a hook from a cache that is at most a moment old, or None."""
        return await self._cache.get(f"{course}/{name}")

    async def _read(self, identity: str) -> Hook | None:
        document = await self._hooks.find_one({"_id": identity})
        return _hook(document) if document else None

    async def of_course(self, course: str) -> list[Hook]:
        """Return a course's hooks, sorted by name."""
        found = await self._hooks.find({"course": course}, sort=[("_id", 1)])
        return [hook for document in found if (hook := _hook(document))]

    async def count(self, course: str, *, without: str) -> int:
        """Return the number of a course's hooks of other names."""
        return await self._hooks.count_documents({"course": course, "_id": {"$ne": f"{course}/{without}"}})

    async def put(self, hook: Hook) -> None:
        """Store a hook; it replaces an earlier hook completely."""
        identity = f"{hook.course}/{hook.name}"
        document = {"course": hook.course, "name": hook.name, **hook.config.model_dump(mode="json")}
        await self._hooks.replace_one({"_id": identity}, document, upsert=True)
        self._cache.forget(identity)

    async def delete(self, course: str, name: str) -> bool:
        """Remove a hook; return False if it does not exist. Its deliveries stay."""
        identity = f"{course}/{name}"
        deleted = await self._hooks.delete_one({"_id": identity})
        self._cache.forget(identity)
        return deleted.deleted_count == 1


class Rosters:
    """Rosters, by ``<course>/<assignment>``."""

    def __init__(self, collection: Collection) -> None:
        self._rosters = Documents(collection)
        self._cache = Cache(self._read)

    async def get(self, course: str, assignment: str) -> Roster | None:
        return await self._read(f"{course}/{assignment}")

    async def recent(self, course: str, assignment: str) -> Roster | None:
        """Return a roster from a cache that is at most a moment old, or None."""
        return await self._cache.get(f"{course}/{assignment}")

    async def _read(self, identity: str) -> Roster | None:
        document = await self._rosters.find_one({"_id": identity})
        return Roster(students=tuple(map(_entry, document["students"]))) if document else None

    async def has_student(self, course: str, student: str) -> bool:
        """Return whether a student is in a roster of the course."""
        query = {"_id": {"$regex": f"^{re.escape(course)}/"}, "students.student": student}
        return await self._rosters.find_one(query, {"_id": 1}) is not None

    async def put(self, course: str, assignment: str, roster: Roster) -> None:
        """Store a roster; it replaces an earlier roster completely.

        Raises:
            UnstorableError: MongoDB would refuse the roster; the earlier roster is unchanged.
        """
        identity = f"{course}/{assignment}"
        document = {"students": [entry.model_dump(mode="json") for entry in roster.students]}
        check_storable(document)
        await self._rosters.replace_one({"_id": identity}, document, upsert=True)
        self._cache.forget(identity)


@dataclass(frozen=True, slots=True)
class DeliveryMove:
    """A change to a delivery, applied only if its state has not changed since it was read."""

    delivery: Delivery
    changes: Mapping[str, Any]


class Deliveries:
    """Deliveries to hooks, by id."""

    def __init__(self, collection: Collection) -> None:
        self._deliveries = Documents(collection)

    async def ensure_indexes(self) -> None:
        await self._deliveries.create_index("due_at", name="undecided")
        await self._deliveries.create_index(
            [("course", 1), ("hook", 1), ("received_at", -1), ("_id", -1)], name="latest_of_hook"
        )
        await self._deliveries.create_index(
            [("course", 1), ("assignment", 1), ("student", 1), ("received_at", 1)], name="by_student"
        )

    async def keep(self, delivery: Delivery) -> tuple[Delivery, bool]:
        """Store a delivery, or count a repetition of a stored one; return the stored delivery, and whether it is new.

        Raises:
            UnstorableError: MongoDB would refuse the delivery; nothing is stored.
        """
        if await self.insert(delivery):
            return delivery, True
        known = await self._deliveries.find_one_and_update(
            {"_id": delivery.id}, {"$inc": {"times": 1}}, return_document=ReturnDocument.AFTER
        )
        return (_delivery(known) if known else delivery), False

    async def insert(self, delivery: Delivery) -> bool:
        """Store a delivery; return False if it is already stored."""
        return (await self.insert_all([delivery]))[0]

    async def insert_all(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Store deliveries; return False for each that is already stored.

        Raises:
            UnstorableError: MongoDB would refuse one of the deliveries; nothing is stored.
        """
        documents = [_document(delivery) for delivery in deliveries]
        for document in documents:
            check_storable(document)
        return await insert_each(self._deliveries, documents)

    async def keep_latest(self, course: str, hook: str, number: int) -> int:
        """Remove a hook's decided deliveries that are not among its latest ones; return how many were removed."""
        query: Document = {"course": course, "hook": hook}
        order = [("received_at", -1), ("_id", -1)]
        oldest = await self._deliveries.find(query, {"received_at": 1}, sort=order, skip=number, limit=1)
        if not oldest:
            return 0
        until = {"received_at": {"$lte": oldest[0]["received_at"]}, "due_at": None}
        return (await self._deliveries.delete_many({**query, **until})).deleted_count

    async def get(self, identity: str) -> Delivery | None:
        document = await self._deliveries.find_one({"_id": identity})
        return _delivery(document) if document else None

    async def move(self, delivery: Delivery, **changes: Any) -> tuple[Delivery, bool]:
        """Change a delivery, if its state has not changed since it was read.

        Returns the stored delivery, and whether this call changed it.
        """
        moved = replace(delivery, **changes)
        if await self.apply(DeliveryMove(delivery, changes)):
            return moved, True
        return await self.get(delivery.id) or moved, False

    async def apply(self, move: DeliveryMove) -> bool:
        """Change a delivery; return False if its state has changed since it was read."""
        return (await self.move_all([move]))[0]

    async def move_all(self, moves: Sequence[DeliveryMove]) -> list[bool]:
        """Change deliveries, each in one conditional update; return False for each whose state has changed."""
        updates = [
            Update(move.delivery.id, {"state": move.delivery.state.value}, dict(map(_stored, move.changes.items())))
            for move in moves
        ]
        return await update_each(self._deliveries, updates, at_a_time=_UPDATES)

    async def undecided(self, now: datetime, *, limit: int) -> list[Delivery]:
        """Return deliveries that should have been decided by ``now``, the earliest due first."""
        found = await self._deliveries.find({"due_at": {"$gt": _EPOCH, "$lte": now}}, sort=[("due_at", 1)], limit=limit)
        return [_delivery(document) for document in found]

    async def of_student(self, course: str, assignment: str, student: str) -> list[Delivery]:
        """Return a student's accepted deliveries for an assignment, oldest first, without bodies."""
        query = {
            "course": course,
            "assignment": assignment,
            "student": student,
            "state": DeliveryState.ACCEPTED.value,
        }
        found = await self._deliveries.find(query, {"body": 0}, sort=[("received_at", 1)])
        return [_delivery(document) for document in found]

    async def of_hook(
        self, course: str, hook: str, *, before: str | None, limit: int, state: DeliveryState | None = None
    ) -> Sequence[Delivery]:
        """Return deliveries to a hook, latest first, without bodies; ``before`` is the cursor of a page.

        Raises:
            CursorError: ``before`` is not a valid cursor.
        """
        query: Document = {"course": course, "hook": hook}
        if before:
            query |= following("received_at", *position(before))
        if state:
            query["state"] = state.value
        found = await self._deliveries.find(query, {"body": 0}, sort=[("received_at", -1), ("_id", -1)], limit=limit)
        return [_delivery(document) for document in found]


class Quotas:
    """The recent submissions of students, which quotas limit."""

    def __init__(self, collection: Collection) -> None:
        self._quotas = Documents(collection)

    async def take(self, key: str, submission: str, quota: Quota, now: datetime) -> datetime | None:
        """Count a submission against a quota, once. If the quota is used up, return when the next one is allowed.

        One conditional update decides, so that two concurrent submissions cannot both get the last place.
        """
        known = await self._quotas.find_one({"_id": key})
        times = known["times"] if known else []
        if any(entry["submission"] == submission for entry in times):
            return None
        since = now - timedelta(seconds=quota.seconds)
        oldest = f"times.{quota.submissions - 1}.at"
        entry = {"submission": submission, "at": now}
        try:
            await self._quotas.update_one(
                {"_id": key, "$or": [{oldest: {"$exists": False}}, {oldest: {"$lte": since}}]},
                {"$push": {"times": {"$each": [entry], "$position": 0, "$slice": quota.submissions}}},
                upsert=True,
            )
        except DuplicateKeyError:
            known = await self._quotas.find_one({"_id": key})
            at: datetime = known["times"][quota.submissions - 1]["at"] if known else now
            return at + timedelta(seconds=quota.seconds)
        return None


def _hook(document: Document) -> Hook | None:
    fields = {key: document.get(key) for key in HookConfig.model_fields if key in document}
    try:
        config = HookConfig.model_validate(fields)
        return Hook(document["course"], document["name"], config, is_older="env" not in document)
    except (KeyError, ValidationError) as error:
        log.warning("hook left out", hook=str(document["_id"]), problem=type(error).__name__)
        return None


def _entry(document: Document) -> RosterEntry:
    return RosterEntry.model_validate({key: document.get(key) for key in RosterEntry.model_fields})


def _stored(change: tuple[str, Any]) -> tuple[str, Any]:
    name, value = change
    return name, value.value if isinstance(value, DeliveryState) else value


def _document(delivery: Delivery) -> Document:
    push = delivery.push
    return {
        "_id": delivery.id,
        "course": delivery.course,
        "hook": delivery.hook,
        "assignment": delivery.assignment,
        "delivery_id": delivery.delivery_id,
        "received_at": delivery.received_at,
        "state": delivery.state.value,
        "push": None
        if push is None
        else {
            "version": push.version,
            "ref": push.ref,
            "student": push.student,
            "repository": push.repository,
            "repository_id": push.repository_id,
            "env": dict(push.env),
            "delivered": dict(push.delivered),
        },
        "student": delivery.student,
        "run_id": delivery.run_id,
        "reason": delivery.reason,
        "retry_at": delivery.retry_at,
        "due_at": delivery.due_at,
        "times": delivery.times,
        "body": delivery.body,
        "traceparent": delivery.traceparent,
    }


def _delivery(document: Document) -> Delivery:
    push = document.get("push")
    own = {
        "id": document["_id"],
        "state": DeliveryState(document["state"]),
        "push": Push.stored(push) if push else None,
    }
    rest = {key: value for key, value in document.items() if key not in ("_id", "state", "push", "writer")}
    return Delivery(**{**rest, **own})
