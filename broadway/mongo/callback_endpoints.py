"""The collection ``callback_endpoint``: the endpoints of courses, and the turn of the sender that serves each."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from broadway.domain.callback import CallbackType
from broadway.domain.callback_delivery import Endpoint, PayloadFormat
from broadway.mongo.callbacks import CallbackEvents
from broadway.mongo.collection import Collection, Document, Documents, insert_each

_STATE = ("disabled", "disabled_at", "failing_since", "paused_until")
_SETTINGS = ("url", "types", "format", "description", *_STATE)
_SECRETS = ("secret", "previous_secret", "previous_until")


class CallbackEndpoints:
    """Endpoints, by course and name. A name that is used again is another endpoint, with another id."""

    def __init__(self, collection: Collection, events: CallbackEvents) -> None:
        self._endpoints = Documents(collection)
        self._events = events

    async def ensure_indexes(self) -> None:
        await self._endpoints.create_index("course", name="of_course")
        await self._endpoints.create_index("id", name="by_id")

    async def add(self, endpoint: Endpoint) -> bool:
        """Store a new endpoint; return False if its course has one of that name."""
        is_new = (await insert_each(self._endpoints, [_document(endpoint)]))[0]
        self._events.forget()
        return is_new

    async def get(self, course: str, name: str) -> Endpoint | None:
        document = await self._endpoints.find_one({"_id": _key(course, name)})
        return _endpoint(document) if document else None

    async def of_course(self, course: str) -> list[Endpoint]:
        """Return a course's endpoints, by name."""
        found = await self._endpoints.find({"course": course}, sort=[("_id", 1)])
        return [_endpoint(document) for document in found]

    async def by_id(self, endpoint_id: str) -> Endpoint | None:
        document = await self._endpoints.find_one({"id": endpoint_id})
        return _endpoint(document) if document else None

    async def put_settings(self, endpoint: Endpoint) -> bool:
        """Store the settings and the state of an endpoint; return False if it has been removed."""
        return await self._change(endpoint, _SETTINGS)

    async def put_secrets(self, endpoint: Endpoint, *, before: str) -> bool:
        """Store an endpoint's secrets, unless its secret is no longer ``before``; return whether they are stored."""
        return await self._change(endpoint, _SECRETS, secret=before)

    async def put_state(self, endpoint: Endpoint, *, of: Endpoint) -> bool:
        """Store the state of an endpoint after an attempt, unless its settings have changed since they were read."""
        return await self._change(endpoint, _STATE, url=of.url, disabled=of.disabled)

    async def delete(self, endpoint: Endpoint) -> bool:
        """Remove an endpoint; return False if it does not exist."""
        deleted = await self._endpoints.delete_one({"_id": _key(endpoint.course, endpoint.name), "id": endpoint.id})
        self._events.forget()
        return deleted.deleted_count == 1

    async def take_turn(self, endpoint_id: str, holder: str, now: datetime, until: datetime) -> bool:
        """Take or extend the right to send to an endpoint; return False while another process has it."""
        free = [{"holder": holder}, {"held_until": None}, {"held_until": {"$lt": now}}]
        change = {"$set": {"holder": holder, "held_until": until}}
        return (await self._endpoints.update_one({"id": endpoint_id, "$or": free}, change)).matched_count > 0

    async def end_turn(self, endpoint_id: str, holder: str) -> None:
        """Let other processes send to an endpoint."""
        await self._endpoints.update_one({"id": endpoint_id, "holder": holder}, {"$set": {"held_until": None}})

    async def _change(self, endpoint: Endpoint, names: tuple[str, ...], **unchanged: Any) -> bool:
        document = _document(endpoint)
        query = {"_id": document["_id"], "id": endpoint.id, **unchanged}
        changes = {name: document[name] for name in names}
        return (await self._endpoints.update_one(query, {"$set": changes})).matched_count > 0


def _key(course: str, name: str) -> str:
    return f"{course}/{name}"


def _document(endpoint: Endpoint) -> Document:
    return {
        "_id": _key(endpoint.course, endpoint.name),
        **asdict(endpoint),
        "types": [each.value for each in endpoint.types],
        "format": endpoint.format.value,
    }


def _endpoint(document: Document) -> Endpoint:
    fields = {name: document[name] for name in Endpoint.__dataclass_fields__ if name in document}
    known = {each.value for each in CallbackType}
    types = tuple(CallbackType(each) for each in document["types"] if each in known)
    return Endpoint(**{**fields, "types": types, "format": PayloadFormat(document["format"])})
