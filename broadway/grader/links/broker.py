"""Grading over the broker: take jobs of the pool's queue, obey orders, and send heartbeats."""

import asyncio
import contextlib
import os
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from broadway.domain.abilities import ABILITIES, LIVE_LOGS, WITHOUT_FILES
from broadway.grader.links.join import Membership, join, taken
from broadway.grader.worker.orphans import Orphans
from broadway.grader.worker.worker import Worker
from broadway.messages.events import GraderHeartbeat
from broadway.messages.topology import EVENTS, control_queue, heartbeat_key, ready_queue
from broadway.ports import PublishError, QueueTakenError
from broadway.rabbit.client import Rabbit
from broadway.rabbit.connecting import HEARTBEAT, BrokerUnreachableError, UntrustedError
from broadway.rabbit.subscription import Subscription
from broadway.runtime import metrics
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.health import Health
from broadway.service import SettingError, StartError, Stop, background, unless_stopped
from broadway.settings.grader import GraderSettings

log = structlog.get_logger(__name__)

CLAIM_INTERVAL = 1.0  # seconds between attempts to consume this grader's commands
CLAIM_WITHIN = 3 * HEARTBEAT + 2.0  # seconds
EARLY = 3  # jobs for each slot that may come before it is free, while jobs take no time
LOGIN_INTERVAL = 2  # seconds between checks that the broker still accepts our login


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a grader at the broker."""

    worker: Worker
    rabbit: Rabbit
    health: Health
    orphans: Orphans


async def serve(settings: GraderSettings, membership: Membership, parts: Parts, *, stop: Stop) -> None:
    """Take jobs until ``stop`` is set; then finish the running jobs or give them back, and send a last heartbeat.

    Raises:
        StartError: An operator has revoked this grader, or another process has its id.
    """
    async with contextlib.AsyncExitStack() as stack:
        # Only the process that holds the id may remove what an earlier process left, or report in its name.
        await _claim(stack, parts)
        await parts.orphans.reap()
        await _grade(settings, membership, parts, stop=stop)


async def _claim(stack: contextlib.AsyncExitStack, parts: Parts) -> None:
    """Consume the queue of this grader's commands, which only one connection can, until the end of a stack.

    The broker notices the end of a connection whose host has gone after up to three heartbeats.

    Raises:
        SettingError: Another process consumes the queue for longer than that.
    """
    worker, rabbit = parts.worker, parts.rabbit
    queue, deadline = control_queue(worker.grader_id), time.monotonic() + CLAIM_WITHIN
    while True:
        consuming = rabbit.consume(queue, worker.obey, tag=f"grader@{worker.grader_id}.control", prefetch=10)
        try:
            await stack.enter_async_context(consuming)
        except QueueTakenError as error:
            if time.monotonic() > deadline:
                raise SettingError(taken(worker.grader_id)) from error
            log.warning("another process has this grader's id, or has just ended", seconds=CLAIM_WITHIN)
            await asyncio.sleep(CLAIM_INTERVAL)
        else:
            return


async def _grade(settings: GraderSettings, membership: Membership, parts: Parts, *, stop: Stop) -> None:
    worker, rabbit, health = parts.worker, parts.rabbit, parts.health
    tag, queue, availability = f"grader@{worker.grader_id}", ready_queue(settings.pool), worker.availability
    if not membership.own_user:
        await rabbit.declare(queue)
    await worker.report_spooled()
    await health.check()
    beats = _heartbeats(settings, membership.heartbeat_interval, worker, rabbit)
    login = _keep_login(settings, worker, rabbit)
    is_guest, ahead = membership.own_user, EARLY * settings.slots
    async with (
        background(beats, health.run(), login, parts.orphans.reap_forever()),
        rabbit.consume(queue, worker.work, tag=tag, channels=0, is_guest=is_guest) as jobs,
        # Below the priority of every grader with a free slot.
        rabbit.consume(
            queue, worker.work_soon, tag=f"{tag}.early", prefetch=ahead, channels=0, priority=-1, is_guest=is_guest
        ) as early_jobs,
    ):
        stop.heed()
        while not stop.is_set() and not availability.is_revoked:
            await _take_jobs(settings, worker, jobs)
            await _take_early_jobs(worker, early_jobs)
            await unless_stopped(availability.change(), stop)
        await asyncio.gather(early_jobs.stop_taking(), jobs.stop_taking())
        if not availability.is_revoked:
            log.info("draining", running=len(worker.running), seconds=settings.drain_timeout)
            grace = settings.drain_timeout
            await asyncio.gather(early_jobs.finish(grace=grace), jobs.finish(grace=grace))
    if availability.is_revoked:
        raise StartError(f"this grader may not grade any more: {availability.reason}")
    await _beat(settings, worker, rabbit, leaving=True)


async def is_reachable(amqp_url: str | None, tls: ssl.SSLContext) -> bool:
    """Return True if this host can connect to the broker that the API offers.

    Raises:
        StartError: The certificate of the server at that address is not trusted.
    """
    if amqp_url is None:
        log.info("the API offers no broker: polling")
        return False
    try:
        async with Rabbit.connect(amqp_url, service="grader (probe)", tls=tls):
            return True
    except UntrustedError as error:
        raise StartError(f"{error}; is --ca-file right?") from error
    except BrokerUnreachableError as error:
        log.warning("the broker cannot be reached from here: polling", reason=str(error))
        return False


async def _take_jobs(settings: GraderSettings, worker: Worker, subscription: Subscription) -> None:
    """Set the number of jobs taken at a time to the grader's present capacity; running jobs go on."""
    availability, capacity = worker.availability, worker.availability.capacity
    if capacity == subscription.channels:
        return
    try:
        await subscription.take(capacity)
    except PublishError as error:
        log.warning("not taking jobs as it should be", slots=capacity, reason=str(error))
        return
    if capacity:
        log.info("ready to grade", grader=settings.grader_id, slots=capacity, pool=settings.pool, way="broker")
    else:
        log.warning(
            "paused", reason=availability.reason, running=len(worker.running), draining=availability.is_draining
        )


