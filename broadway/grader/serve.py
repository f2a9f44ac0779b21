"""Compose a grader and choose its link: the broker, or the API over HTTP or a WebSocket."""

import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import structlog

from broadway.domain.assignment import memory_bytes
from broadway.grader.links import broker, polling, websocket
from broadway.grader.links.join import Membership, join
from broadway.grader.links.protocol import HttpRunner
from broadway.grader.ports import Containers, Size
from broadway.grader.sandbox.mounts import may_mount
from broadway.grader.sandbox.process_identity import own_identity
from broadway.grader.worker.availability import Availability
from broadway.grader.worker.orphans import reap, reap_forever
from broadway.grader.worker.runner import Runner
from broadway.grader.worker.self_check import SelfCheck, check_disk
from broadway.grader.worker.spool import Spool
from broadway.grader.worker.worker import Worker
from broadway.messages.events import GraderOrder, JobFinished
from broadway.messages.http import JobResult
from broadway.runtime.health import Check, Health
from broadway.service import Stop, background, connected, unless_stopped
from broadway.settings.programs import GraderSettings

log = structlog.get_logger(__name__)


async def run(settings: GraderSettings, *, containers: Containers, stop: Stop) -> None:
    """Grade until ``stop`` is set, over the link that ``--api-host`` selects and the API offers.

    Raises:
        StartError: The API refuses this grader.
    """
    structlog.contextvars.bind_contextvars(grader=settings.grader_id)
    if settings.api_host.startswith("ws") and not settings.amqp_url:
        async with _checked_runner(settings, containers) as (runner, self_check):
            await websocket.serve(
                settings, runner=runner, spool=_spool_directory(settings, "v1"), self_check=self_check, stop=stop
            )
        return
    membership = await unless_stopped(join(settings), stop)
    if membership is None:
        return
    if settings.amqp_url or await broker.is_reachable(membership.amqp_url, settings.tls):
        await serve(settings, membership, containers=containers, stop=stop)
        return
    async with _checked_runner(settings, containers) as (runner, self_check):
        spool = Spool(_spool_directory(settings, "v1") / settings.grader_id, JobResult)
        await polling.serve(settings, membership, runner=HttpRunner(runner, spool, self_check), stop=stop)


async def serve(settings: GraderSettings, membership: Membership, *, containers: Containers, stop: Stop) -> None:
    """Grade over the broker until ``stop`` is set.

    Raises:
        StartError: An operator has revoked this grader.
    """
    assert membership.amqp_url is not None  # noqa: S101 - the callers have checked it
    name = settings.grader_id
    async with (
        connected(membership.amqp_url, service=f"grader@{name}", tls=settings.tls) as rabbit,
        _clean_runner(settings, containers) as runner,
    ):
        health = _health(settings, containers, broker=rabbit.ping)
        self_check = SelfCheck(health, limit=settings.pause_after, pause=settings.pause)
        order = membership.order or GraderOrder(grader_id=name, revision=0)
        availability = Availability(self_check, settings.slots, order)
        spool = Spool(_spool_directory(settings, name), JobFinished)
        worker = Worker(runner, availability, publisher=rabbit, spool=spool)
        await broker.serve(settings, membership, worker=worker, rabbit=rabbit, health=health, stop=stop)


@contextlib.asynccontextmanager
async def _clean_runner(settings: GraderSettings, containers: Containers) -> AsyncIterator[Runner]:
    """Make a runner; remove the containers and directories of dead graders on this host, now and at intervals."""
    jobs = settings.work_dir.absolute() / "jobs"
    await reap(containers, settings.grader_id, jobs)
    size = Size(int(memory_bytes(settings.job_size)), settings.job_inodes)
    runner = Runner(settings.grader_id, own_identity(), containers, jobs, size=size, verbose=settings.verbose)
    if not may_mount():
        log.warning("job directories have no size limit: this needs the right to mount", directory=str(jobs))
    try:
        async with background(reap_forever(containers, settings.grader_id, jobs)):
            yield runner
    finally:
        with contextlib.suppress(OSError):  # no job has run, or a job's directory could not be removed
            (jobs / runner.identity).rmdir()


@contextlib.asynccontextmanager
async def _checked_runner(settings: GraderSettings, containers: Containers) -> AsyncIterator[tuple[Runner, SelfCheck]]:
    """Make a runner for HTTP or a WebSocket, with the self-check that decides whether it may take jobs."""
    health = _health(settings, containers)
    self_check = SelfCheck(health, limit=settings.pause_after, pause=settings.pause)
    async with _clean_runner(settings, containers) as runner:
        await health.check()
        async with background(health.run()):
            yield runner, self_check


def _health(settings: GraderSettings, containers: Containers, **more: Check) -> Health:
    """Return the health checks of the parts that every grader needs, and of ``more`` parts."""
    disk = partial(check_disk, settings.work_dir, needed=memory_bytes(settings.min_disk))
    return Health({**more, "engine": containers.ping, "disk": disk}, file=settings.health_file)


def _spool_directory(settings: GraderSettings, name: str) -> Path:
    return settings.work_dir.absolute() / "spool" / name
