"""The collection ``callback_delivery``: events on their way to endpoints, with the attempts so far."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from bson import ObjectId

from broadway.domain.callback import CallbackType
from broadway.domain.callback_delivery import Answer, CallbackState, Delivery
from broadway.domain.pages import position
from broadway.mongo.collection import Collection, Document, Documents, Update, insert_each, update_each

_OPEN = CallbackState.PENDING.value


class CallbackDeliveries:
    """Deliveries by event and endpoint."""

    def __init__(self, collection: Collection) -> None:
        self._deliveries = Documents(collection)

    async def ensure_indexes(self) -> None:
        await self._deliveries.create_index([("state", 1), ("due_at", 1)], name="due")
        await self._deliveries.create_index([("endpoint", 1), ("state", 1), ("due_at", 1)], name="due_of_endpoint")
        await self._deliveries.create_index([("endpoint", 1), ("at", -1), ("_id", -1)], name="latest")
        await self._deliveries.create_index("at", name="oldest")

    async def add(self, deliveries: Sequence[Delivery]) -> None:
        """Store new deliveries; those that are stored stay as they are."""
        if deliveries:
            await insert_each(self._deliveries, [_document(each) for each in deliveries])

    async def due_endpoints(self, now: datetime) -> list[str]:
        """Return the ids of endpoints that have deliveries to send."""
        return await self._deliveries.distinct("endpoint", {"state": _OPEN, "due_at": {"$lte": now}})

    async def take(self, endpoint: str, now: datetime, *, most: int, lease: str, until: datetime) -> list[Delivery]:
        """Take the deliveries of an endpoint that have been due for longest, ``most`` at a time.

        They are due again at ``until``, unless their results are stored before. Another sender may take some of them
        at the same time, to which the endpoint's turn has passed then.
        """
        due = {"endpoint": endpoint, "state": _OPEN, "due_at": {"$lte": now}}
        found = await self._deliveries.find(due, sort=[("due_at", 1)], limit=most)
        taken = {"lease": lease, "due_at": until}
        updates = [
            Update(each["_id"], {"state": _OPEN, "due_at": each["due_at"], "lease": each["lease"]}, taken)
            for each in found
        ]
        are_mine = await update_each(self._deliveries, updates, at_a_time=most) if updates else []
        return [_delivery({**each, **taken}) for each, is_mine in zip(found, are_mine, strict=True) if is_mine]

    async def record(self, delivery: Delivery, *, lease: str) -> bool:
        """Store the result of an attempt, unless another sender has taken the delivery, or it was replayed."""
        return await self._put(delivery, {"lease": lease})

    async def replay(self, delivery: Delivery, *, of: Delivery) -> bool:
        """Store that a delivery is due again, unless it has changed since it was read."""
        return await self._put(delivery, {"lease": of.lease, "state": of.state.value, "attempt": of.attempt})

    async def replay_undelivered(self, endpoint: str, since: datetime, now: datetime) -> int:
        """Make the failed and missed deliveries of events since a moment due again; return their number."""
        undelivered = {"$in": [CallbackState.FAILED.value, CallbackState.MISSED.value]}
        query = {"endpoint": endpoint, "state": undelivered, "at": {"$gte": since}}
        change = {"state": _OPEN, "attempt": 0, "due_at": now, "lease": None}
        return (await self._deliveries.update_many(query, {"$set": change})).modified_count

    async def postpone(self, endpoint: str, until: datetime) -> None:
        """Postpone the pending deliveries of an endpoint that are due before ``until``."""
        due = {"endpoint": endpoint, "state": _OPEN, "due_at": {"$lt": until}}
        await self._deliveries.update_many(due, {"$set": {"due_at": until, "lease": None}})

    async def miss_pending(self, endpoint: str) -> None:
        """End the pending deliveries of an endpoint that is disabled; they can be replayed."""
        change = {"state": CallbackState.MISSED.value, "due_at": None, "lease": None}
        await self._deliveries.update_many({"endpoint": endpoint, "state": _OPEN}, {"$set": change})

    async def get(self, endpoint: str, delivery_id: str) -> Delivery | None:
        """Return a delivery to an endpoint, or None."""
        identity = ObjectId(delivery_id) if ObjectId.is_valid(delivery_id) else None
        found = await self._deliveries.find_one({"_id": identity, "endpoint": endpoint}) if identity else None
        return _delivery(found) if found else None

    async def latest(
        self, endpoint: str, *, before: str | None, limit: int, state: CallbackState | None = None
    ) -> list[Delivery]:
        """Return deliveries to an endpoint by the time of their events, latest first.

        Raises:
            CursorError: ``before`` is not a cursor.
        """
        query: Document = {"endpoint": endpoint, **({"state": state.value} if state else {})}
        if before:
            at, identity = position(before)
            query["$or"] = [{"at": {"$lt": at}}, {"at": at, "_id": {"$lt": ObjectId(identity)}}]
        found = await self._deliveries.find(query, sort=[("at", -1), ("_id", -1)], limit=limit)
        return [_delivery(document) for document in found]

    async def delete_of(self, endpoint: str) -> None:
        """Remove the deliveries to an endpoint that was removed."""
        await self._deliveries.delete_many({"endpoint": endpoint})

    async def expire(self, before: datetime) -> int:
        """Remove deliveries of events from before a moment; return their number."""
        return (await self._deliveries.delete_many({"at": {"$lt": before}})).deleted_count

    async def _put(self, delivery: Delivery, unchanged: Document) -> bool:
        changes = _document(delivery)
        query = {"_id": changes.pop("_id"), **unchanged}
        return (await self._deliveries.update_one(query, {"$set": changes})).matched_count > 0


def _document(delivery: Delivery) -> Document:
    return {
        "_id": ObjectId(delivery.id),
        "event": delivery.event,
        "endpoint": delivery.endpoint,
        "course": delivery.course,
        "type": delivery.type.value,
        "at": delivery.at,
        "state": delivery.state.value,
        "attempt": delivery.attempt,
        "due_at": delivery.due_at,
        "lease": delivery.lease,
        "answers": [_answer_document(answer) for answer in delivery.answers],
    }


def _answer_document(answer: Answer) -> Document:
    return {
        "at": answer.at,
        "status": answer.status,
        "error": answer.error,
        "body": answer.body,
        "seconds": answer.seconds,
        "retry_after": answer.retry_after.total_seconds() if answer.retry_after else None,
    }


def _delivery(document: Document) -> Delivery:
    return Delivery(
        event=document["event"],
        endpoint=document["endpoint"],
        course=document["course"],
        type=CallbackType(document["type"]),
        at=document["at"],
        state=CallbackState(document["state"]),
        attempt=document["attempt"],
        due_at=document["due_at"],
        lease=document["lease"],
        answers=tuple(map(_answer, document["answers"])),
    )


def _answer(document: Document) -> Answer:
    wait = document["retry_after"]
    return Answer(
        at=document["at"],
        status=document["status"],
        error=document["error"],
        body=document["body"],
        seconds=document["seconds"],
        retry_after=timedelta(seconds=wait) if wait else None,
    )
