"""The ingest service: accept submissions over HTTP, store them, publish their jobs, and serve reads."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import structlog

from broadway.domain.course import CourseConfigError, read_courses
from broadway.domain.job import JobClass
from broadway.ingest.app import build_app
from broadway.ingest.commands.admission import Admission
from broadway.ingest.commands.audit import Auditor
from broadway.ingest.commands.backlogs import Backlogs
from broadway.ingest.commands.graders import GraderJoins, GraderOrders
from broadway.ingest.commands.hooks import HookSettings
from broadway.ingest.commands.join_tokens import JoinTokens
from broadway.ingest.commands.later import BackgroundTasks
from broadway.ingest.commands.limits import Limits
from broadway.ingest.commands.pools import Pools
from broadway.ingest.commands.receive import ANSWER_WITHIN, Receiver
from broadway.ingest.commands.register import Registration
from broadway.ingest.commands.rerun import Reruns
from broadway.ingest.commands.start import RunStarts
from broadway.ingest.commands.submit import Submissions
from broadway.ingest.commands.tokens import TokenSettings
from broadway.ingest.gateway.broker_accounts import BrokerAccounts
from broadway.ingest.gateway.changes import JobChanges
from broadway.ingest.gateway.gateway import Gateway
from broadway.ingest.gateway.handouts import Handouts
from broadway.ingest.gateway.results import Results
from broadway.ingest.gateway.sessions import Sessions
from broadway.ingest.http.admission import ClientLimits
from broadway.ingest.http.auth import Authenticator
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.outages import StoreOutages
from broadway.ingest.http.server import Config, Server, possible_connections
from broadway.ingest.http.websocket import MAX_FRAME
from broadway.ingest.live.feed import Feed
from broadway.ingest.reads.access import AuditReads, TokenReads
from broadway.ingest.reads.assignments import AssignmentReads
from broadway.ingest.reads.graders import GraderReads
from broadway.ingest.reads.hooks import HookReads
from broadway.ingest.reads.jobs import JobReads
from broadway.ingest.reads.reads import Reads
from broadway.ingest.reads.reports import ReportReads
from broadway.ingest.reads.runs import RunReads
from broadway.lifecycle.announce import Announcements, Announcer, Later
from broadway.lifecycle.orders import Orders
from broadway.lifecycle.recording import Recorder
from broadway.lifecycle.vouching import Vouching
from broadway.management import Management
from broadway.messages.ticket import DEPLOYMENT, TICKETS, Tickets, deployment_id
from broadway.messages.topology import Queue, course_queue, feed_queue, ready_queue
from broadway.mongo.batched import Batched
from broadway.mongo.store import Store
from broadway.ports import PublishError, StoreError
from broadway.rabbit.client import Rabbit
from broadway.runtime.addresses import http_address
from broadway.runtime.health import Health
from broadway.service import SettingError, StartError, Stop, background, instance, join
from broadway.settings.programs import IngestSettings

log = structlog.get_logger(__name__)

FEED_PREFETCH = 400
HEALTH_INTERVAL = 0.5  # seconds between pings of the store and the broker
STORE_PATIENCE = 1.5  # seconds for an answer to a ping; a request waits at most the sum of both for a silent store
KEEP_ALIVE = 60  # seconds; closing an idle connection earlier could break a request that is just being sent
BROKER_PATIENCE = 2.0  # seconds that a start waits for the broker, so that the first streams miss nothing
LISTEN_AGAIN = 2.0  # seconds
LINGER = 0.2  # seconds that published runs may stay in the outbox; no caller waits for their removal
GRACEFUL_SHUTDOWN = 5  # seconds that open requests may take at a shutdown


async def serve(
    settings: IngestSettings,
    *,
    store: Store,
    rabbit: Rabbit,
    stop: Stop,
    answer_within: float = ANSWER_WITHIN,
) -> None:
    """Serve HTTP until ``stop`` is set. While the broker is unavailable, messages wait in the store.

    The answer to a webhook's delivery waits ``answer_within`` seconds for its decision.

    Raises:
        StartError: The course config is wrong, the broker cannot be trusted, or the address cannot be bound.
    """
    await load_courses(settings, store=store)
    tickets = Tickets(await store.secrets.get(TICKETS))
    deployment = deployment_id(await store.secrets.get(DEPLOYMENT))
    configured = [name for name in (settings.original_graders or "").split(",") if name]
    await _pools(store).begin(configured, gateway_pool=settings.gateway_pool)
    background_tasks = BackgroundTasks()
    health = Health(
        {"store": store.ping, "broker": rabbit.ping},
        vital=frozenset({"store"}),  # without the broker, submissions are still accepted
        file=settings.health_file,
        interval=HEALTH_INTERVAL,
        patience={"store": STORE_PATIENCE},
    )
    shared = store.shared(linger=LINGER)
    name = f"{instance('ingest')}:{settings.bind_port}"
    async with _accounts(settings, store) as accounts:
        opened = _Opened(store, shared, rabbit, health, accounts, tickets, deployment)
        deps = _deps(settings, opened, later=background_tasks.add, answer_within=answer_within)
        sessions = deps.gateway.sessions
        async with (
            background(sessions.run(), deps.feed.run(), health.run(), shared.run(), deps.receiver.run()),
            background_tasks,
            deps.outages,
            _listening(deps.feed, name, opened),
            _http(settings, deps),
        ):
            stop.heed()
            await stop.wait()
            deps.is_stopping = True
            deps.feed.close()


@dataclass(frozen=True, slots=True)
class _Opened:
    store: Store
    shared: Batched
    rabbit: Rabbit
    health: Health
    accounts: BrokerAccounts | None
    tickets: Tickets
    deployment: str


def _deps(settings: IngestSettings, opened: _Opened, *, later: Later, answer_within: float) -> Deps:
    store, shared, rabbit = opened.store, opened.shared, opened.rabbit
    limits = Limits.of(settings)
    announcements = Announcements(Announcer(runs=shared.runs, publisher=rabbit), rabbit, later)
    orders = Orders(shared.runs, store.jobs, announcements)
    submissions = Submissions(shared.assignments, shared.runs, shared.jobs, limits, Backlogs(store.jobs))
    gateway = _gateway(settings, store=store, rabbit=rabbit, later=later)
    admission = Admission(store.graders, store.access_tokens, store.pools, _cluster_token(settings))
    return Deps(
        settings=settings,
        limits=limits,
        store=store,
        rabbit=rabbit,
        announcements=announcements,
        gateway=gateway,
        feed=Feed(store.jobs),
        health=opened.health,
        outages=StoreOutages(opened.health),
        authenticator=_authenticator(settings, opened, admission),
        auditor=Auditor(shared.audit, later),
        tokens=TokenSettings(store.access_tokens, store.rosters),
        reads=_reads(store),
        registration=Registration(store.assignments, limits),
        hook_settings=HookSettings(store.hooks, store.rosters, limits),
        starts=RunStarts(submissions, store.runs, store.assignments, store.rosters, announcements),
        orders=orders,
        reruns=Reruns(orders, store.assignments, limits, store.courses),
        receiver=_receiver(opened, submissions, orders, announcements, answer_within=answer_within),
        admission=admission,
        join_tokens=JoinTokens(store.access_tokens),
        pools=_pools(store),
        joins=GraderJoins(
            admission, store.graders, rabbit, opened.accounts, settings, opened.tickets, opened.deployment
        ),
        grader_orders=GraderOrders(store.graders, announcements, opened.accounts, gateway.sessions),
    )


def _authenticator(settings: IngestSettings, opened: _Opened, admission: Admission) -> Authenticator:
    store = opened.store
    return Authenticator(
        store.courses,
        opened.shared.courses,
        store.access_tokens,
        store.graders,
        admission,
        operator_token=settings.operator_token.get_secret_value() if settings.operator_token else None,
    )


def _receiver(
    opened: _Opened, submissions: Submissions, orders: Orders, announcements: Announcements, *, answer_within: float
) -> Receiver:
    store, shared = opened.store, opened.shared
    return Receiver(
        courses=shared.courses,
        hooks=store.hooks,
        rosters=store.rosters,
        deliveries=shared.deliveries,
        quotas=store.quotas,
        runs=shared.runs,
        jobs=store.jobs,
        submissions=submissions,
        orders=orders,
        announcements=announcements,
        answer_within=answer_within,
    )


def _reads(store: Store) -> Reads:
    return Reads(
        assignments=AssignmentReads(store.assignments, store.rosters, store.hooks),
        runs=RunReads(store.runs, store.jobs, store.assignments),
        jobs=JobReads(store.jobs, store.runs, store.logs),
        reports=ReportReads(store.reports),
        hooks=HookReads(store.hooks, store.deliveries),
        graders=GraderReads(store.graders),
        tokens=TokenReads(store.access_tokens),
        audit=AuditReads(store.audit),
        ids=store.ids,
    )


def _pools(store: Store) -> Pools:
    return Pools(store.pools, store.graders, store.courses)


@contextlib.asynccontextmanager
async def _accounts(settings: IngestSettings, store: Store) -> AsyncIterator[BrokerAccounts | None]:
    """Open the manager of graders' broker users and run its sweeps; None without a management API."""
    if settings.management_url is None:
        if settings.offer_amqp:
            log.warning("graders share one login at the broker; with --management-url each gets its own")
        yield None
        return
    broker = settings.grader_amqp_url or settings.amqp_url
    async with Management.connect(settings.management_url.get_secret_value(), tls=settings.tls) as management:
        accounts = BrokerAccounts(management, store.graders, address=broker.get_secret_value())
        async with background(accounts.run()):
            yield accounts


