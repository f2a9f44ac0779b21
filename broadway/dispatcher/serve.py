"""The dispatcher: paces jobs fairly between courses, moves runs from phase to phase, and lets nothing hang."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog

from broadway.dispatcher.board import Board
from broadway.dispatcher.dispatch import Intake, dispatch_forever
from broadway.dispatcher.follow import Follower, progress
from broadway.dispatcher.gauges import Gauges
from broadway.dispatcher.lead import lead
from broadway.dispatcher.queue_probes import QueueProbes
from broadway.dispatcher.reconcile import Reconciler
from broadway.domain.course import Course
from broadway.domain.job import JobClass
from broadway.messages.events import GraderHeartbeat
from broadway.messages.ticket import TICKETS, Tickets
from broadway.messages.topology import DISPATCHER, Queue, course_queue, durable_queues, ready_queue
from broadway.mongo.store import Store
from broadway.ports import PublishError, StoreError
from broadway.rabbit.client import Rabbit
from broadway.runtime.health import Health
from broadway.service import background, instance, reasons
from broadway.settings.programs import DispatcherSettings

log = structlog.get_logger(__name__)

INBOX_PREFETCH = 400


async def serve(settings: DispatcherSettings, *, store: Store, rabbit: Rabbit, stop: asyncio.Event) -> None:
    """Dispatch while this process leads, stand by while it does not, until told to stop."""
    work = partial(_work_while_possible, settings, store=store, rabbit=rabbit)
    holder = instance("dispatcher")
    health = Health({"store": store.ping, "broker": rabbit.ping}, file=settings.health_file)
    leading = lead(work, leases=store.leases, holder=holder, ttl=settings.leader_ttl)
    async with background(leading, health.run()):
        await stop.wait()


async def _work_while_possible(settings: DispatcherSettings, *, store: Store, rabbit: Rabbit) -> None:
    """Return when the broker or the store is away, so that the lease is asked for again, by whoever reaches both."""
    try:
        await _work(settings, store=store, rabbit=rabbit)
    except* (StoreError, PublishError) as errors:
        log.warning("dispatching has stopped", reason="; ".join(reasons(errors)))


async def _work(settings: DispatcherSettings, *, store: Store, rabbit: Rabbit) -> None:
    board = Board(ready_share=settings.ready_share, interactive_share=settings.interactive_share)
    for beat, heard_at in await _known_graders(store):
        board.hear(beat, now=heard_at)
    intake = Intake(board, store.jobs)
    tickets = Tickets(await store.secrets.get(TICKETS))
    shared = store.shared()
    runs_forward = progress(runs=shared.runs, jobs=shared.jobs, publisher=rabbit)
    follower = Follower(board, runs_forward)
    reconciler = Reconciler(
        board=board,
        jobs=store.jobs,
        runs=store.runs,
        workers=store.workers,
        broker=rabbit,
        policy=settings.retry_policy,
        lease=settings.lease,
        tickets=tickets,
    )
    tag = instance("dispatcher")
    async with (
        background(
            shared.run(),
            intake.run(),
            runs_forward.run(),
            dispatch_forever(board, jobs=store.jobs, publisher=rabbit, tickets=tickets),
            reconciler.run(interval=settings.reconcile_interval),
        ),
        contextlib.AsyncExitStack() as subscriptions,
    ):
        courses = CourseQueues(store, rabbit, board, intake, subscriptions)
        probes = QueueProbes(rabbit, courses.queues)
        gauges = Gauges(board, pools=courses.pools, depths=probes.depths)
        async with background(probes.run(), gauges.run()):
            await courses.refresh()
            hear = rabbit.consume(DISPATCHER, follower.follow, tag=tag, prefetch=INBOX_PREFETCH, vouched=tickets.vouch)
            async with hear:
                await _watch_courses(courses, interval=settings.reconcile_interval)


async def _watch_courses(courses: "CourseQueues", *, interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        try:
            await courses.refresh()
        except (StoreError, PublishError) as error:
            log.warning("courses not refreshed", reason=str(error))


async def _known_graders(store: Store) -> list[tuple[GraderHeartbeat, datetime]]:
    """What the graders that live said last, and when, so that slots are known before the next heartbeats arrive."""
    return [_known_grader(document) for document in await store.workers.alive()]


def _known_grader(document: Mapping[str, Any]) -> tuple[GraderHeartbeat, datetime]:
    heard_at = document.get("last_seen") or datetime.now(UTC)
    beat = GraderHeartbeat(
        grader_id=document["_id"],
        hostname=document.get("worker_hostname", ""),
        pool=document.get("pool", "default"),
        slots=document.get("slots", 1),
        sent_at=document.get("sent_at") or heard_at,
    )
    return beat, heard_at


@dataclass(slots=True)
class CourseQueues:
    """The subscriptions to the backlogs of all courses; the cap of a course is its queues' prefetch."""

    store: Store
    rabbit: Rabbit
    board: Board
    intake: Intake
    stack: contextlib.AsyncExitStack
    _open: dict[str, tuple[int, contextlib.AsyncExitStack]] = field(default_factory=dict)
    _courses: set[str] = field(default_factory=set)
    _pools: set[str] = field(default_factory=set)

    def pools(self) -> set[str]:
        """All pools that a course uses."""
        return self._pools

    def queues(self) -> list[Queue]:
        """All durable queues that there should be."""
        return durable_queues(sorted(self._courses), sorted(self._pools))

    async def refresh(self) -> None:
        """Consume the queues of every course that is registered or still has jobs, with its present cap."""
        courses = await self.store.courses.all()
        if not self._open:
            removed = set(await self.store.jobs.courses_with_backlog()) - {course.id for course in courses}
            courses += [Course(id=name, tokens=()) for name in sorted(removed) if name]
        self.board.set_courses(courses)
        self._courses |= {course.id for course in courses}
        self._pools |= {course.pool for course in courses}
        for pool in self._pools:
            await self.rabbit.declare(ready_queue(pool))
        for course in courses:
            await self._subscribe(course.id)

    async def _subscribe(self, course: str) -> None:
        prefetch = self.board.cap(course)
        if course in self._open:
            present, opened = self._open[course]
            # A new prefetch needs a new consumer, which gives everything back: not for every slot that comes or goes.
            if present == prefetch or (not self.board.is_capped(course) and present / 2 < prefetch < present * 2):
                return
            await opened.aclose()
        opened = await self.stack.enter_async_context(contextlib.AsyncExitStack())
        tag = instance("dispatcher")
        for job_class in JobClass:
            await opened.enter_async_context(
                self.rabbit.consume(
                    course_queue(course, job_class),
                    self.intake.hold,
                    tag=f"{tag}.{course}.{job_class}",
                    prefetch=prefetch,
                )
            )
        self._open[course] = (prefetch, opened)
