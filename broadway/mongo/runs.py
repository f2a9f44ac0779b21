"""The collection ``grading_run``."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from broadway.mongo.assignments import check_storable
from broadway.mongo.collection import Collection, Document, object_id
from broadway.run import PHASE_OF, Run, RunState

_WITHOUT_BULK = {"students_env": 0, "config": 0, "pre_processing_env": 0, "post_processing_env": 0}


class Runs:
    """Grading runs by id."""

    def __init__(self, collection: Collection) -> None:
        self._runs = collection

    async def ensure_indexes(self) -> None:
        await self._runs.create_index([("state", 1), ("started_at", 1)], name="by_state")
        await self._runs.create_index([("assignment_id", 1), ("started_at", -1)], name="by_assignment")

    async def insert(self, run: Run) -> None:
        """Store a new run.

        Raises:
            UnstorableError: MongoDB would refuse it; nothing is stored.
        """
        document = _document(run)
        check_storable(document)
        await self._runs.insert_one(document)

    async def get(self, run_id: str) -> Run | None:
        """A run. One of the original's has no config of its own, only what its jobs say."""
        identity = object_id(run_id)
        document = await self._runs.find_one({"_id": identity}) if identity else None
        return _run(document) if document else None

    async def summary(self, run_id: str) -> Run | None:
        """A run without its roster and config, which may be large."""
        identity = object_id(run_id)
        document = await self._runs.find_one({"_id": identity}, _WITHOUT_BULK) if identity else None
        return _run(document) if document else None

    async def advance(
        self, run_id: str, *, source: RunState, target: RunState, now: datetime, publish_at: datetime | None
    ) -> bool:
        """Move a run from one state to another; False when it is not in the first any more.

        ``publish_at`` puts it into the outbox: from then on somebody else may publish its phase's jobs.
        """
        changes: dict[str, Any] = {"state": target.value, "publish_at": publish_at}
        if target.is_terminal:
            changes |= {"finished_at": now, "success": target is RunState.FINISHED}
        if source is RunState.STUDENTS:
            changes["students_jobs_left"] = 0
        result = await self._runs.update_one({"_id": object_id(run_id), "state": source.value}, {"$set": changes})
        return result.modified_count == 1

    async def mark_published(self, run_id: str, state: RunState) -> None:
        """Take a run out of the outbox, if it is still in that state."""
        await self._runs.update_one({"_id": object_id(run_id), "state": state.value}, {"$set": {"publish_at": None}})

    async def unpublished(self, now: datetime, *, limit: int) -> list[Run]:
        """Runs whose phase's jobs should have been published by now."""
        wanted = {"state": {"$in": [state.value for state in PHASE_OF]}, "publish_at": {"$lte": now}}
        found = self._runs.find(wanted, _WITHOUT_BULK).limit(limit)
        return [_run(document) for document in await found.to_list()]

    async def unfinished(self, *, limit: int) -> Sequence[str]:
        """Ids of runs that are not over, oldest first.

        Without those of the original, which lost their jobs when it stopped, and have no config to go on with.
        """
        open_states = [state.value for state in RunState if not state.is_terminal]
        wanted = {"state": {"$in": open_states}, "config": {"$exists": True}}
        found = self._runs.find(wanted, {"_id": 1}).sort("started_at", 1).limit(limit)
        return [str(document["_id"]) for document in await found.to_list()]


def _document(run: Run) -> Document:
    return {
        "_id": object_id(run.id),
        "state": run.state.value,
        "assignment_id": f"{run.course}/{run.assignment}",
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "pre_processing_env": run.pre_processing_env,
        "post_processing_env": run.post_processing_env,
        "students_env": run.students_env,
        "students_jobs_left": len(run.students_env),
        "success": run.success,
        "config": dict(run.config),
        "pool": run.pool,
        "publish_at": run.publish_at,
    }


def _run(document: Document) -> Run:
    course, _, assignment = document["assignment_id"].partition("/")
    return Run(
        id=str(document["_id"]),
        course=course,
        assignment=assignment,
        state=RunState(document["state"]),
        started_at=document.get("started_at") or document["_id"].generation_time,
        finished_at=document.get("finished_at"),
        success=document.get("success"),
        config=document.get("config") or {},
        students_env=document.get("students_env") or [],
        pre_processing_env=document.get("pre_processing_env"),
        post_processing_env=document.get("post_processing_env"),
        pool=document.get("pool", "default"),
        publish_at=document.get("publish_at"),
    )
