"""The collection ``hook_delivery``: deliveries to hooks, and the moves and leases of their decisions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from pymongo import ReturnDocument

from broadway.domain.pages import position
from broadway.domain.webhook import Delivery, DeliveryState, Push
from broadway.mongo.assignments import check_storable
from broadway.mongo.collection import Collection, Document, Documents, Update, insert_each, update_each
from broadway.mongo.run_lists import following

log = structlog.get_logger(__name__)

_EPOCH = datetime.fromtimestamp(0, UTC)
_UPDATES = 20  # at a time
_PUT_OFF = timedelta(minutes=10)  # for documents that another version may be able to read
_FIELDS = frozenset(field.name for field in fields(Delivery)) - {"id", "state", "push"}


@dataclass(frozen=True, slots=True)
class DeliveryMove:
    """A change to a delivery, applied only if its state has not changed since it was read."""

    delivery: Delivery
    changes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeliveryClaim:
    """A change of the time at which a delivery is due, applied only if it is due before ``before``."""

    delivery: Delivery
    before: datetime
    until: datetime


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
        return (known and _readable(known)) or delivery, False

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

    async def decided(self, course: str, before: datetime, *, after: str, limit: int) -> list[tuple[str, str | None]]:
        """Return ids of a course's deliveries that arrived before a moment and are decided, with their runs, by id.

        Deliveries of uploads are left out: they belong to the submissions.
        """
        query: Document = {"course": course, "received_at": {"$lt": before}, "due_at": None, "_id": {"$gt": after}}
        query["hook"] = {"$not": {"$regex": "^@"}}
        found = await self._deliveries.find(query, {"run_id": 1}, sort=[("_id", 1)], limit=limit)
        return [(each["_id"], each.get("run_id")) for each in found]

    async def remove(self, identities: Sequence[str]) -> int:
        """Remove decided deliveries; return their number."""
        return (await self._deliveries.delete_many({"_id": {"$in": list(identities)}, "due_at": None})).deleted_count

    async def get(self, identity: str) -> Delivery | None:
        """Return a delivery; None if it does not exist or its document cannot be read, which is logged."""
        document = await self._deliveries.find_one({"_id": identity})
        return _readable(document) if document else None

    async def get_many(self, identities: Sequence[str]) -> dict[str, Delivery]:
        """Return deliveries by id, without bodies; unknown and unreadable ones are left out."""
        found = await self._deliveries.find_by_ids(identities, {"body": 0})
        return {each.id: each for each in _readable_ones(found)}

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

    async def claim(self, delivery: Delivery, *, before: datetime, until: datetime) -> bool:
        """Make a delivery due at ``until``; return False if it is not due before ``before``, or its state has changed.

        One conditional update decides, so that one of several processes gets the delivery.
        """
        return (await self.claim_all([DeliveryClaim(delivery, before, until)]))[0]

    async def claim_all(self, claims: Sequence[DeliveryClaim]) -> list[bool]:
        """Make deliveries due later, as ``claim`` does."""
        updates = [
            Update(
                claim.delivery.id,
                {"state": claim.delivery.state.value, "due_at": {"$gt": _EPOCH, "$lte": claim.before}},
                {"due_at": claim.until},
            )
            for claim in claims
        ]
        return await update_each(self._deliveries, updates, at_a_time=_UPDATES)

    async def undecided(self, now: datetime, *, limit: int, without: Sequence[str] = ()) -> list[Delivery]:
        """Return deliveries that are due at ``now``, the earliest due first, without bodies.

        Deliveries of the courses ``without`` are left out. Documents that cannot be read are put off, so that they
        leave room for others.
        """
        query: Document = {"due_at": {"$gt": _EPOCH, "$lte": now}}
        if without:
            query["course"] = {"$nin": sorted(without)}
        found = await self._deliveries.find(query, {"body": 0}, sort=[("due_at", 1)], limit=limit)
        read = {document["_id"]: _readable(document) for document in found}
        if unreadable := [identity for identity, delivery in read.items() if delivery is None]:
            await self._deliveries.update_many({"_id": {"$in": unreadable}}, {"$set": {"due_at": now + _PUT_OFF}})
        return [delivery for delivery in read.values() if delivery]

    async def of_student(self, course: str, assignment: str, student: str) -> list[Delivery]:
        """Return a student's accepted deliveries for an assignment, oldest first, without bodies."""
        query = {
            "course": course,
            "assignment": assignment,
            "student": student,
            "state": DeliveryState.ACCEPTED.value,
        }
        found = await self._deliveries.find(query, {"body": 0}, sort=[("received_at", 1)])
        return _readable_ones(found)

    async def latest_of_student(self, course: str, assignment: str, student: str, *, limit: int) -> list[Delivery]:
        """Return a student's decided deliveries for an assignment, latest first, without bodies."""
        query = {"course": course, "assignment": assignment, "student": student}
        found = await self._deliveries.find(query, {"body": 0}, sort=[("received_at", -1)], limit=limit)
        return _readable_ones(found)

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
        return _readable_ones(found)


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
    rest = {key: value for key, value in document.items() if key in _FIELDS}
    return Delivery(**{**rest, **own})


def _readable_ones(documents: Sequence[Document]) -> list[Delivery]:
    return [delivery for document in documents if (delivery := _readable(document))]


def _readable(document: Document) -> Delivery | None:
    """Return a delivery, or None for a document that this version cannot read, which is logged."""
    try:
        return _delivery(document)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        log.warning("delivery left out", delivery=str(document["_id"]), problem=f"{type(error).__name__}: {error}")
        return None
