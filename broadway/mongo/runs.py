"""The collection ``grading_run``."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from broadway.domain.assignment import Env
from broadway.domain.callback import CallbackEvent
from broadway.domain.run import PHASE_OF, Order, OrderKind, Run, RunState
from broadway.mongo.assignments import check_storable
from broadway.mongo.callbacks import CallbackEvents
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
from broadway.mongo.run_lists import latest
from broadway.mongo.students import Reference, Students, chunked
from broadway.runtime.crashpoints import Point, reach

_EPOCH = datetime.fromtimestamp(0, UTC)
_UPDATES = 25  # at a time
_REGRADE = "/@regrade"  # the end of the assignment of runs of a regrade, which keeps them out of all lists of runs
_WITHOUT_BULK = {"students_env": 0, "config": 0, "pre_processing_env": 0, "post_processing_env": 0}


@dataclass(frozen=True, slots=True)
class RunMove:
    """A change to a run, applied only if its state, round and order have not changed since it was read.

    With ``is_held``, its ``publish_at`` must not have changed either.
    """

    run: Run
    changes: Document
    is_held: bool = False


class Runs:
    """Grading runs by id."""

    def __init__(self, collection: Collection, students: Collection, events: CallbackEvents | None = None) -> None:
        self._runs = Documents(collection)
        self._events = events
        self._students = Students(students)

    async def ensure_indexes(self) -> None:
        # Each index makes every change of a run more expensive.
        await self._runs.create_index([("state", 1), ("publish_at", 1)], name="by_state_and_outbox")
        await self._runs.create_index([("assignment_id", 1), ("started_at", -1), ("_id", -1)], name="by_assignment")

    async def insert(self, run: Run) -> bool:
        """Store a new run; return False if its id is taken.

        Raises:
            UnstorableError: MongoDB would refuse the run; nothing is stored.
        """
        if run.state.is_terminal:
            await self._announce_end(run, run.finished_at or run.started_at)
        chunks = chunked(run.students_env)
        return await (self._insert_large(run, chunks) if chunks else self._insert_small(run))

    async def _insert_small(self, run: Run) -> bool:
        return (await self.insert_all([run]))[0]

    async def _insert_large(self, run: Run, chunks: Sequence[Sequence[Env]]) -> bool:
        """Store a new run and, before it, its students' environments, in documents of their own."""
        document = {**_document(run), "students_env": None}
        check_storable(document)
        kept = await self._students.put(run.id, chunks, datetime.now(UTC))
        await reach(Point.SUBMIT_STUDENTS_STORED)
        is_new = (await insert_each(self._runs, [{**document, "students_env": kept.document}]))[0]
        await reach(Point.SUBMIT_UNSETTLED)
        await self._students.settle(kept, is_used=is_new)
        return is_new

    async def remove_leftovers(self, before: datetime) -> int:
        """Remove the environments of runs that were never stored, whose process had begun to before a moment.

        Returns the number of runs that were never stored.
        """
        kept = await self._students.unsettled(before)
        found = await self._runs.find({"_id": {"$in": object_ids(each.run_id for each in kept)}}, {"students_env": 1})
        used = {Reference.of(document) for document in found}
        for each in kept:
            await self._students.settle(each, is_used=each in used)
        return sum(each not in used for each in kept)

    async def insert_all(self, runs: Sequence[Run]) -> list[bool]:
        """Store new runs with their environments; return False for each whose id is taken.

        Raises:
            UnstorableError: MongoDB would refuse one of the runs; nothing is stored.
        """
        documents = [_document(run) for run in runs]
        for document in documents:
            check_storable(document)
        return await insert_each(self._runs, documents)

    async def get(self, run_id: str) -> Run | None:
        """Return a run, or None. A run of the original system has an empty config."""
        return (await self.get_many([run_id])).get(run_id)

    async def get_many(self, run_ids: Sequence[str]) -> dict[str, Run]:
        """Return runs by id; unknown ids are left out."""
        found = await self._runs.find({"_id": {"$in": object_ids(run_ids)}})
        rosters = await self._students.get_many([kept for each in found if (kept := Reference.of(each))])
        runs = [_run(document) for document in found]
        return {run.id: replace(run, students_env=rosters[run.id]) if run.id in rosters else run for run in runs}

    async def summary(self, run_id: str) -> Run | None:
        """Return a run without its roster and config, which may be large, or None."""
        return (await self.summaries([run_id])).get(run_id)

    async def summaries(self, run_ids: Sequence[str]) -> dict[str, Run]:
        """Return runs by id, without rosters and configs; unknown ids are left out."""
        found = await self._runs.find({"_id": {"$in": object_ids(run_ids)}}, _WITHOUT_BULK)
        return {run.id: run for run in map(_run, found)}

    async def advance(
        self,
        run: Run,
        target: RunState,
        *,
        now: datetime,
        publish_at: datetime | None,
        is_ungraded: bool = False,
    ) -> bool:
        """Move a run to another state and clear its order; return False if it has changed since it was read.

        ``publish_at`` puts the run into the outbox: from that time on other processes may publish its phase's jobs.
        """
        changes: dict[str, Any] = {"state": target.value, "publish_at": publish_at, "order": None}
        if target.is_terminal:
            changes |= {"finished_at": now, "success": target is RunState.FINISHED, "is_ungraded": is_ungraded}
            changes |= await self._announce_end(run, now)
        if run.state is RunState.STUDENTS:
            changes["students_jobs_left"] = 0
        return await self.move(RunMove(run, changes))

    async def last_ends(self, run_ids: Sequence[str]) -> dict[str, tuple[Run, int]]:
        """Return runs by id, without rosters and configs, each with the last round that has ended, or 0."""
        found = await self._runs.find_by_ids(object_ids(run_ids), _WITHOUT_BULK)
        runs = [(_run(document), int(document.get("ended_round") or 0)) for document in found]
        return {run.id: (run, max(last, run.round if run.state.is_terminal else 0)) for run, last in runs}

    async def _announce_end(self, run: Run, at: datetime) -> Document:
        """Store the event of a run's end before the end itself, so that no crash between the two loses it.

        Return the field that will show that the round has ended, for a course that has endpoints.
        """
        if self._events is None or run.course not in await self._events.wanted():
            return {}
        await self._events.add([CallbackEvent.run_finished(run.course, run.id, run.round, at=at)])
        return {"ended_round": run.round}

    async def give_order(
        self,
        run: Run,
        order: Order,
        state: RunState,
        *,
        publish_at: datetime,
        config: Mapping[str, Any] | None = None,
    ) -> bool:
        """Store an order, which starts a round in ``state``; return False if the run has changed since it was read.

        Args:
            run: The run as it was read.
            order: The order.
            state: The state of the run from now on.
            publish_at: The time from which other processes may carry out the order.
            config: The run's config from now on, if it changes.

        Raises:
            UnstorableError: MongoDB would refuse the config; nothing is stored.
        """
        changes: Document = {
            "state": state.value,
            "round": run.round + 1,
            "order": {"kind": order.kind.value, "reason": order.reason, "jobs": [list(job) for job in order.jobs]},
            "publish_at": publish_at,
            "finished_at": None,
            "success": None,
            "is_ungraded": False,
        }
        if config is not None:
            changes |= {"config": dict(config), "config_round": run.round + 1}
            check_storable(changes)
        return await self.move(RunMove(run, changes))

    async def hold(self, run: Run, state: RunState, since: datetime, until: datetime) -> bool:
        """Postpone from ``since`` to ``until`` the time when other processes publish a run's jobs.

        Returns False if the stored time is not ``since``, or the run has changed.
        """
        held = replace(run, state=state, order=None, publish_at=since)
        return await self.move(RunMove(held, {"publish_at": until}, is_held=True))

    async def hold_order(self, run: Run, since: datetime, until: datetime) -> bool:
        """Postpone from ``since`` to ``until`` the time when other processes carry out a run's order.

        Returns False if the stored time is not ``since``, or the run has changed.
        """
        return await self.move(RunMove(replace(run, publish_at=since), {"publish_at": until}, is_held=True))

    async def ending(self, run_ids: Iterable[str]) -> set[str]:
        """Return the ids of those runs that an order is ending."""
        ends = {"$in": [OrderKind.CANCEL.value, OrderKind.SUPERSEDE.value]}
        found = await self._runs.find({"_id": {"$in": object_ids(run_ids)}, "order.kind": ends}, {"_id": 1})
        return {str(document["_id"]) for document in found}

    async def mark_published(self, run: Run, state: RunState) -> None:
        """Remove a run from the outbox, unless its state, round or order has changed."""
        await self.move(published(run, state))

    async def move(self, move: RunMove) -> bool:
        """Change a run; return False if it has changed since it was read."""
        return (await self.move_all([move]))[0]

    async def move_all(self, moves: Sequence[RunMove]) -> list[bool]:
        """Change runs, each in one conditional update; return False for each that has changed since it was read."""
        updates = [Update(object_id(move.run.id), _unchanged(move), move.changes) for move in moves]
        return await update_each(self._runs, updates, at_a_time=_UPDATES)

    async def of_assignments(self, names: Sequence[str], *, before: str | None, limit: int) -> list[Run]:
        """Return runs of assignments, latest first, without rosters and configs.

        ``names`` are ``<course>/<assignment>``; ``before`` is the cursor of a page.

        Raises:
            CursorError: ``before`` is not a valid cursor.
        """
        found = await latest(self._runs, names, _WITHOUT_BULK, before=before, limit=limit)
        return [_run(document) for document in found]

    async def unpublished(self, now: datetime, *, limit: int) -> list[Run]:
        """Return runs whose jobs should have been published by ``now``, without rosters and configs."""
        due: list[Run] = []
        for state in PHASE_OF:
            # The lower bound keeps a store from scanning all runs that have nothing to publish.
            query = {"state": state.value, "publish_at": {"$gt": _EPOCH, "$lte": now}}
            found = await self._runs.find(query, _WITHOUT_BULK, limit=limit - len(due))
            due += map(_run, found)
            if len(due) == limit:
                break
        return due

    async def unfinished(self, *, limit: int) -> dict[str, RunState]:
        """Return the states of unfinished runs by id, oldest first.

        Runs of the original system are left out: they lost their jobs when it stopped, and have no config to continue.
        """
        open_states = [state.value for state in RunState if not state.is_terminal]
        query = {"state": {"$in": open_states}, "config": {"$exists": True}}
        found = await self._runs.find(query, {"state": 1}, sort=[("started_at", 1)], limit=limit)
        return {str(document["_id"]): RunState(document["state"]) for document in found}


