"""The grader: takes jobs of its pool, from the broker or through the API, and runs their stages in containers."""

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog

from broadway.domain.assignment import memory_bytes
from broadway.grader.grading.workspace import Size, may_mount, remove
from broadway.grader.links import polling, websocket
from broadway.grader.links.join import Membership, join
from broadway.grader.links.protocol import HttpRunner, JobResult
from broadway.grader.ports import Containers
from broadway.grader.sandbox.process_identity import has_ended, own_identity
from broadway.grader.worker.availability import Availability
from broadway.grader.worker.runner import Runner
from broadway.grader.worker.self_check import SelfCheck, check_disk
from broadway.grader.worker.spool import Spool
from broadway.grader.worker.worker import Worker
from broadway.messages.events import GraderHeartbeat, GraderOrder, JobFinished
from broadway.messages.topology import EVENTS, control_queue, heartbeat_key, ready_queue
from broadway.ports import PublishError
from broadway.rabbit.client import Rabbit
from broadway.rabbit.connecting import BrokerUnreachableError, UntrustedError
from broadway.rabbit.subscription import Subscription
from broadway.runtime import metrics
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.health import Check, Health
from broadway.service import StartError, background, connected, unless_stopped
from broadway.settings.programs import GraderSettings

log = structlog.get_logger(__name__)

REAP_INTERVAL = 5  # seconds
LOGIN_INTERVAL = 2  # seconds between two looks at whether the broker still lets us in


async def run(settings: GraderSettings, *, containers: Containers, stop: asyncio.Event) -> None:
    """Grade in the way that ``--api-host`` asks for and the API offers, until told to stop.

    Raises:
        StartError: The API refuses this grader.
    """
    structlog.contextvars.bind_contextvars(grader=settings.grader_id)
    if settings.api_host.startswith("ws") and not settings.amqp_url:
        async with _fit(settings, containers) as (runner, self_check):
            await websocket.serve(
                settings, runner=runner, spool=_spool_directory(settings, "v1"), self_check=self_check, stop=stop
            )
        return
    membership = await unless_stopped(join(settings), stop)
    if membership is None:
        return
    if settings.amqp_url or await _is_reachable(membership.amqp_url, settings.tls):
        await serve(settings, membership, containers=containers, stop=stop)
        return
    async with _fit(settings, containers) as (runner, self_check):
        spool = Spool(_spool_directory(settings, "v1") / settings.grader_id, JobResult)
        await polling.serve(settings, membership, runner=HttpRunner(runner, spool, self_check), stop=stop)


async def serve(
    settings: GraderSettings, membership: Membership, *, containers: Containers, stop: asyncio.Event
) -> None:
    """Grade what the broker has until told to stop; then finish what runs or give it back, and say so."""
    assert membership.amqp_url is not None  # noqa: S101 - or there would be nothing to serve
    name = settings.grader_id
    tag = f"grader@{name}"
    async with (
        connected(membership.amqp_url, service=f"grader@{name}", tls=settings.tls) as rabbit,
        _kept_clean(settings, containers) as runner,
    ):
        health = _health(settings, containers, broker=rabbit.ping)
        self_check = SelfCheck(health, limit=settings.pause_after, pause=settings.pause)
        availability = Availability(
            self_check, settings.slots, membership.order or GraderOrder(grader_id=name, revision=0)
        )
        spool = Spool(_spool_directory(settings, name), JobFinished)
        worker = Worker(runner, availability, publisher=rabbit, spool=spool)
        queue = ready_queue(settings.pool)
        if not membership.own_user:
            await rabbit.declare(queue)
        await worker.report_spooled()
        await health.look()
        beats = _heartbeats(settings, membership.heartbeat_interval, worker, rabbit)
        async with (
            background(beats, health.run(), _stay(settings, availability, rabbit)),
            rabbit.consume(control_queue(name), worker.obey, tag=f"{tag}.control", prefetch=10),
            rabbit.consume(queue, worker.work, tag=tag, channels=0, is_guest=membership.own_user) as taking,
        ):
            while not stop.is_set() and not availability.is_revoked:
                await _take_jobs(settings, worker, taking)
                await unless_stopped(availability.change(), stop)
            await taking.stop_taking()
            if not availability.is_revoked:
                log.info("draining", running=len(worker.running), seconds=settings.drain_timeout)
                await taking.finish(grace=settings.drain_timeout)
        if availability.is_revoked:
            raise StartError(f"this grader may not grade any more: {availability.reason}")
        await _beat(settings, worker, rabbit, leaving=True)


