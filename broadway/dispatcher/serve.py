"""The dispatcher service: pace jobs fairly between courses, move runs from phase to phase, and repair lost work."""

import contextlib
from datetime import UTC, datetime
from functools import partial

import structlog

from broadway.dispatcher.board import Board
from broadway.dispatcher.course_queues import CourseQueues
from broadway.dispatcher.dispatch import Dispatch, Intake
from broadway.dispatcher.follow import Follower, progress
from broadway.dispatcher.gauges import Gauges
from broadway.dispatcher.hand_over import HandOver
from broadway.dispatcher.lead import lead
from broadway.dispatcher.lost_jobs import LostJobs
from broadway.dispatcher.patience import PATIENCE, Patience
from broadway.dispatcher.queue_probes import QueueProbes
from broadway.dispatcher.reconcile import Reconciler
from broadway.dispatcher.roll_call import RollCall
from broadway.domain.abilities import abilities_of
from broadway.domain.bounds import MAX_ID
from broadway.domain.grader import MAX_SLOTS, Grader
from broadway.lifecycle.vouching import Vouching
from broadway.messages.events import GraderHeartbeat
from broadway.messages.ticket import TICKETS, Tickets
from broadway.messages.topology import DISPATCHER
from broadway.mongo.store import Store
from broadway.ports import PublishError, StoreError
from broadway.rabbit.client import Rabbit
from broadway.runtime.health import Health
from broadway.runtime.isolation import isolated
from broadway.service import Stop, background, instance, reasons
from broadway.settings.programs import DispatcherSettings

log = structlog.get_logger(__name__)

INBOX_PREFETCH = 400


async def serve(
    settings: DispatcherSettings,
    *,
    store: Store,
    rabbit: Rabbit,
    stop: Stop,
    patience: Patience = PATIENCE,
) -> None:
    """Dispatch while this process leads and stand by while it does not, until ``stop`` is set."""
    work = partial(_work_while_possible, settings, store=store, rabbit=rabbit, patience=patience)
    holder = instance("dispatcher")
    health = Health({"store": store.ping, "broker": rabbit.ping}, file=settings.health_file)
    leading = lead(work, leases=store.leases, holder=holder, ttl=settings.leader_ttl)
    async with background(leading, health.run()):
        stop.heed()
        await stop.wait()


async def _work_while_possible(
    settings: DispatcherSettings, *, store: Store, rabbit: Rabbit, patience: Patience
) -> None:
    """Work until the broker or the store is unavailable; then return, so that a process that reaches both can lead."""
    try:
        await _work(settings, store=store, rabbit=rabbit, patience=patience)
    except* (StoreError, PublishError) as errors:
        log.warning("dispatching has stopped", reason="; ".join(reasons(errors)))


async def _work(settings: DispatcherSettings, *, store: Store, rabbit: Rabbit, patience: Patience) -> None:
    board = Board(ready_share=settings.ready_share, interactive_share=settings.interactive_share)
    await _hear_known_graders(board, store)
    intake = Intake(board, store.jobs)
    tickets = Tickets(await store.secrets.get(TICKETS))
    shared = store.shared()
    runs_forward = progress(runs=shared.runs, jobs=shared.jobs, publisher=rabbit)
    tag = instance("dispatcher")
    subscriptions = contextlib.AsyncExitStack()
    courses = CourseQueues(store.courses, store.jobs, rabbit, board, intake, subscriptions, tag)
    hand_over = HandOver(board, store.jobs, rabbit, tickets)
    lost_jobs = LostJobs(board, store.jobs, store.runs, rabbit, courses, patience)
    reconciler = _reconciler(settings, store, rabbit, hand_over, lost_jobs)
    dispatch = Dispatch(board, store.runs, hand_over)
    probes = QueueProbes(rabbit, courses.queues)
    gauges = Gauges(board, courses.pools, probes.depths, store.jobs, courses, store.dead_letters)
    async with (
        background(
            shared.run(),
            intake.run(),
            runs_forward.run(),
            dispatch.run(),
            reconciler.run(interval=settings.reconcile_interval),
        ),
        subscriptions,
        background(probes.run(), gauges.run()),
    ):
        await courses.refresh()
        follower = Follower(board, runs_forward, RollCall(store.graders, board))
        async with rabbit.consume(
            *(DISPATCHER, follower.follow),
            tag=tag,
            prefetch=INBOX_PREFETCH,
            vouched=Vouching(tickets, store.graders),
            at_once=follower.follow_at_once,
        ):
            await courses.watch(interval=settings.reconcile_interval)


def _reconciler(
    settings: DispatcherSettings, store: Store, rabbit: Rabbit, hand_over: HandOver, lost_jobs: LostJobs
) -> Reconciler:
    return Reconciler(
        board=hand_over.board,
        jobs=store.jobs,
        runs=store.runs,
        graders=store.graders,
        broker=rabbit,
        policy=settings.retry_policy,
        lease=settings.lease,
        hand_over=hand_over,
        lost_jobs=lost_jobs,
        patience=lost_jobs.patience,
    )


async def _hear_known_graders(board: Board, store: Store) -> None:
    """Give the board the last heartbeats of live graders, so that it knows slots before the next heartbeats arrive."""
    for grader in await store.graders.alive():
        with isolated("graders", grader=grader.id):
            beat, heard_at = _known_grader(grader)
            board.hear(beat, now=heard_at)


def _known_grader(grader: Grader) -> tuple[GraderHeartbeat, datetime]:
    heard_at = grader.last_seen or datetime.now(UTC)
    beat = GraderHeartbeat(
        grader_id=grader.id,
        hostname=grader.hostname[:MAX_ID],
        pool=grader.pool,
        slots=1 if grader.slots is None else min(max(0, grader.slots), MAX_SLOTS),
        abilities=list(abilities_of(grader)),
        gateway=grader.gateway or None,
        sent_at=grader.sent_at or heard_at,
    )
    return beat, heard_at
