"""The collection ``worker_node``: every grader that ever registered."""

from collections.abc import Sequence
from datetime import datetime

from pymongo import UpdateOne

from broadway.events import GraderHeartbeat
from broadway.mongo.collection import Collection, Document


class Workers:
    """Graders by id."""

    def __init__(self, collection: Collection) -> None:
        self._workers = collection

    async def beat(self, heartbeats: Sequence[GraderHeartbeat]) -> None:
        """Store what graders last said of themselves. An older heartbeat never overwrites a newer one."""
        writes = []
        for beat in heartbeats:
            writes.append(UpdateOne({"_id": beat.grader_id}, {"$setOnInsert": _fresh(beat)}, upsert=True))
            writes.append(
                UpdateOne({"_id": beat.grader_id, "last_seen": {"$lte": beat.sent_at}}, {"$set": _state(beat)})
            )
        if writes:
            await self._workers.bulk_write(writes, ordered=True)

    async def count_starts(self, starts: dict[str, int]) -> None:
        """Add to the number of jobs that graders have started."""
        writes = [UpdateOne({"_id": grader}, {"$inc": {"jobs_processed": n}}) for grader, n in starts.items()]
        if writes:
            await self._workers.bulk_write(writes, ordered=False)

    async def silent_since(self, moment: datetime) -> list[str]:
        """Mark graders dead that were last seen before a moment; their ids."""
        stale = {"alive": True, "last_seen": {"$lt": moment}}
        ids = [document["_id"] for document in await self._workers.find(stale, {"_id": 1}).to_list()]
        if ids:
            await self._workers.update_many({"_id": {"$in": ids}, **stale}, {"$set": {"alive": False}})
        return ids

    async def all(self) -> list[Document]:
        """Every grader's document, dead ones too, by id."""
        return await self._workers.find().sort("_id", 1).to_list()

    async def alive(self) -> list[Document]:
        return await self._workers.find({"alive": True}).to_list()


def _fresh(beat: GraderHeartbeat) -> Document:
    return {"jobs_processed": 0, "use_ws": False, "last_seen": beat.sent_at}


def _state(beat: GraderHeartbeat) -> Document:
    running = [job.job_id for job in beat.running]
    return {
        "running_job_id": running[0] if running else None,
        "running_job_ids": running,
        "last_seen": beat.sent_at,
        "worker_hostname": beat.hostname,
        "alive": not beat.leaving,
        "pool": beat.pool,
        "slots": beat.slots,
    }
