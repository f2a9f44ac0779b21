"""The collection ``worker_node``: every grader that ever registered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from pymongo import ReturnDocument, UpdateOne

from broadway.messages.events import GraderHeartbeat, GraderMode, GraderOrder
from broadway.mongo.collection import Collection, Document, Documents
from broadway.mongo.errors import DuplicateKeyError

OVERTAKING = timedelta(minutes=1)  # no heartbeat comes so long after one that was sent later
_NEVER = datetime.fromtimestamp(0, UTC)
_ADMITTED: Document = {"order.mode": {"$ne": GraderMode.REVOKED.value}}


@dataclass(frozen=True, slots=True)
class Attached:
    """A grader that speaks to a gateway instead of the broker.

    ``gateway`` is the API process that it last registered with, ``session`` that registration; ``extended`` tells that
    it understands what we add to the original's protocol, ``mode`` is what its operator wants of it, ``runtime`` what
    starts its containers, if it says so.
    """

    id: str
    hostname: str
    alive: bool
    last_seen: datetime
    registered_at: datetime
    pool: str
    session: str
    over_socket: bool
    gateway: str
    extended: bool = False
    mode: GraderMode = GraderMode.ONLINE
    runtime: str = ""


class Workers:
    """Graders by id."""

    def __init__(self, collection: Collection) -> None:
        self._workers = Documents(collection)

    async def beat(self, heartbeats: Sequence[GraderHeartbeat], *, now: datetime) -> None:
        """Store what graders last said of themselves, as heard now.

        An older heartbeat never overwrites a newer one, by the grader's own clock: unless that has been set back, as it
        seems when nothing has been taken of it for longer than messages overtake each other.
        """
        if not heartbeats:
            return
        named = {"_id": {"$in": [beat.grader_id for beat in heartbeats]}}
        known = {document["_id"] for document in await self._workers.find(named, {"_id": 1})}
        writes = []
        for beat in heartbeats:
            if beat.grader_id not in known:
                writes.append(UpdateOne({"_id": beat.grader_id}, {"$setOnInsert": {"jobs_processed": 0}}, upsert=True))
            in_order: list[Document] = [
                {"sent_at": None},
                {"sent_at": {"$lte": beat.sent_at}},
                {"last_seen": {"$lt": now - OVERTAKING}},
            ]
            wanted: Document = {"_id": beat.grader_id, "$or": in_order, **_ADMITTED}
            writes.append(UpdateOne(wanted, {"$set": _state(beat, now)}))
        await self._workers.bulk_write(writes, ordered=True)

    async def count_starts(self, starts: dict[str, int]) -> None:
        """Add to the number of jobs that graders have started."""
        writes = [UpdateOne({"_id": grader}, {"$inc": {"jobs_processed": n}}) for grader, n in starts.items()]
        if writes:
            await self._workers.bulk_write(writes, ordered=False)

    async def register(self, worker: Attached) -> bool:
        """Store a grader that registers with a gateway; False while another one of that id lives."""
        dead = {"_id": worker.id, "alive": {"$ne": True}}
        try:
            await self._workers.update_one(
                dead, {"$set": _attached_document(worker), "$setOnInsert": {"jobs_processed": 0}}, upsert=True
            )
        except DuplicateKeyError:
            return False
        return True

    async def attached(self, worker_id: str) -> Attached | None:
        """A grader on record, however it registered; the original's have no session."""
        document = await self._workers.find_one({"_id": {"$eq": worker_id}})
        return _attached(document) if document else None

    async def seen(self, worker: Attached, now: datetime) -> None:
        """A grader has been heard of, and so lives; on a socket only as long as that has not been closed."""
        wanted: Document = {"_id": worker.id, **_ADMITTED}
        if worker.over_socket:
            wanted["session"] = worker.session
        await self._workers.update_one(wanted, {"$set": {"last_seen": now, "alive": True}})

    async def hand_out(self, worker_id: str, job_id: str) -> None:
        """Note a job that a grader has been given by its gateway."""
        await self._workers.update_one(
            {"_id": worker_id}, {"$set": {"running_job_id": job_id}, "$addToSet": {"running_job_ids": job_id}}
        )

    async def take_back(self, worker_id: str, job_ids: Sequence[str]) -> None:
        """Note jobs that a grader does not run any more."""
        await self._workers.update_one({"_id": worker_id}, {"$pull": {"running_job_ids": {"$in": list(job_ids)}}})
        await self._workers.update_one(
            {"_id": worker_id, "running_job_id": {"$in": list(job_ids)}}, {"$set": {"running_job_id": None}}
        )

    async def mark_dead(
        self, worker_id: str, *, session: str | None = None, silent_since: datetime | None = None
    ) -> bool:
        """Mark a grader dead; False when it was, has registered anew since, or has been heard of."""
        wanted: Document = {"_id": worker_id, "alive": True}
        if session is not None:
            wanted["session"] = session
        if silent_since is not None:
            wanted["last_seen"] = {"$lte": silent_since}
        idle: Document = {"alive": False, "running_job_id": None, "running_job_ids": []}
        if session is not None:
            idle["session"] = None  # a heartbeat of it that is still on its way to the store must not revive the grader
        result = await self._workers.update_one(wanted, {"$set": idle})
        return result.modified_count == 1

    async def is_any_extended(self, pool: str) -> bool:
        """Whether a grader of a pool lives that understands what we add to the original's stages, as ours do."""
        at_the_broker: Document = {"gateway": None, "slots": {"$exists": True}}
        wanted: Document = {"alive": True, "pool": pool, "$or": [{"extended": True}, at_the_broker]}
        return await self._workers.find_one(wanted, {"_id": 1}) is not None

    async def silent_attached(self, moment: datetime) -> list[Attached]:
        """Graders behind gateways that live by their record, and were last heard of at or before a moment."""
        alive = await self._workers.find({"alive": True})
        return [_attached(d) for d in alive if (d.get("gateway") or "slots" not in d) and d["last_seen"] <= moment]

    async def mark_sockets_dead(self, gateway: str) -> None:
        """Mark the graders dead whose sockets an earlier life of a gateway held, and those that the original held."""
        held = {"use_ws": True, "alive": True, "gateway": {"$in": [gateway, None]}}
        await self._workers.update_many(held, {"$set": {"alive": False}})

    async def silent_since(self, moment: datetime) -> list[str]:
        """Mark graders dead that were last seen before a moment; their ids."""
        stale = {"alive": True, "last_seen": {"$lt": moment}}
        ids = [document["_id"] for document in await self._workers.find(stale, {"_id": 1})]
        if ids:
            await self._workers.update_many({"_id": {"$in": ids}, **stale}, {"$set": {"alive": False}})
        return ids

    async def join(self, worker_id: str, *, hostname: str, pool: str, slots: int, now: datetime) -> GraderOrder:
        """Note that a grader joins; what is wanted of it."""
        joined: Document = {
            "joined_at": now,
            "left": False,
            "worker_hostname": hostname,
            "pool": pool,
            "slots": slots,
            "own_slots": slots,
        }
        return order_of(await self._upserted(worker_id, {"$set": joined}))

    async def order(self, worker_id: str, wanted: Mapping[str, Any], *, anyone: bool = False) -> Document | None:
        """Change what is wanted of a grader: ``mode``, ``slots`` or ``reason``; its document, None if it is unknown.

        With ``anyone`` it need not have joined ever.
        """
        change: Document = {
            "$set": {f"order.{key}": value for key, value in wanted.items()},
            "$inc": {"order.revision": 1},
        }
        if anyone:
            return await self._upserted(worker_id, change)
        return await self._workers.find_one_and_update(
            {"_id": {"$eq": worker_id}}, change, return_document=ReturnDocument.AFTER
        )

    async def _upserted(self, worker_id: str, change: Document) -> Document:
        """Change a grader's document, and create it if it is missing.

        Two upserts that race both want to insert: MongoDB may report a duplicate key to the loser, which has changed
        nothing then; the embedded store applies the loser's change, but returns no document.
        """
        new: Document = {"$setOnInsert": {"jobs_processed": 0, "last_seen": _NEVER, "alive": False}}
        wanted: Document = {"_id": {"$eq": worker_id}}
        upsert = partial(
            self._workers.find_one_and_update,
            wanted,
            {**change, **new},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        try:
            document = await upsert()
        except DuplicateKeyError:
            document = await upsert()  # the document exists now
        document = document or await self._workers.find_one(wanted)
        assert document is not None  # noqa: S101 - no grader's document is ever removed
        return document

    async def orders(self, worker_ids: Sequence[str]) -> dict[str, GraderOrder]:
        """What is wanted of graders of whom something is wanted."""
        found = await self._workers.find({"_id": {"$in": list(worker_ids)}, "order": {"$exists": True}}, {"order": 1})
        return {document["_id"]: order_of(document) for document in found}

    async def get(self, worker_id: str) -> Document | None:
        return await self._workers.find_one({"_id": {"$eq": worker_id}})

    async def set_account(self, worker_id: str, user: str | None) -> None:
        """Note the broker's user that a grader has."""
        await self._workers.update_one({"_id": worker_id}, {"$set": {"broker_user": user}})

    async def with_unneeded_accounts(self, *, left_before: datetime, gone_before: datetime) -> list[str]:
        """Graders whose users at the broker nobody needs: revoked, gone with a goodbye, or silent for long."""
        gone: Document = {"alive": False, "last_seen": {"$lt": gone_before}, "joined_at": {"$lt": gone_before}}
        left: Document = {"alive": False, "left": True, "joined_at": {"$lt": left_before}}
        revoked: Document = {"order.mode": GraderMode.REVOKED.value}
        found = await self._workers.find({"broker_user": {"$ne": None}, "$or": [gone, left, revoked]}, {"_id": 1})
        return [document["_id"] for document in found]

    async def all(self) -> list[Document]:
        """Every grader's document, dead ones too, by id."""
        return await self._workers.find({}, sort=[("_id", 1)])

    async def alive(self) -> list[Document]:
        return await self._workers.find({"alive": True})


def _state(beat: GraderHeartbeat, now: datetime) -> Document:
    running = [job.job_id for job in beat.running]
    return {
        "running_job_id": running[0] if running else None,
        "running_job_ids": running,
        "sent_at": beat.sent_at,
        "last_seen": now,
        "worker_hostname": beat.hostname,
        "alive": not beat.leaving,
        "pool": beat.pool,
        "slots": beat.slots,
        "paused": beat.paused,
        "draining": beat.draining,
        "runtime": beat.runtime,
        "left": beat.leaving,
        "use_ws": False,
        "gateway": None,
    }


def _attached_document(worker: Attached) -> Document:
    return {
        "running_job_id": None,
        "running_job_ids": [],
        "last_seen": worker.last_seen,
        "worker_hostname": worker.hostname,
        "alive": worker.alive,
        "use_ws": worker.over_socket,
        "pool": worker.pool,
        "slots": 1,
        "gateway": worker.gateway,
        "session": worker.session,
        "extended": worker.extended,
        "runtime": worker.runtime,
        "registered_at": worker.registered_at,
    }


def _attached(document: Document) -> Attached:
    last_seen = document["last_seen"]
    return Attached(
        id=document["_id"],
        hostname=document.get("worker_hostname", ""),
        alive=bool(document.get("alive")),
        last_seen=last_seen,
        registered_at=document.get("registered_at") or last_seen,
        pool=document.get("pool") or "default",
        session=document.get("session") or "",
        over_socket=bool(document.get("use_ws")),
        gateway=document.get("gateway") or "",
        extended=bool(document.get("extended")),
        runtime=document.get("runtime") or "",
        mode=GraderMode(document.get("order", {}).get("mode", GraderMode.ONLINE)),
    )


def order_of(document: Document) -> GraderOrder:
    """What is wanted of a grader."""
    return GraderOrder(grader_id=document["_id"], **{"revision": 0, **document.get("order", {})})