async def _take_jobs(settings: GraderSettings, worker: Worker, taking: Subscription) -> None:
    """Take as many jobs at a time as duty allows; those that run go on, whatever it allows."""
    availability, capacity = worker.availability, worker.availability.capacity
    if capacity == taking.channels:
        return
    try:
        await taking.take(capacity)
    except PublishError as error:
        log.warning("not taking jobs as it should be", slots=capacity, reason=str(error))
        return
    if capacity:
        log.info("ready to grade", grader=settings.grader_id, slots=capacity, pool=settings.pool, way="broker")
    else:
        log.warning(
            "paused", reason=availability.reason, running=len(worker.running), draining=availability.is_draining
        )


async def _stay(settings: GraderSettings, availability: Availability, rabbit: Rabbit) -> None:
    """Ask for another login when the broker refuses ours: it has lost its users, or an operator has revoked us."""
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


async def _is_reachable(amqp_url: str | None, tls: ssl.SSLContext) -> bool:
    """Whether the broker that the API tells of can be reached from here.

    Raises:
        StartError: Somebody answers who cannot show that it is the broker.
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


@contextlib.asynccontextmanager
async def _kept_clean(settings: GraderSettings, containers: Containers) -> AsyncIterator[Runner]:
    """A bench without what dead graders have left on this host, now and from time to time."""
    jobs = settings.work_dir.absolute() / "jobs"
    await _reap(containers, settings.grader_id, jobs)
    size = Size(int(memory_bytes(settings.job_size)), settings.job_inodes)
    runner = Runner(settings.grader_id, own_identity(), containers, jobs, size=size, verbose=settings.verbose)
    if not may_mount():
        log.warning("job directories have no size limit: this needs the right to mount", directory=str(jobs))
    try:
        async with background(_reap_forever(containers, settings.grader_id, jobs)):
            yield runner
    finally:
        with contextlib.suppress(OSError):  # no job has run, or one could not be removed
            (jobs / runner.life).rmdir()


@contextlib.asynccontextmanager
async def _fit(settings: GraderSettings, containers: Containers) -> AsyncIterator[tuple[Runner, SelfCheck]]:
    """A bench that is kept clean, and what is known of whether jobs may run on it, for who does without the broker."""
    health = _health(settings, containers)
    self_check = SelfCheck(health, limit=settings.pause_after, pause=settings.pause)
    async with _kept_clean(settings, containers) as runner:
        await health.look()
        async with background(health.run()):
            yield runner, self_check


def _health(settings: GraderSettings, containers: Containers, **more: Check) -> Health:
    """What looks at the parts that every grader needs, and at more of them."""
    disk = partial(check_disk, settings.work_dir, needed=memory_bytes(settings.min_disk))
    return Health({**more, "engine": containers.ping, "disk": disk}, file=settings.health_file)


def _spool_directory(settings: GraderSettings, name: str) -> Path:
    return settings.work_dir.absolute() / "spool" / name


async def _heartbeats(settings: GraderSettings, interval: float, worker: Worker, rabbit: Rabbit) -> None:
    while True:
        worker.availability.news.clear()
        await _beat(settings, worker, rabbit)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(interval):
                await worker.availability.news.wait()


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
        runtime=settings.runtime_told,
        running=worker.running,
        leaving=leaving,
        sent_at=datetime.now(UTC),
    )
    try:
        await rabbit.publish(EVENTS, heartbeat_key(settings.grader_id), beat)
    except PublishError as error:
        log.warning("heartbeat not sent", reason=str(error))


async def _reap_forever(containers: Containers, name: str, jobs: Path) -> None:
    while True:
        await asyncio.sleep(REAP_INTERVAL)
        await _reap(containers, name, jobs)


async def _reap(containers: Containers, name: str, jobs: Path) -> None:
    """Remove containers and directories of graders on this host that have died, an earlier life of this one too."""
    mine = own_identity()

    def is_orphan(grader_id: str, life: str) -> bool:
        return life != mine and (grader_id == name or has_ended(life))

    removed = await containers.remove_orphans(is_orphan)
    if removed:
        log.warning("orphaned containers removed", count=removed)
    jobs.mkdir(parents=True, exist_ok=True)
    for directory in jobs.iterdir():
        if directory.name != mine and has_ended(directory.name):
            for execution in directory.iterdir():
                await remove(execution)
            await remove(directory)
