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

from broadway import metrics
from broadway.assignment import memory_bytes
from broadway.crashpoints import Point, reach
from broadway.events import GraderHeartbeat, GraderOrder, JobFinished
from broadway.grader import polling, sockets
from broadway.grader.bench import Bench
from broadway.grader.duty import Duty
from broadway.grader.fitness import Fitness, check_disk
from broadway.grader.join import Membership, join
from broadway.grader.life import is_over, own_life
from broadway.grader.spool import Spool
from broadway.grader.stages import Containers
from broadway.grader.v1 import Hand, JobResult
from broadway.grader.work import Worker
from broadway.grader.workspace import Size, may_mount, remove
from broadway.health import Check, Health
from broadway.ports import PublishError
from broadway.rabbit import BrokerUnreachableError, Rabbit, Subscription, UntrustedError
from broadway.service import StartError, background, connected, unless_stopped
from broadway.settings import GraderSettings
from broadway.topology import EVENTS, control_queue, heartbeat_key, ready_queue

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
        async with _fit(settings, containers) as (bench, fitness):
            await sockets.serve(
                settings, bench=bench, spool=_spool_directory(settings, "v1"), fitness=fitness, stop=stop
            )
        return
    membership = await unless_stopped(join(settings), stop)
    if membership is None:
        return
    if settings.amqp_url or await _is_reachable(membership.amqp_url, settings.tls):
        await serve(settings, membership, containers=containers, stop=stop)
        return
    async with _fit(settings, containers) as (bench, fitness):
        hand = Hand(bench, Spool(_spool_directory(settings, "v1") / settings.grader_id, JobResult), fitness)
        await polling.serve(settings, membership, hand=hand, stop=stop)


async def serve(
    settings: GraderSettings, membership: Membership, *, containers: Containers, stop: asyncio.Event
) -> None:
    """Grade what the broker has until told to stop; then finish what runs or give it back, and say so."""
    assert membership.amqp_url is not None  # noqa: S101 - or there would be nothing to serve
    name = settings.grader_id
    tag = f"grader@{name}"
    async with (
        connected(membership.amqp_url, service=f"grader@{name}", tls=settings.tls) as rabbit,
        _kept_clean(settings, containers) as bench,
    ):
        health = _health(settings, containers, broker=rabbit.ping)
        fitness = Fitness(health, limit=settings.pause_after, pause=settings.pause)
        duty = Duty(fitness, settings.slots, membership.order or GraderOrder(grader_id=name, revision=0))
        spool = Spool(_spool_directory(settings, name), JobFinished)
        worker = Worker(bench, duty, publisher=rabbit, spool=spool)
        queue = ready_queue(settings.pool)
        if not membership.own_user:
            await rabbit.declare(queue)
        await worker.report_spooled()
        await health.look()
        beats = _heartbeats(settings, membership.heartbeat_interval, worker, rabbit)
        async with (
            background(beats, health.run(), _stay(settings, duty, rabbit)),
            rabbit.consume(control_queue(name), worker.obey, tag=f"{tag}.control", prefetch=10),
            rabbit.consume(queue, worker.work, tag=tag, channels=0, is_guest=membership.own_user) as taking,
        ):
            while not stop.is_set() and not duty.is_revoked:
                await _take_jobs(settings, worker, taking)
                await unless_stopped(duty.change(), stop)
            await taking.stop_taking()
            if not duty.is_revoked:
                log.info("draining", running=len(worker.running), seconds=settings.drain_timeout)
                await taking.finish(grace=settings.drain_timeout)
        if duty.is_revoked:
            raise StartError(f"this grader may not grade any more: {duty.reason}")
        await _beat(settings, worker, rabbit, leaving=True)


async def _take_jobs(settings: GraderSettings, worker: Worker, taking: Subscription) -> None:
    """Take as many jobs at a time as duty allows; those that run go on, whatever it allows."""
    duty, capacity = worker.duty, worker.duty.capacity
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
        log.warning("paused", reason=duty.reason, running=len(worker.running), draining=duty.is_draining)


