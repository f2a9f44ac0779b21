"""The grader: takes jobs of its pool, from the broker or through the API, and runs their stages in containers."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import structlog

from broadway.crashpoints import Point, reach
from broadway.events import GraderHeartbeat, JobFinished
from broadway.grader import polling, sockets
from broadway.grader.bench import Bench
from broadway.grader.grade import remove_tree
from broadway.grader.join import Membership, join
from broadway.grader.life import is_over, own_life
from broadway.grader.spool import Spool
from broadway.grader.stages import Containers
from broadway.grader.v1 import Hand, JobResult
from broadway.grader.work import Worker
from broadway.health import Health
from broadway.ports import PublishError
from broadway.rabbit import BrokerUnreachableError, Rabbit
from broadway.service import background, connected, unless_stopped
from broadway.settings import GraderSettings
from broadway.topology import EVENTS, control_queue, ready_queue

log = structlog.get_logger(__name__)

REAP_INTERVAL = 5  # seconds


async def run(settings: GraderSettings, *, containers: Containers, stop: asyncio.Event) -> None:
    """Grade in the way that ``--api-host`` asks for and the API offers, until told to stop.

    Raises:
        StartError: The API refuses this grader.
    """
    if settings.api_host.startswith("ws") and not settings.amqp_url:
        async with _kept_clean(settings, containers) as bench:
            await sockets.serve(settings, bench=bench, spool=_spool_directory(settings, "v1"), stop=stop)
        return
    membership = await unless_stopped(join(settings), stop)
    if membership is None:
        return
    if settings.amqp_url or await _is_reachable(membership.amqp_url):
        await serve(settings, membership, containers=containers, stop=stop)
        return
    async with _kept_clean(settings, containers) as bench:
        hand = Hand(bench, Spool(_spool_directory(settings, "v1") / settings.grader_id, JobResult))
        await polling.serve(settings, membership, hand=hand, stop=stop)


async def serve(
    settings: GraderSettings, membership: Membership, *, containers: Containers, stop: asyncio.Event
) -> None:
    """Grade what the broker has until told to stop; then finish what runs or give it back, and say so."""
    assert membership.amqp_url is not None  # noqa: S101 - or there would be nothing to serve
    name = settings.grader_id
    async with (
        connected(membership.amqp_url, service=f"grader@{name}") as rabbit,
        _kept_clean(settings, containers) as bench,
    ):
        worker = Worker(
            pool=settings.pool,
            bench=bench,
            publisher=rabbit,
            spool=Spool(_spool_directory(settings, name), JobFinished),
        )
        await rabbit.declare(ready_queue(settings.pool))
        await worker.report_spooled()
        health = Health({"broker": rabbit.ping, "engine": containers.ping}, file=settings.health_file)
        beats = _heartbeats(settings, membership.heartbeat_interval, worker, rabbit)
        async with (
            background(beats, health.run()),
            rabbit.consume(control_queue(name), worker.cancel, tag=f"grader@{name}.control", prefetch=10),
            rabbit.consume(
                ready_queue(settings.pool), worker.work, tag=f"grader@{name}", channels=settings.slots
            ) as taking,
        ):
            log.info("ready to grade", grader=name, slots=settings.slots, pool=settings.pool, way="broker")
            await stop.wait()
            log.info("draining", running=len(worker.running), seconds=settings.drain_timeout)
            await taking.stop_taking()
            await taking.finish(grace=settings.drain_timeout)
        await _beat(settings, worker, rabbit, leaving=True)


async def _is_reachable(amqp_url: str | None) -> bool:
    """Whether the broker that the API tells of can be reached from here."""
    if amqp_url is None:
        log.info("the API offers no broker: polling")
        return False
    try:
        async with Rabbit.connect(amqp_url, service="grader (probe)"):
            return True
    except BrokerUnreachableError as error:
        log.warning("the broker cannot be reached from here: polling", reason=str(error))
        return False


@contextlib.asynccontextmanager
async def _kept_clean(settings: GraderSettings, containers: Containers) -> AsyncIterator[Bench]:
    """A bench without what dead graders have left on this host, now and from time to time."""
    jobs = settings.work_dir.absolute() / "jobs"
    await _reap(containers, settings.grader_id, jobs)
    bench = Bench(settings.grader_id, own_life(), containers, jobs, verbose=settings.verbose)
    async with background(_reap_forever(containers, settings.grader_id, jobs)):
        yield bench


def _spool_directory(settings: GraderSettings, name: str) -> Path:
    return settings.work_dir.absolute() / "spool" / name


async def _heartbeats(settings: GraderSettings, interval: float, worker: Worker, rabbit: Rabbit) -> None:
    while True:
        await _beat(settings, worker, rabbit)
        await asyncio.sleep(interval)


async def _beat(settings: GraderSettings, worker: Worker, rabbit: Rabbit, *, leaving: bool = False) -> None:
    await reach(Point.BEAT_BEGUN)
    beat = GraderHeartbeat(
        grader_id=settings.grader_id,
        hostname=os.uname().nodename,
        pool=settings.pool,
        slots=settings.slots,
        running=worker.running,
        leaving=leaving,
        sent_at=datetime.now(UTC),
    )
    try:
        await rabbit.publish(EVENTS, f"grader.heartbeat.{settings.grader_id}", beat)
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
            await remove_tree(directory)
