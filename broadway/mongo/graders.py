"""The collection ``worker_node``: every grader that ever registered."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from pymongo import ReturnDocument, UpdateOne

from broadway.domain.access import digest
from broadway.domain.grader import Grader, GraderMode, StandingOrder
from broadway.messages.events import GraderHeartbeat
from broadway.mongo.collection import Collection, Document, Documents, insert_each
from broadway.mongo.errors import DuplicateKeyError
from broadway.ports import StoreError

PROOFLESS = timedelta(minutes=10)
OVERTAKING = timedelta(minutes=1)  # no heartbeat arrives this long after a heartbeat that was sent later
_NEVER = datetime.fromtimestamp(0, UTC)
_REGISTER_TRIES = 2  # the first may lose to an order or a join that creates the document
_JOINED: Document = dict.fromkeys(("pool", "slots", "own_slots", "gateway", "order"), 1)
_WITH_ACCOUNT: Document = {"broker_user": {"$gt": ""}}
ADMITTED: Document = {"order.mode": {"$ne": GraderMode.REVOKED.value}}


class Graders:
    """Graders by id."""

    def __init__(self, collection: Collection) -> None:
        self._graders = Documents(collection)

    async def ensure_indexes(self) -> None:
        # The collection has every grader that ever joined; these find the few that matter now.
        await self._graders.create_index("alive", name="alive")
        await self._graders.create_index("secret", name="secrets")
        await self._graders.create_index("broker_user", name="accounts")

    async def beat(self, heartbeats: Sequence[GraderHeartbeat], *, now: datetime) -> list[GraderHeartbeat]:
        """Store heartbeats as received at ``now``, and return those that are not for a foreign pool.

        A heartbeat older than the stored one changes nothing. Slots beyond those that a grader may have do not count.

        Age is measured by the grader's own clock. If no heartbeat of a grader has been stored for longer than
        ``OVERTAKING``, its clock may have been set back, so its heartbeat is stored in any case.
        """
        if not heartbeats:
            return []
        named = {"_id": {"$in": [beat.grader_id for beat in heartbeats]}}
        known = {document["_id"]: _grader(document) for document in await self._graders.find(named, _JOINED)}
        counted = [own for beat in heartbeats if (own := _counted(beat, known.get(beat.grader_id)))]
        unknown = dict.fromkeys(beat.grader_id for beat in counted if beat.grader_id not in known)
        if unknown:  # another process may insert them at the same time
            await insert_each(self._graders, [{"_id": grader_id, "jobs_processed": 0} for grader_id in unknown])
        writes = []
        for beat in counted:
            in_order: list[Document] = [
                {"sent_at": None},
                {"sent_at": {"$lte": beat.sent_at}},
                {"last_seen": {"$lt": now - OVERTAKING}},
            ]
            query: Document = {"_id": beat.grader_id, "$or": in_order, **ADMITTED}
            writes.append(UpdateOne(query, {"$set": _reported(beat, now)}))
        if writes:
            await self._graders.bulk_write(writes, ordered=True)
        return counted

    async def count_starts(self, starts: dict[str, int]) -> None:
        """Add to graders' counts of started jobs; ``starts`` maps grader ids to numbers."""
        writes = [UpdateOne({"_id": grader}, {"$inc": {"jobs_processed": n}}) for grader, n in starts.items()]
        if writes:
            await self._graders.bulk_write(writes, ordered=False)

    async def get(self, grader_id: str) -> Grader | None:
        """Return a grader, no matter how it joined, or None."""
        document = await self._graders.find_one({"_id": {"$eq": grader_id}})
        return _grader(document) if document else None

    async def all(self) -> list[Grader]:
        """Return every grader, including dead graders, sorted by id."""
        return [_grader(document) for document in await self._graders.find({}, sort=[("_id", 1)])]

    async def alive(self) -> list[Grader]:
        """Return the graders that are marked alive."""
        return [_grader(document) for document in await self._graders.find({"alive": True})]

    async def register(self, grader: Grader) -> bool:
        """Store a grader that registers with a gateway; return False while a live grader has its id."""
        dead = {"_id": grader.id, "alive": {"$ne": True}}
        change = {"$set": _registered(grader), "$setOnInsert": {"jobs_processed": 0}}
        for _ in range(_REGISTER_TRIES):
            try:
                result = await self._graders.update_one(dead, change, upsert=True)
            except DuplicateKeyError:
                continue
            return result.matched_count > 0 or result.upserted_id is not None
        return False

    async def seen(self, grader: Grader, now: datetime) -> None:
        """Mark a grader alive; a grader on a socket only while its session is open."""
        query: Document = {"_id": grader.id, **ADMITTED}
        if grader.over_socket:
            query["session"] = grader.session
        await self._graders.update_one(query, {"$set": {"last_seen": now, "alive": True}})

    async def hand_out(self, grader_id: str, job_id: str) -> None:
        """Record a job that a gateway has handed to a grader."""
        await self._graders.update_one(
            {"_id": grader_id}, {"$set": {"running_job_id": job_id}, "$addToSet": {"running_job_ids": job_id}}
        )

    async def take_back(self, grader_id: str, job_ids: Sequence[str]) -> None:
        """Record that a grader no longer runs some jobs."""
        await self._graders.update_one({"_id": grader_id}, {"$pull": {"running_job_ids": {"$in": list(job_ids)}}})
        await self._graders.update_one(
            {"_id": grader_id, "running_job_id": {"$in": list(job_ids)}}, {"$set": {"running_job_id": None}}
        )

    async def mark_dead(
        self, grader_id: str, *, session: str | None = None, silent_since: datetime | None = None
    ) -> bool:
        """Mark a grader dead; return False if it is dead, has another session, or was seen after ``silent_since``."""
        query: Document = {"_id": grader_id, "alive": True}
        if session is not None:
            query["session"] = session
        if silent_since is not None:
            query["last_seen"] = {"$lte": silent_since}
        idle: Document = {"alive": False, "running_job_id": None, "running_job_ids": []}
        if session is not None:
            idle["session"] = None  # a late heartbeat of the session must not mark the grader alive again
        result = await self._graders.update_one(query, {"$set": idle})
        return result.modified_count == 1

    async def silent_behind_gateways(self, moment: datetime) -> list[Grader]:
        """Return live graders of gateways and of the original system that were last seen at or before a moment."""
        behind = [grader for grader in await self.alive() if grader.gateway or grader.slots is None]
        return [grader for grader in behind if grader.last_seen is None or grader.last_seen <= moment]

    async def mark_sockets_dead(self, gateway: str) -> None:
        """Mark graders dead whose sockets an earlier process of a gateway, or the original system, held open."""
        held = {"use_ws": True, "alive": True, "gateway": {"$in": [gateway, None]}}
        await self._graders.update_many(held, {"$set": {"alive": False}})

    async def mark_silent_dead(self, moment: datetime) -> list[str]:
        """Mark live graders dead that were last seen before a moment; return their ids."""
        stale = {"alive": True, "last_seen": {"$lt": moment}}
        ids = [document["_id"] for document in await self._graders.find(stale, {"_id": 1})]
        if ids:
            await self._graders.update_many({"_id": {"$in": ids}, **stale}, {"$set": {"alive": False}})
        return ids

    async def join(
        self, grader_id: str, *, hostname: str, pool: str, slots: int, now: datetime, proves: bool = False
    ) -> StandingOrder:
        """Record that a grader joins, and whether its reports have proofs; return its standing order."""
        joined: Document = {
            "joined_at": now,
            "left": False,
            "worker_hostname": hostname,
            "pool": pool,
            "slots": slots,
            "own_slots": slots,
            "proves_since": await self._proves_since(grader_id, now) if proves else None,
        }
        return _order(await self._upsert(grader_id, {"$set": joined}))

    async def must_prove(self, grader_id: str, now: datetime) -> bool:
        """Return whether a grader's reports must have proofs.

        Reports without proofs, of its earlier version, may arrive for ``PROOFLESS`` after its first join with proofs.
        """
        found = await self._graders.find_one({"_id": grader_id}, {"proves_since": 1})
        since = found.get("proves_since") if found else None
        return since is not None and now >= since

    async def _proves_since(self, grader_id: str, now: datetime) -> datetime:
        """Return the time from which the reports of a grader that joins now must have proofs."""
        found = await self._graders.find_one({"_id": grader_id}, {"proves_since": 1, "joined_at": 1, "last_seen": 1})
        if found is None or not (found.get("joined_at") or found.get("last_seen", _NEVER) > _NEVER):
            return now
        return found.get("proves_since") or now + PROOFLESS

    async def claim(self, grader_id: str, *, secret: str, pools: tuple[str, ...] | None, join_token: str) -> bool:
        """Store the hash of a grader's secret unless it has a secret; return whether this is its secret now."""
        await self._upsert(grader_id, {})  # two claims must not both create the document
        claimed: Document = {
            "secret": secret,
            "allowed_pools": None if pools is None else list(pools),
            "join_token": join_token,
            "grace_until": None,
        }
        unclaimed: Document = {"_id": {"$eq": grader_id}, "secret": {"$in": [None, ""]}}
        await self._graders.update_one(unclaimed, {"$set": claimed})
        found = await self._graders.find_one({"_id": {"$eq": grader_id}}, {"secret": 1})
        return found is not None and found.get("secret") == secret

    async def of_secret(self, secret: str) -> Grader | None:
        """Return the grader with a secret of its own, or None."""
        document = await self._graders.find_one({"secret": digest(secret)})
        return _grader(document) if document else None

    async def forget_secret(self, grader_id: str) -> Grader | None:
        """Forget a grader's secret, so that its next join stores a new one; return the grader, or None."""
        document = await self._graders.find_one_and_update(
            {"_id": {"$eq": grader_id}},
            {"$set": {"secret": "", "allowed_pools": None, "join_token": "", "grace_until": None}},
            return_document=ReturnDocument.AFTER,
        )
        return _grader(document) if document else None

    async def forget(self, grader_id: str, *, joined_at: datetime | None) -> bool:
        """Remove a grader that is not alive, not revoked, and has not joined since; return whether it was removed."""
        gone: Document = {"alive": {"$ne": True}, "joined_at": joined_at, **ADMITTED}
        return (await self._graders.delete_one({"_id": {"$eq": grader_id}, **gone})).deleted_count > 0

    async def give_grace(self, grader_ids: Sequence[str], until: datetime) -> None:
        """Let graders without secrets, of an earlier version, do without them until a moment."""
        query: Document = {"_id": {"$in": list(grader_ids)}, "secret": None, "grace_until": None}
        await self._graders.update_many(query, {"$set": {"grace_until": until}})

    async def set_mode(
        self, grader_id: str, mode: GraderMode, reason: str, *, is_revoked: bool = False
    ) -> Grader | None:
        """Order a mode for a grader; return the changed grader, or None if no grader matches.

        With ``is_revoked`` only a revoked grader matches, otherwise only a grader that is not revoked.
        """
        return await self._change_order(grader_id, {"mode": mode.value, "reason": reason}, is_revoked=is_revoked)

    async def set_slots(self, grader_id: str, slots: int | None) -> Grader | None:
        """Order a number of slots for a grader; return the changed grader, or None if it is unknown or revoked."""
        return await self._change_order(grader_id, {"slots": slots}, is_revoked=False)

    async def revoke(self, grader_id: str, reason: str) -> Grader:
        """Revoke a grader, even if it has never joined; return the changed grader."""
        return _grader(await self._upsert(grader_id, _ordering({"mode": GraderMode.REVOKED.value, "reason": reason})))

    async def _change_order(self, grader_id: str, changes: Document, *, is_revoked: bool) -> Grader | None:
        present: Document = {"order.mode": GraderMode.REVOKED.value} if is_revoked else ADMITTED
        document = await self._graders.find_one_and_update(
            {"_id": {"$eq": grader_id}, **present}, _ordering(changes), return_document=ReturnDocument.AFTER
        )
        return _grader(document) if document else None

    async def _upsert(self, grader_id: str, change: Document) -> Document:
        """Change a grader's document, and create it if it is missing.

        Two concurrent upserts may both try to insert. MongoDB may then report a duplicate key to the second and not
        apply its change; the embedded store applies the change, but returns no document.

        Raises:
            StoreError: Another program removes the document at the same time.
        """
        query: Document = {"_id": {"$eq": grader_id}}
        upsert = partial(
            self._graders.find_one_and_update,
            query,
            {**change, "$setOnInsert": {"jobs_processed": 0, "last_seen": _NEVER, "alive": False}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        try:
            document = await upsert()
        except DuplicateKeyError:
            document = await upsert()  # the document exists now
        document = document or await self._graders.find_one(query)
        if document is None:
            raise StoreError(f"grader {grader_id} was removed from the store while it was changed")
        return document

    async def orders(self, grader_ids: Sequence[str]) -> dict[str, StandingOrder]:
        """Return the standing orders of graders by id; graders without an order are left out."""
        found = await self._graders.find({"_id": {"$in": list(grader_ids)}, "order": {"$exists": True}}, {"order": 1})
        return {document["_id"]: _order(document) for document in found}

    async def set_account(self, grader_id: str, user: str | None) -> None:
        """Store the name of a grader's own user at the broker, or None if it has no user."""
        await self._graders.update_one({"_id": grader_id}, {"$set": {"broker_user": user}})

    async def with_unneeded_accounts(self, *, left_before: datetime, gone_before: datetime) -> list[str]:
        """Return ids of graders that have a user at the broker and no longer need it.

        These are graders that are revoked, that left properly and last joined before ``left_before``, or that are dead
        and were last seen and joined before ``gone_before``.
        """
        gone: Document = {"alive": False, "last_seen": {"$lt": gone_before}, "joined_at": {"$lt": gone_before}}
        left: Document = {"alive": False, "left": True, "joined_at": {"$lt": left_before}}
        revoked: Document = {"order.mode": GraderMode.REVOKED.value}
        # One question each, with the condition for the index first, since not every store uses an index with $or.
        found = [await self._graders.find({**_WITH_ACCOUNT, **reason}, {"_id": 1}) for reason in (gone, left, revoked)]
        return list(dict.fromkeys(document["_id"] for some in found for document in some))


def _counted(beat: GraderHeartbeat, grader: Grader | None) -> GraderHeartbeat | None:
    """Return a heartbeat with the slots that count, or None if it is for a foreign pool."""
    slots = grader.counted_slots(pool=beat.pool, reported=beat.slots) if grader else beat.slots
    return None if slots is None else beat.model_copy(update={"slots": slots})


def _ordering(changes: Document) -> Document:
    """The change that sets fields of an order and increments its revision."""
    return {"$set": {f"order.{key}": value for key, value in changes.items()}, "$inc": {"order.revision": 1}}


def _reported(beat: GraderHeartbeat, now: datetime) -> Document:
    """The fields that a heartbeat sets."""
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
        "obeyed": beat.order,
        "runtime": beat.runtime,
        "abilities": beat.abilities,
        "left": beat.leaving,
        "use_ws": False,
        "gateway": None,
    }


def _registered(grader: Grader) -> Document:
    """The fields that a registration with a gateway sets."""
    return {
        "running_job_id": None,
        "running_job_ids": [],
        "last_seen": grader.last_seen,
        "worker_hostname": grader.hostname,
        "alive": grader.alive,
        "use_ws": grader.over_socket,
        "pool": grader.pool,
        "slots": 1,
        "gateway": grader.gateway,
        "session": grader.session,
        "extended": grader.extended,
        "runtime": grader.runtime,
        "abilities": list(grader.abilities),
        "registered_at": grader.registered_at,
    }


def _grader(document: Document) -> Grader:
    """Return a grader from its document; documents of the original system lack most fields."""
    last_seen = document.get("last_seen")
    last_seen = last_seen if last_seen and last_seen > _NEVER else None
    running = document.get("running_job_ids") or [document.get("running_job_id")]
    return Grader(
        id=document["_id"],
        hostname=document.get("worker_hostname", ""),
        pool=document.get("pool") or "default",
        slots=document.get("slots"),
        own_slots=document.get("own_slots"),
        alive=bool(document.get("alive")),
        left=bool(document.get("left")),
        last_seen=last_seen,
        sent_at=document.get("sent_at"),
        joined_at=document.get("joined_at"),
        registered_at=document.get("registered_at") or last_seen,
        gateway=document.get("gateway") or "",
        session=document.get("session") or "",
        over_socket=bool(document.get("use_ws")),
        extended=bool(document.get("extended")),
        runtime=document.get("runtime") or "",
        abilities=tuple(document.get("abilities") or ()),
        paused=document.get("paused") or "",
        draining=bool(document.get("draining")),
        obeyed=document.get("obeyed"),
        reported_jobs=tuple(str(job) for job in running if job),
        jobs_processed=document.get("jobs_processed", 0),
        broker_user=document.get("broker_user"),
        order=_order(document),
        secret=document.get("secret"),
        pools=None if (pools := document.get("allowed_pools")) is None else tuple(pools),
        join_token=document.get("join_token") or "",
        grace_until=document.get("grace_until"),
    )


def _order(document: Document) -> StandingOrder:
    order = document.get("order", {})
    return StandingOrder(
        revision=order.get("revision", 0),
        mode=GraderMode(order.get("mode", GraderMode.ONLINE)),
        slots=order.get("slots"),
        reason=order.get("reason", ""),
    )