def _gateway(settings: IngestSettings, *, store: Store, rabbit: Rabbit, later: Later) -> Gateway:
    recorder = Recorder(
        jobs=store.jobs,
        logs=store.logs,
        graders=store.graders,
        publisher=rabbit,
        policy=settings.retry_policy,
        lease=settings.lease,
        reports=store.reports,
    )
    graders, jobs, policy = store.graders, store.jobs, settings.retry_policy
    changes = JobChanges(graders, jobs, store.runs, rabbit, policy, later)
    results = Results(graders, jobs, recorder, changes)
    return Gateway(
        sessions=Sessions(
            name=f"{os.uname().nodename}:{settings.bind_port}",
            graders=graders,
            jobs=jobs,
            changes=changes,
            interval=settings.heartbeat_interval,
            lease=settings.lease,
        ),
        handouts=Handouts(graders, jobs, rabbit, recorder, results, changes, policy),
        results=results,
    )


@contextlib.asynccontextmanager
async def _listening(feed: Feed, name: str, opened: _Opened) -> AsyncIterator[None]:
    """Deliver events to the feed and declare the courses' queues, as soon as the broker is available.

    Wait for that for ``BROKER_PATIENCE``, then go on without.
    """
    is_consuming = asyncio.Event()
    async with background(_listen(feed, name, is_consuming, opened)):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BROKER_PATIENCE):
                await is_consuming.wait()
        yield