async def _take_early_jobs(worker: Worker, subscription: Subscription) -> None:
    """Take jobs before a slot is free, or stop that."""
    channels = int(worker.is_fast and worker.availability.capacity > 0)
    if channels == subscription.channels:
        return
    try:
        await subscription.take(channels)
    except PublishError as error:
        log.warning("not taking jobs early as it should be", channels=channels, reason=str(error))


async def _keep_login(settings: GraderSettings, worker: Worker, rabbit: Rabbit) -> None:
    """Join again when the broker refuses this grader's login: it lost its users, or an operator revoked the grader."""
    availability = worker.availability
    while not availability.is_revoked:
        await asyncio.sleep(LOGIN_INTERVAL)
        if settings.amqp_url or rabbit.is_connected or not await rabbit.is_refused():
            continue
        log.warning("the broker refuses our login: joining again")
        try:
            membership = await join(settings)
        except StartError as error:
            availability.resign(str(error))
            return
        if membership.amqp_url:
            rabbit.move(membership.amqp_url)
        worker.reports.proof_key = bytes.fromhex(membership.proof_key)
        worker.reports.batches = membership.batches
        worker.reports.cancelled_logs = membership.cancelled_logs
        if membership.order:
            availability.obey(membership.order)


async def _heartbeats(settings: GraderSettings, interval: float, worker: Worker, rabbit: Rabbit) -> None:
    while True:
        worker.availability.changed.clear()
        await _beat(settings, worker, rabbit)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(interval):
                await worker.availability.changed.wait()


async def _beat(settings: GraderSettings, worker: Worker, rabbit: Rabbit, *, leaving: bool = False) -> None:
    await reach(Point.BEAT_BEGUN)
    metrics.GRADER_SLOTS.set(worker.availability.slots)
    metrics.GRADER_PAUSED.set(bool(worker.availability.reason))
    beat = GraderHeartbeat(
        grader_id=settings.grader_id,
        hostname=os.uname().nodename,
        pool=settings.pool,
        slots=worker.availability.capacity,
        paused=worker.availability.reason,
        draining=worker.availability.is_draining,
        order=worker.availability.order.revision,
        runtime=settings.reported_runtime,
        abilities=[*(ABILITIES if worker.files else WITHOUT_FILES), LIVE_LOGS],
        running=worker.running,
        leaving=leaving,
        sent_at=datetime.now(UTC),
    )
    try:
        await rabbit.publish(EVENTS, heartbeat_key(settings.grader_id), beat)
    except PublishError as error:
        log.warning("heartbeat not sent", reason=str(error))
