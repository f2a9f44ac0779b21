"""The grader: takes jobs of its pool from the broker and runs their stages in containers."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

import structlog

from broadway.events import GraderHeartbeat
from broadway.grader.grade import remove_tree
from broadway.grader.join import Membership
from broadway.grader.life import is_over, own_life
from broadway.grader.spool import Spool
from broadway.grader.stages import Containers
from broadway.grader.work import Worker
from broadway.ports import PublishError
from broadway.rabbit import Rabbit
from broadway.service import background, connected
from broadway.settings import GraderSettings
from broadway.topology import EVENTS, control_queue, ready_queue

log = structlog.get_logger(__name__)

REAP_INTERVAL = 5  # seconds


async def serve(
    settings: GraderSettings, membership: Membership, *, containers: Containers, stop: asyncio.Event
) -> None:
    """Grade until told to stop; then take nothing new, finish what runs or give it back, and say so."""
    name = settings.grader_id
    async with connected(membership.amqp_url, service=f"grader@{name}") as rabbit:
        work_dir = settings.work_dir.absolute()
        worker = Worker(
            grader_id=name,
            life=own_life(),
            pool=settings.pool,
            containers=containers,
            publisher=rabbit,
            spool=Spool(work_dir / "spool" / name),
            work_dir=work_dir / "jobs",
            verbose=settings.verbose,
        )
        await _reap(containers, name, work_dir / "jobs")
        await rabbit.declare(ready_queue(settings.pool))
        await worker.report_spooled()
        beats = _heartbeats(settings, membership.heartbeat_interval, worker, rabbit)
        async with (
            background(beats, _reap_forever(containers, name, work_dir / "jobs")),
            rabbit.consume(control_queue(name), worker.cancel, tag=f"grader@{name}.control", prefetch=10),
            rabbit.consume(
                ready_queue(settings.pool), worker.work, tag=f"grader@{name}", channels=settings.slots
            ) as taking,
        ):
            log.info("ready to grade", grader=name, slots=settings.slots, pool=settings.pool)
            await stop.wait()
            log.info("draining", running=len(worker.running), seconds=settings.drain_timeout)
            await taking.stop_taking()
            await taking.finish(grace=settings.drain_timeout)
        await _beat(settings, worker, rabbit, leaving=True)


async def _heartbeats(settings: GraderSettings, interval: float, worker: Worker, rabbit: Rabbit) -> None:
    while True:
        await _beat(settings, worker, rabbit)
        await asyncio.sleep(interval)


async def _beat(settings: GraderSettings, worker: Worker, rabbit: Rabbit, *, leaving: bool = False) -> None:
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
