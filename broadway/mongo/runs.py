"""The collection ``grading_run``."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pymongo.errors import DuplicateKeyError

from broadway.mongo.assignments import check_storable
from broadway.mongo.collection import Collection, Document, object_id
from broadway.run import PHASE_OF, Order, OrderKind, Run, RunState

_WITHOUT_BULK = {"students_env": 0, "config": 0, "pre_processing_env": 0, "post_processing_env": 0}


class Runs:
    """Grading runs by id."""

    def __init__(self, collection: Collection) -> None:
        self._runs = collection

    async def ensure_indexes(self) -> None:
        await self._runs.create_index([("state", 1), ("started_at", 1)], name="by_state")
        await self._runs.create_index([("assignment_id", 1), ("started_at", -1)], name="by_assignment")

    async def insert(self, run: Run) -> bool:
        """Store a new run; False when there is one of its id already.

        Raises:
            UnstorableError: MongoDB would refuse it; nothing is stored.
        """
        document = _document(run)
        check_storable(document)
        try:
            await self._runs.insert_one(document)
        except DuplicateKeyError:
            return False
        return True

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

    async def advance(self, run: Run, target: RunState, *, now: datetime, publish_at: datetime | None) -> bool:
        """Move a run on; False when it is not as it was read any more.

        ``publish_at`` puts it into the outbox: from then on somebody else may publish its phase's jobs.
        """
        changes: dict[str, Any] = {"state": target.value, "publish_at": publish_at, "order": None}
        if target.is_terminal:
            changes |= {"finished_at": now, "success": target is RunState.FINISHED}
        if run.state is RunState.STUDENTS:
            changes["students_jobs_left"] = 0
        result = await self._runs.update_one(_unchanged(run), {"$set": changes})
        return result.modified_count == 1

    async def give_order(self, run: Run, order: Order, state: RunState, *, publish_at: datetime) -> bool:
        """Store an order with a run, which starts a new round in ``state``; False when it is not as it was read."""
        changes = {
            "state": state.value,
            "round": run.round + 1,
            "order": {"kind": order.kind.value, "reason": order.reason, "jobs": [list(job) for job in order.jobs]},
            "publish_at": publish_at,
            "finished_at": None,
            "success": None,
        }
        result = await self._runs.update_one(_unchanged(run), {"$set": changes})
        return result.modified_count == 1

    async def mark_published(self, run: Run, state: RunState) -> None:
        """Take a run out of the outbox, if it is still in that state and no order has come since it was read."""
        unchanged = {**_unchanged(replace(run, state=state)), "order": None}
        await self._runs.update_one(unchanged, {"$set": {"publish_at": None}})

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


def _unchanged(run: Run) -> Document:
    """The filter for a run in the state, round and order in which it was read."""
    order = {"$ne": None} if run.order else None
    # Runs of the original and of the first versions have no round.
    rounds = [run.round, None] if run.round == 1 else [run.round]
    return {"_id": object_id(run.id), "state": run.state.value, "round": {"$in": rounds}, "order": order}


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
        "round": run.round,
        "request_digest": run.request_digest,
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
        round=document.get("round") or 1,
        order=_order(document["order"]) if document.get("order") else None,
        request_digest=document.get("request_digest"),
    )


def _order(document: Document) -> Order:
    jobs = tuple((job_id, generation) for job_id, generation in document["jobs"])
    return Order(OrderKind(document["kind"]), document["reason"], jobs)
