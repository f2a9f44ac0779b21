"""Compose a grader and choose its link: the broker, or the API over HTTP or a WebSocket."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import partial

import structlog

from broadway.domain.assignment import memory_bytes
from broadway.grader.grading.directories import Directories
from broadway.grader.links import broker, polling, websocket
from broadway.grader.links.files import ApiFiles
from broadway.grader.links.identity import own_secret
from broadway.grader.links.join import Membership, credential_of, deployment_at, http_client, join
from broadway.grader.links.protocol import HttpRunner
from broadway.grader.ports import Containers, Size
from broadway.grader.sandbox.mounts import may_mount
from broadway.grader.sandbox.process_identity import own_identity
from broadway.grader.sandbox.users import OF_HOST, Users
from broadway.grader.worker.availability import Availability
from broadway.grader.worker.file_cache import FileCache
from broadway.grader.worker.log_publisher import LogPublisher
from broadway.grader.worker.orphans import Orphans
from broadway.grader.worker.reports import Reports
from broadway.grader.worker.runner import Runner
from broadway.grader.worker.self_check import SelfCheck, check_disk
from broadway.grader.worker.spool import Spool
from broadway.grader.worker.submission_files import SubmissionFiles
from broadway.grader.worker.work_directory import WorkDirectory, held
from broadway.grader.worker.worker import Worker
from broadway.messages.events import GraderOrder, JobFinished
from broadway.messages.http import JobResult
from broadway.runtime.health import Check, Health
from broadway.service import Stop, background, connected, unless_stopped
from broadway.settings.grader import GraderSettings

log = structlog.get_logger(__name__)


async def run(settings: GraderSettings, *, containers: Containers, stop: Stop) -> None:
    """Grade until ``stop`` is set, over the link that ``--api-host`` selects and the API offers.

    Raises:
        StartError: The API refuses this grader, or another process has its id.
    """
    structlog.contextvars.bind_contextvars(grader=settings.grader_id)
    cluster = deployment_at(settings.amqp_url.get_secret_value() if settings.amqp_url else settings.api_host)
    with held(settings.work_dir.absolute(), cluster, settings.grader_id):  # before a join renews this id's login
        if settings.api_host.startswith("ws") and not settings.amqp_url:
            await _serve_sockets(settings, containers=containers, stop=stop)
            return
        membership = await unless_stopped(join(settings), stop)
        if membership is None:
            return
        if settings.amqp_url or await broker.is_reachable(membership.amqp_url, settings.tls):
            await serve(settings, membership, containers=containers, stop=stop)
        else:
            await _poll(settings, membership, containers=containers, stop=stop)


async def _serve_sockets(settings: GraderSettings, *, containers: Containers, stop: Stop) -> None:
    work = _work_directory(settings, Membership(heartbeat_interval=0, amqp_url=None))
    names = [settings.grader_id, *(f"{settings.grader_id}-{number}" for number in range(2, settings.slots + 1))]
    credentials = {name: own_secret(settings.work_dir, name) for name in names}
    async with (
        _checked_runner(settings, containers, work) as (runner, self_check, orphans),
        _files(settings, work, credentials) as files,
    ):
        with _socket_runners(names, work, runner, self_check, files) as runners:
            await websocket.serve(settings, runners=runners, orphans=orphans, stop=stop)


async def _poll(settings: GraderSettings, membership: Membership, *, containers: Containers, stop: Stop) -> None:
    work = _work_directory(settings, membership)
    name, credential = settings.grader_id, credential_of(settings, membership)
    async with (
        _checked_runner(settings, containers, work) as (runner, self_check, orphans),
        _files(settings, work, {name: credential}) as files,
    ):
        with contextlib.closing(Spool(work.spool("v1", name), JobResult)) as spool:
            http = HttpRunner(runner, spool, self_check, files[name])
            await polling.serve(settings, membership, runner=http, orphans=orphans, stop=stop)


async def serve(settings: GraderSettings, membership: Membership, *, containers: Containers, stop: Stop) -> None:
    """Grade over the broker until ``stop`` is set.

    Raises:
        StartError: An operator has revoked this grader, or another process has its id.
    """
    assert membership.amqp_url is not None  # noqa: S101 - the callers have checked it
    name, work = settings.grader_id, _work_directory(settings, membership)
    credentials = {name: credential_of(settings, membership)} if membership.has_api else {}
    with (
        runner_in(settings, containers, work) as (runner, orphans),
        contextlib.closing(Spool(work.spool("amqp", name), JobFinished)) as spool,
    ):
        async with (
            connected(membership.amqp_url, service=f"grader@{name}", tls=settings.tls) as rabbit,
            _files(settings, work, credentials) as files,
        ):
            health = _health(settings, containers, broker=rabbit.ping)
            self_check = SelfCheck(health, runner.try_out, limit=settings.pause_after, pause=settings.pause)
            order = membership.order or GraderOrder(grader_id=name, revision=0)
            availability = Availability(self_check, settings.slots, order)
            reports = Reports(
                rabbit,
                bytes.fromhex(membership.proof_key),
                batches=membership.batches,
                cancelled_logs=membership.cancelled_logs,
            )
            logs = LogPublisher(name, rabbit, reports)
            async with contextlib.aclosing(reports), contextlib.aclosing(logs):
                worker = Worker(runner, availability, reports, spool, files=files.get(name), logs=logs)
                async with contextlib.aclosing(worker):
                    parts = broker.Parts(worker, rabbit, health, orphans)
                    await broker.serve(settings, membership, parts, stop=stop)


def _work_directory(settings: GraderSettings, membership: Membership) -> WorkDirectory:
    """Return this grader's part of its work directory, by the deployment's id if the API gave one."""
    addresses = [address for address in (membership.amqp_url, settings.api_host) if address]
    names = [deployment_at(address) for address in addresses]
    deployment = membership.deployment or names[0]
    return WorkDirectory(settings.work_dir.absolute(), deployment, settings.grader_id, earlier=names)


@contextlib.asynccontextmanager
async def _files(
    settings: GraderSettings, work: WorkDirectory, credentials: Mapping[str, str]
) -> AsyncIterator[dict[str, SubmissionFiles]]:
    """Make the readers of submissions' files, by the name under which jobs are taken, with that name's credential."""
    cache = FileCache(work.files, int(memory_bytes(settings.file_cache)))
    async with contextlib.AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(http_client(settings, credential))
            for name, credential in credentials.items()
        }
        yield {name: SubmissionFiles(ApiFiles(client, name), cache) for name, client in clients.items()}


@contextlib.contextmanager
def _socket_runners(
    names: Sequence[str],
    work: WorkDirectory,
    runner: Runner,
    self_check: SelfCheck,
    files: Mapping[str, SubmissionFiles],
) -> Iterator[dict[str, HttpRunner]]:
    """Make a runner for each slot, by the name under which the slot registers."""
    with contextlib.ExitStack() as stack:
        spools = {
            name: stack.enter_context(contextlib.closing(Spool(work.spool("v1", name), JobResult))) for name in names
        }
        yield {name: HttpRunner(runner, spool, self_check, files[name]) for name, spool in spools.items()}


@contextlib.contextmanager
def runner_in(
    settings: GraderSettings, containers: Containers, work: WorkDirectory
) -> Iterator[tuple[Runner, Orphans]]:
    """Make a runner with directories of its own, and the orphans that it may remove once it has its id."""
    size = Size(int(memory_bytes(settings.job_size)), settings.job_inodes, settings.job_files)
    users = Users(settings.untrusted_uid, (OF_HOST, work.root / OF_HOST.name))
    with (
        work.process_directory() as directory,
        contextlib.closing(Directories(directory, size)) as directories,
        contextlib.closing(users),
    ):
        if not may_mount():
            log.warning("job directories have no size limit: this needs the right to mount", directory=str(directory))
        runner = Runner(
            settings.grader_id,
            own_identity(),
            containers,
            directories,
            users=users,
            verbose=settings.verbose,
            deployment=work.deployment,
        )
        yield runner, Orphans(containers, work.jobs, directory)


@contextlib.asynccontextmanager
async def _checked_runner(
    settings: GraderSettings, containers: Containers, work: WorkDirectory
) -> AsyncIterator[tuple[Runner, SelfCheck, Orphans]]:
    """Make a runner for HTTP or a WebSocket, with the self-check that decides whether it may take jobs."""
    health = _health(settings, containers)
    with runner_in(settings, containers, work) as (runner, orphans):
        self_check = SelfCheck(health, runner.try_out, limit=settings.pause_after, pause=settings.pause)
        await health.check()
        async with background(health.run()):
            yield runner, self_check, orphans


def _health(settings: GraderSettings, containers: Containers, **more: Check) -> Health:
    """Return the health checks of the parts that every grader needs, and of ``more`` parts."""
    disk = partial(check_disk, settings.work_dir, needed=memory_bytes(settings.min_disk))
    return Health({**more, "engine": containers.ping, "disk": disk}, file=settings.health_file)