def published(run: Run, state: RunState) -> RunMove:
    """The move that removes a run from the outbox, if it is in ``state`` and has no order."""
    return RunMove(replace(run, state=state, order=None), {"publish_at": None})


def _unchanged(move: RunMove) -> Document:
    """Return the filter that matches a run only while its state, round and order are as they were read."""
    run = move.run
    order = {"$ne": None} if run.order else None
    # Runs of the original system and of early versions have no round.
    rounds = [run.round, None] if run.round == 1 else [run.round]
    # "Not unequal", since with an equality a store may scan all runs in that state.
    state = {"$not": {"$ne": run.state.value}}
    held = {"publish_at": run.publish_at} if move.is_held else {}
    return {"state": state, "round": {"$in": rounds}, "order": order, **held}


def _document(run: Run) -> Document:
    return {
        "_id": object_id(run.id),
        "state": run.state.value,
        "assignment_id": f"{run.course}/{run.assignment}{_REGRADE if run.regrade else ''}",
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "pre_processing_env": run.pre_processing_env,
        "post_processing_env": run.post_processing_env,
        "students_env": run.students_env,
        "students_jobs_left": len(run.students_env),
        "students": len(run.students_env),
        "success": run.success,
        "config": dict(run.config),
        "pool": run.pool,
        "publish_at": run.publish_at,
        "round": run.round,
        "request_digest": run.request_digest,
        "traceparent": run.traceparent,
        "trigger": dict(run.trigger) if run.trigger else None,
        **({"regrade": run.regrade} if run.regrade else {}),
    }


def _run(document: Document) -> Run:
    course, _, assignment = document["assignment_id"].partition("/")
    return Run(
        id=str(document["_id"]),
        course=course,
        assignment=assignment.removesuffix(_REGRADE),
        state=RunState(document["state"]),
        started_at=document.get("started_at") or document["_id"].generation_time,
        finished_at=document.get("finished_at"),
        success=document.get("success"),
        is_ungraded=bool(document.get("is_ungraded")),
        config=document.get("config") or {},
        students_env=[] if Reference.of(document) else document.get("students_env") or [],
        students=document.get("students"),
        pre_processing_env=document.get("pre_processing_env"),
        post_processing_env=document.get("post_processing_env"),
        pool=document.get("pool", "default"),
        publish_at=document.get("publish_at"),
        round=document.get("round") or 1,
        config_round=document.get("config_round") or 1,
        order=_order(document["order"]) if document.get("order") else None,
        request_digest=document.get("request_digest"),
        traceparent=document.get("traceparent"),
        trigger=document.get("trigger"),
        regrade=document.get("regrade"),
    )


def _order(document: Document) -> Order:
    jobs = tuple((job_id, generation) for job_id, generation in document["jobs"])
    return Order(OrderKind(document["kind"]), document["reason"], jobs)