async def _stay(settings: GraderSettings, duty: Duty, rabbit: Rabbit) -> None:
    """Ask for another login when the broker refuses ours: it has lost its users, or an operator has revoked us."""
    while not duty.is_revoked:
        await asyncio.sleep(LOGIN_INTERVAL)
        if settings.amqp_url or rabbit.is_connected or not await rabbit.is_refused():
            continue
        log.warning("the broker refuses our login: joining again")
        try:
            membership = await join(settings)
        except StartError as error:
            duty.resign(str(error))
            return
        if membership.amqp_url:
            rabbit.move(membership.amqp_url)
        if membership.order:
            duty.obey(membership.order)


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
async def _kept_clean(settings: GraderSettings, containers: Containers) -> AsyncIterator[Bench]:
    """A bench without what dead graders have left on this host, now and from time to time."""
    jobs = settings.work_dir.absolute() / "jobs"
    await _reap(containers, settings.grader_id, jobs)
    size = Size(int(memory_bytes(settings.job_size)), settings.job_inodes)
    bench = Bench(settings.grader_id, own_life(), containers, jobs, size=size, verbose=settings.verbose)
    if not may_mount():
        log.warning("job directories have no size limit: this needs the right to mount", directory=str(jobs))
    try:
        async with background(_reap_forever(containers, settings.grader_id, jobs)):
            yield bench
    finally:
        with contextlib.suppress(OSError):  # no job has run, or one could not be removed
            (jobs / bench.life).rmdir()


@contextlib.asynccontextmanager
async def _fit(settings: GraderSettings, containers: Containers) -> AsyncIterator[tuple[Bench, Fitness]]:
    """A bench that is kept clean, and what is known of whether jobs may run on it, for who does without the broker."""
    health = _health(settings, containers)
    fitness = Fitness(health, limit=settings.pause_after, pause=settings.pause)
    async with _kept_clean(settings, containers) as bench:
        await health.look()
        async with background(health.run()):
            yield bench, fitness


def _health(settings: GraderSettings, containers: Containers, **more: Check) -> Health:
    """What looks at the parts that every grader needs, and at more of them."""
    disk = partial(check_disk, settings.work_dir, needed=memory_bytes(settings.min_disk))
    return Health({**more, "engine": containers.ping, "disk": disk}, file=settings.health_file)


def _spool_directory(settings: GraderSettings, name: str) -> Path:
    return settings.work_dir.absolute() / "spool" / name


async def _heartbeats(settings: GraderSettings, interval: float, worker: Worker, rabbit: Rabbit) -> None:
    while True:
        worker.duty.news.clear()
        await _beat(settings, worker, rabbit)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(interval):
                await worker.duty.news.wait()


async def _beat(settings: GraderSettings, worker: Worker, rabbit: Rabbit, *, leaving: bool = False) -> None:
    await reach(Point.BEAT_BEGUN)
    metrics.GRADER_SLOTS.set(worker.duty.slots)
    metrics.GRADER_PAUSED.set(bool(worker.duty.reason))
    beat = GraderHeartbeat(
        grader_id=settings.grader_id,
        hostname=os.uname().nodename,
        pool=settings.pool,
        slots=worker.duty.capacity,
        paused=worker.duty.reason,
        draining=worker.duty.is_draining,
        order=worker.duty.order.revision,
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
    mine = own_life()

    def is_orphan(grader_id: str, life: str) -> bool:
        return life != mine and (grader_id == name or is_over(life))

    removed = await containers.remove_orphans(is_orphan)
    if removed:
        log.warning("orphaned containers removed", count=removed)
    jobs.mkdir(parents=True, exist_ok=True)
    for directory in jobs.iterdir():
        if directory.name != mine and is_over(directory.name):
            for execution in directory.iterdir():
                await remove(execution)
            await remove(directory)
