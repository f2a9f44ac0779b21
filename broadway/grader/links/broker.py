"""Grading over the broker: take jobs of the pool's queue, obey orders, and send heartbeats."""

import asyncio
import contextlib
import os
import ssl
from datetime import UTC, datetime

import structlog

from broadway.grader.links.join import Membership, join
from broadway.grader.worker.availability import Availability
from broadway.grader.worker.worker import Worker
from broadway.messages.events import GraderHeartbeat
from broadway.messages.topology import EVENTS, control_queue, heartbeat_key, ready_queue
from broadway.ports import PublishError
from broadway.rabbit.client import Rabbit
from broadway.rabbit.connecting import BrokerUnreachableError, UntrustedError
from broadway.rabbit.subscription import Subscription
from broadway.runtime import metrics
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.health import Health
from broadway.service import StartError, Stop, background, unless_stopped
from broadway.settings.programs import GraderSettings

log = structlog.get_logger(__name__)

LOGIN_INTERVAL = 2  # seconds between checks that the broker still accepts our login


async def serve(
    settings: GraderSettings,
    membership: Membership,
    *,
    worker: Worker,
    rabbit: Rabbit,
    health: Health,
    stop: Stop,
) -> None:
    """Take jobs until ``stop`` is set; then finish the running jobs or give them back, and send a last heartbeat.

    Raises:
        StartError: An operator has revoked this grader.
    """
    tag, queue, availability = f"grader@{worker.grader_id}", ready_queue(settings.pool), worker.availability
    if not membership.own_user:
        await rabbit.declare(queue)
    await worker.report_spooled()
    await health.check()
    beats = _heartbeats(settings, membership.heartbeat_interval, worker, rabbit)
    async with (
        background(beats, health.run(), _keep_login(settings, availability, rabbit)),
        rabbit.consume(control_queue(worker.grader_id), worker.obey, tag=f"{tag}.control", prefetch=10),
        rabbit.consume(queue, worker.work, tag=tag, channels=0, is_guest=membership.own_user) as subscription,
    ):
        stop.heed()
        while not stop.is_set() and not availability.is_revoked:
            await _take_jobs(settings, worker, subscription)
            await unless_stopped(availability.change(), stop)
        await subscription.stop_taking()
        if not availability.is_revoked:
            log.info("draining", running=len(worker.running), seconds=settings.drain_timeout)
            await subscription.finish(grace=settings.drain_timeout)
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


async def _keep_login(settings: GraderSettings, availability: Availability, rabbit: Rabbit) -> None:
    """Join again when the broker refuses this grader's login: it lost its users, or an operator revoked the grader."""
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
        running=worker.running,
        leaving=leaving,
        sent_at=datetime.now(UTC),
    )
    try:
        await rabbit.publish(EVENTS, heartbeat_key(settings.grader_id), beat)
    except PublishError as error:
        log.warning("heartbeat not sent", reason=str(error))
