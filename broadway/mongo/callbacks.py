"""The collection ``callback_event``: events for the endpoints of courses, which the notifier makes into deliveries.

An event is stored only if its course has an endpoint. That costs other courses a look-up in a cache, which has the
courses of all endpoints and is read again once a second while jobs end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from broadway.domain.callback import CallbackEvent, CallbackType, StoredEvent
from broadway.mongo.cache import Cache
from broadway.mongo.collection import Collection, Document, Documents, Update, insert_each, update_each
from broadway.runtime.crashpoints import Point, reach

_ALL = "courses"
_UPDATES = 25  # at a time


class CallbackEvents:
    """Events by id."""

    def __init__(self, events: Collection, endpoints: Collection) -> None:
        self._events = Documents(events)
        self._endpoints = Documents(endpoints)
        self._cache = Cache(self._read_courses)

    async def ensure_indexes(self) -> None:
        await self._events.create_index("due_at", name="due")
        await self._events.create_index([("course", 1), ("at", 1)], name="of_course")
        await self._events.create_index("at", name="oldest")

    async def wanted(self) -> frozenset[str]:
        """Return the courses that have endpoints, as of a moment ago."""
        return await self._cache.get(_ALL) or frozenset()

    async def courses(self) -> frozenset[str]:
        """Return the courses that have endpoints, as of now."""
        return await self._read_courses(_ALL)

    def forget(self) -> None:
        """Read the courses anew at the next look-up, since this process has changed them."""
        self._cache.forget(_ALL)

    async def emit(self, event: CallbackEvent) -> None:
        """Store an event, if its course has an endpoint; a repetition changes nothing."""
        await self.add([event])

    async def add(self, events: Sequence[CallbackEvent]) -> None:
        """Store the events of courses that have endpoints; those that are stored stay as they are."""
        courses = await self.wanted()
        wanted = [event for event in events if event.course in courses]
        if wanted:
            await insert_each(self._events, [_document(event) for event in wanted])
            await reach(Point.CALLBACK_STORED)

    async def store(self, event: CallbackEvent) -> None:
        """Store an event for a certain endpoint; a repetition changes nothing."""
        await insert_each(self._events, [_document(event)])

    async def due(self, now: datetime, *, limit: int) -> list[StoredEvent]:
        """Return events whose next step is due, longest due first."""
        found = await self._events.find({"due_at": {"$lte": now}}, sort=[("due_at", 1)], limit=limit)
        return [_stored(document) for document in found if document["due_at"]]

    async def claim(self, events: Sequence[StoredEvent], until: datetime) -> list[StoredEvent]:
        """Postpone the next step of events to ``until``; return those that no other process has claimed."""
        updates = [
            Update(each.event.id, {"due_at": each.due_at}, {"due_at": until, "tries": each.tries + 1})
            for each in events
        ]
        are_mine = await update_each(self._events, updates, at_a_time=_UPDATES) if updates else []
        return [
            replace(each, due_at=until, tries=each.tries + 1)
            for each, is_mine in zip(events, are_mine, strict=True)
            if is_mine
        ]

    async def postpone(self, event_ids: Sequence[str], until: datetime) -> None:
        """Check events again at ``until``, since their facts are not stored yet."""
        await self._events.update_many({"_id": {"$in": list(event_ids)}, "is_sure": False}, _set(due_at=until))

    async def complete(self, data: Mapping[str, Mapping[str, Any]]) -> None:
        """Store the data of events whose facts are stored, by their ids."""
        updates = [
            Update(event_id, {"is_sure": False}, {"data": dict(each), "is_sure": True})
            for event_id, each in data.items()
        ]
        if updates:
            await update_each(self._events, updates, at_a_time=_UPDATES)

    async def finish(self, event_ids: Sequence[str]) -> None:
        """Take events out of the outbox: their deliveries are stored."""
        await self._events.update_many({"_id": {"$in": list(event_ids)}}, _set(due_at=None))

    async def drop(self, event_ids: Sequence[str]) -> None:
        """Remove events whose facts never happened, or are no business of endpoints."""
        await self._events.delete_many({"_id": {"$in": list(event_ids)}})

    async def get_many(self, event_ids: Sequence[str]) -> dict[str, CallbackEvent]:
        """Return events by id; unknown ids are left out."""
        found = await self._events.find_by_ids(list(dict.fromkeys(event_ids)))
        return {document["_id"]: _stored(document).event for document in found}

    async def expire(self, before: datetime) -> int:
        """Remove events from before a moment; return their number."""
        return (await self._events.delete_many({"at": {"$lt": before}})).deleted_count

    async def _read_courses(self, _: str) -> frozenset[str]:
        return frozenset(await self._endpoints.distinct("course", {}))


def _set(**changes: Any) -> Document:
    return {"$set": changes}


def _document(event: CallbackEvent) -> Document:
    return {
        "_id": event.id,
        "course": event.course,
        "type": event.type.value,
        "subject": event.subject,
        "at": event.at,
        "data": dict(event.data),
        "is_sure": event.is_sure,
        "endpoint": event.endpoint,
        "due_at": event.at if event.is_sure else event.at + GRACE,
        "tries": 0,
    }


# A fact is usually stored within this time after its event; a check before that would be in vain.
GRACE = timedelta(milliseconds=200)


def _stored(document: Document) -> StoredEvent:
    event = CallbackEvent(
        course=document["course"],
        type=CallbackType(document["type"]),
        subject=document["subject"],
        at=document["at"],
        data=document["data"],
        is_sure=document["is_sure"],
        endpoint=document["endpoint"],
    )
    return StoredEvent(event, document["due_at"], document["tries"])
