"""Jobs that wait for their first start, in the collection ``grading_job``; without those of regrades, which wait last.

Each question has only equalities on the first fields of an index, or those and one range on the next field. With any
other condition the embedded store reads all jobs that match the first field, and a course's history only grows.
"""

from typing import Any

from broadway.domain.job import Job, JobClass
from broadway.domain.waiting import WaitingKey, waiting_key
from broadway.mongo.collection import Collection, Document, Documents
from broadway.mongo.job_documents import BEFORE_START

_NEVER_STARTED: Document = {"started_at": None, "handed_in.regrade": {"$in": [None, ""]}}
_KEY = {"class": 1, "queued_at": 1, "index": 1, "started_at": 1, "handed_in": 1}


class WaitingJobs:
    """Questions about the jobs that wait for their first start."""

    def __init__(self, collection: Collection) -> None:
        self._jobs = Documents(collection)

    async def count_waiting(self, course: str) -> int:
        """Return the number of a course's jobs that have never started."""
        return sum([await self._count({"course": course, "state": state}) for state in BEFORE_START])

    async def count_in_pool(self, pool: str) -> int:
        """Return the number of a pool's jobs that wait for a start, also for another one."""
        return sum([await self._jobs.count_documents({"state": state, "pool": pool}) for state in BEFORE_START])

    async def waiting_in_course(self, course: str) -> list[WaitingKey]:
        """Return the keys of a course's jobs that wait for their first start, in no order."""
        return await self._keys({"course": course})

    async def waiting_in_run(self, run_id: str) -> list[WaitingKey]:
        """Return the keys of a run's jobs that wait for their first start, in no order."""
        return await self._keys({"grading_run_id": run_id})

    async def position(self, job: Job) -> int:
        """Return the number of jobs of the same course with a smaller waiting key, without comparing ids."""
        ahead = 0
        for state in BEFORE_START:
            of_class: Document = {"course": job.course, "state": state, "class": job.job_class.value}
            ahead += await self._count({**of_class, "queued_at": {"$lt": job.queued_at}})
            ahead += await self._count({**of_class, "queued_at": job.queued_at}, {"index": {"$lt": job.index}})
            if job.job_class is JobClass.BULK:
                ahead += await self._count({**of_class, "class": JobClass.INTERACTIVE.value})
        return ahead

    async def _keys(self, query: Document) -> list[WaitingKey]:
        found = [
            document
            for state in BEFORE_START
            for document in await self._jobs.find({**query, "state": state}, _KEY)
            if document.get("started_at") is None and not (document.get("handed_in") or {}).get("regrade")
        ]
        return [_key(document) for document in {document["_id"]: document for document in found}.values()]

    async def _count(self, indexed: Document, rest: Document | None = None) -> int:
        """Count jobs that have never started. ``indexed`` has the conditions for the index, ``rest`` others."""
        return await self._jobs.count_among(indexed, {**_NEVER_STARTED, **(rest or {})})


def _key(document: dict[str, Any]) -> WaitingKey:
    return waiting_key(str(document["_id"]), JobClass(document["class"]), document["queued_at"], document["index"])
