"""The collection ``grading_run``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from broadway.domain.pages import position
from broadway.domain.run import PHASE_OF, Order, OrderKind, Run, RunState
from broadway.mongo.assignments import check_storable
from broadway.mongo.collection import (
    Collection,
    Document,
    Documents,
    Update,
    insert_each,
    object_id,
    object_ids,
    update_each,
)

_EPOCH = datetime.fromtimestamp(0, UTC)
_UPDATES = 25  # at a time
_WITHOUT_BULK = {"students_env": 0, "config": 0, "pre_processing_env": 0, "post_processing_env": 0}


@dataclass(frozen=True, slots=True)
class RunMove:
    """A change to a run, which takes place only if the run is as it was read; ``is_held``: its outbox too."""

    run: Run
    changes: Document
    is_held: bool = False


class Runs:
    """Grading runs by id."""

    def __init__(self, collection: Collection) -> None:
        self._runs = Documents(collection)

    async def ensure_indexes(self) -> None:
        # Every change of a run pays for every index.
        await self._runs.create_index([("state", 1), ("publish_at", 1)], name="by_state_and_outbox")
        await self._runs.create_index([("assignment_id", 1), ("started_at", -1), ("_id", -1)], name="by_assignment")

    async def insert(self, run: Run) -> bool:
        """Store a new run; False when there is one of its id already.

        Raises:
            UnstorableError: MongoDB would refuse it; nothing is stored.
        """
        return (await self.insert_all([run]))[0]

    async def insert_all(self, runs: Sequence[Run]) -> list[bool]:
        """Store new runs; False for each of which there is one of its id already.

        Raises:
            UnstorableError: MongoDB would refuse one of them; nothing is stored.
        """
        documents = [_document(run) for run in runs]
        for document in documents:
            check_storable(document)
        return await insert_each(self._runs, documents)

    async def get(self, run_id: str) -> Run | None:
        """A run. One of the original's has no config of its own, only what its jobs say."""
        return (await self.get_many([run_id])).get(run_id)

    async def get_many(self, run_ids: Sequence[str]) -> dict[str, Run]:
        """Runs by id."""
        found = await self._runs.find({"_id": {"$in": object_ids(run_ids)}})
        return {run.id: run for run in map(_run, found)}

    async def summary(self, run_id: str) -> Run | None:
        """A run without its roster and config, which may be large."""
        return (await self.summaries([run_id])).get(run_id)

    async def summaries(self, run_ids: Sequence[str]) -> dict[str, Run]:
        """Runs by id, without their rosters and configs."""
        found = await self._runs.find({"_id": {"$in": object_ids(run_ids)}}, _WITHOUT_BULK)
        return {run.id: run for run in map(_run, found)}

    async def advance(self, run: Run, target: RunState, *, now: datetime, publish_at: datetime | None) -> bool:
        """Move a run on; False when it is not as it was read any more.

        ``publish_at`` puts it into the outbox: from then on somebody else may publish its phase's jobs.
        """
        changes: dict[str, Any] = {"state": target.value, "publish_at": publish_at, "order": None}
        if target.is_terminal:
            changes |= {"finished_at": now, "success": target is RunState.FINISHED}
        if run.state is RunState.STUDENTS:
            changes["students_jobs_left"] = 0
        return await self.move(RunMove(run, changes))

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
        return await self.move(RunMove(run, changes))

    async def hold(self, run: Run, state: RunState, since: datetime, until: datetime) -> bool:
        """Put off the time when somebody else publishes a run's jobs; False when that is not ``since`` any more."""
        held = replace(run, state=state, order=None, publish_at=since)
        return await self.move(RunMove(held, {"publish_at": until}, is_held=True))

    async def mark_published(self, run: Run, state: RunState) -> None:
        """Take a run out of the outbox, if it is still in that state and no order has come since it was read."""
        await self.move(published(run, state))

    async def move(self, move: RunMove) -> bool:
        """Change a run; False when it is not as it was read any more."""
        return (await self.move_all([move]))[0]

    async def move_all(self, moves: Sequence[RunMove]) -> list[bool]:
        """Change runs, each in one conditional update; which of them were as they were read."""
        updates = [Update(object_id(move.run.id), _unchanged(move), move.changes) for move in moves]
        return await update_each(self._runs, updates, at_a_time=_UPDATES)

    async def of_assignments(self, names: Sequence[str], *, before: str | None, limit: int) -> list[Run]:
        """Runs of ``<course>/<assignment>``, latest first, without rosters and configs; ``before`` is a cursor.

        Raises:
            CursorError: ``before`` is none.
        """
        wanted: Document = {"assignment_id": {"$in": list(names)}}
        if before:
            started_at, name = position(before)
            wanted |= following("started_at", started_at, object_id(name))
        found = await self._runs.find(wanted, _WITHOUT_BULK, sort=[("started_at", -1), ("_id", -1)], limit=limit)
        return [_run(document) for document in found]

    async def unpublished(self, now: datetime, *, limit: int) -> list[Run]:
        """Runs whose phase's jobs should have been published by now."""
        due: list[Run] = []
        for state in PHASE_OF:
            # With a lower bound, or a store may go through all the runs that have nothing to publish.
            wanted = {"state": state.value, "publish_at": {"$gt": _EPOCH, "$lte": now}}
            found = await self._runs.find(wanted, _WITHOUT_BULK, limit=limit - len(due))
            due += map(_run, found)
            if len(due) == limit:
                break
        return due

    async def unfinished(self, *, limit: int) -> dict[str, RunState]:
        """Ids and states of runs that are not over, oldest first.

        Without those of the original, which lost their jobs when it stopped, and have no config to go on with.
        """
        open_states = [state.value for state in RunState if not state.is_terminal]
        wanted = {"state": {"$in": open_states}, "config": {"$exists": True}}
        found = await self._runs.find(wanted, {"state": 1}, sort=[("started_at", 1)], limit=limit)
        return {str(document["_id"]): RunState(document["state"]) for document in found}


def following(time: str, at: datetime, identity: Any) -> Document:
    """What a list that is sorted by the field ``time`` and by id, both descending, has after a cursor's position."""
    return {"$or": [{time: {"$lt": at}}, {time: at, "_id": {"$lt": identity}}]}


def published(run: Run, state: RunState) -> RunMove:
    """The move that takes a run out of the outbox, if it is in that state and has no order."""
    return RunMove(replace(run, state=state, order=None), {"publish_at": None})


def _unchanged(move: RunMove) -> Document:
    """What a run is like that is in the state, round and order in which it was read."""
    run = move.run
    order = {"$ne": None} if run.order else None
    # Runs of the original and of the first versions have no round.
    rounds = [run.round, None] if run.round == 1 else [run.round]
    # "Not unequal", since a store may take an equality for a reason to go through all runs in that state.
    state = {"$not": {"$ne": run.state.value}}
    held = {"publish_at": run.publish_at} if move.is_held else {}
    return {"state": state, "round": {"$in": rounds}, "order": order, **held}


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
        "traceparent": run.traceparent,
        "trigger": dict(run.trigger) if run.trigger else None,
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
        traceparent=document.get("traceparent"),
        trigger=document.get("trigger"),
    )


def _order(document: Document) -> Order:
    jobs = tuple((job_id, generation) for job_id, generation in document["jobs"])
    return Order(OrderKind(document["kind"]), document["reason"], jobs)