async def _listen(feed: Feed, name: str, is_consuming: asyncio.Event, opened: _Opened) -> None:
    queue, tag, rabbit = feed_queue(name), f"{name}.feed", opened.rabbit
    vouched = Vouching(opened.tickets, opened.store.graders)
    while True:
        await join(rabbit)
        try:
            await declare_queues(opened.store, rabbit)
            async with rabbit.consume(queue, feed.hear, tag=tag, prefetch=FEED_PREFETCH, vouched=vouched):
                is_consuming.set()
                await asyncio.Event().wait()
        except (StoreError, PublishError) as error:
            log.warning("facts are not heard yet", reason=str(error))
            await asyncio.sleep(LISTEN_AGAIN)


async def load_courses(settings: IngestSettings, *, store: Store) -> None:
    """Replace the stored courses if a course config is given, and hash plain tokens.

    Raises:
        StartError: The course config is wrong.
    """
    if settings.course_config:
        try:
            courses = read_courses(settings.course_config)
        except CourseConfigError as error:
            raise SettingError(f"--course-config: {error}") from error
        await store.courses.replace_all(courses)
        log.info("courses loaded", courses=[course.id for course in courses])
    if upgraded := await store.courses.hash_tokens():
        log.info("plain tokens hashed", courses=upgraded)


async def declare_queues(store: Store, rabbit: Rabbit) -> None:
    """Declare the queues of all courses.

    Raises:
        StoreError: The store is unavailable.
        PublishError: The broker is unavailable.
    """
    registered = await store.courses.all()
    queues: list[Queue] = [course_queue(course.id, job_class) for course in registered for job_class in JobClass]
    queues += [ready_queue(pool) for pool in sorted({course.pool for course in registered} | {"default"})]
    await rabbit.declare(*queues)


def _cluster_token(settings: IngestSettings) -> str:
    if settings.token:
        return settings.token.get_secret_value()
    token = str(uuid4())
    # The operator needs the token, and the original logs it, too.
    log.info("token not given, using %s", token)
    return token


@contextlib.asynccontextmanager
async def _http(settings: IngestSettings, deps: Deps) -> AsyncIterator[None]:
    most = possible_connections(settings.http.connections)
    if most < settings.http.connections:
        log.warning("fewer connections than set: raise the limit on open files", connections=most)
    admission = ClientLimits.of(settings.http, settings.trusted_proxies, connections=most)
    config = Config(
        build_app(deps, admission),
        admission=admission,
        host=settings.bind_addr,
        port=settings.bind_port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws_max_size=MAX_FRAME,
        ws_ping_interval=None,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    server = Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(_serve(server, settings))
        await server.listening.wait()
        scheme = "https" if settings.tls_cert else "http"
        log.info("ready to serve", address=http_address(settings.bind_addr, settings.bind_port, scheme=scheme))
        try:
            yield
        finally:
            server.should_exit = True


async def _serve(server: Server, settings: IngestSettings) -> None:
    try:
        await server.serve()
    except SystemExit as error:  # uvicorn's way to say that it cannot bind
        address = http_address(settings.bind_addr, settings.bind_port)
        raise StartError(f"cannot listen on {address}; are --bind-addr and --bind-port right?") from error
