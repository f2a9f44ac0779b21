"""The ingest service: accept submissions over HTTP, store them, publish their jobs, and serve reads."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

import structlog

from broadway.domain.course import CourseConfigError, read_courses
from broadway.domain.job import JobClass
from broadway.ingest.app import build_app
from broadway.ingest.commands.later import BackgroundTasks
from broadway.ingest.commands.leftovers import Leftovers
from broadway.ingest.commands.receive import ANSWER_WITHIN
from broadway.ingest.commands.sweep import AnyOf, Sweeper
from broadway.ingest.composition import Opened, compose, pools_of
from broadway.ingest.gateway.broker_accounts import BrokerAccounts
from broadway.ingest.http.admission import ClientLimits
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.server import Config, Server, possible_connections
from broadway.ingest.http.websocket import MAX_FRAME
from broadway.ingest.live.feed import Feed
from broadway.ingest.retention_composition import deletion_steps, retention_steps
from broadway.ingest.unpacking.unpack import remove_leftovers
from broadway.lifecycle.vouching import Vouching
from broadway.management import Management
from broadway.messages.ticket import DEPLOYMENT, TICKETS, Tickets, deployment_id
from broadway.messages.topology import Queue, course_queue, feed_queue, ready_queue
from broadway.mongo.store import Store
from broadway.ports import PublishError, StoreError
from broadway.rabbit.client import Rabbit
from broadway.runtime.addresses import http_address
from broadway.runtime.garbage import collect_rarely
from broadway.runtime.health import Health
from broadway.service import SettingError, StartError, Stop, background, instance, join
from broadway.settings.programs import IngestSettings

log = structlog.get_logger(__name__)

FEED_PREFETCH = 400
HEALTH_INTERVAL = 0.5  # seconds between pings of the store and the broker
STORE_PATIENCE = 1.5  # seconds for an answer to a ping; a request waits at most the sum of both for a silent store
KEEP_ALIVE = 60  # seconds; closing an idle connection earlier could break a request that is just being sent
BROKER_PATIENCE = 2.0  # seconds that a start waits for the broker, so that the first submissions find their queues
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

    The answer to a webhook's delivery waits for its decision, until ``answer_within`` seconds after its arrival.

    Raises:
        StartError: The course config is wrong, the broker cannot be trusted, or the address cannot be bound.
    """
    collect_rarely()
    await load_courses(settings, store=store)
    tickets = Tickets(await store.secrets.get(TICKETS))
    deployment = deployment_id(await store.secrets.get(DEPLOYMENT))
    configured = [name for name in (settings.original_graders or "").split(",") if name]
    await pools_of(store).begin(configured, gateway_pool=settings.gateway_pool)
    await asyncio.to_thread(remove_leftovers, settings.http.spool_dir)
    background_tasks = BackgroundTasks()
    health = _health(settings, store, rabbit)
    shared = store.shared(linger=LINGER)
    name = f"{instance('ingest')}:{settings.bind_port}"
    async with _accounts(settings, store) as accounts:
        opened = Opened(name, store, shared, rabbit, health, accounts, tickets, deployment)
        deps = compose(settings, opened, later=background_tasks.add, answer_within=answer_within)
        sessions, undecided = deps.gateway.sessions, deps.receiver.undecided
        async with (
            background(sessions.run(), deps.feed.run(), deps.live_logs.run(), health.run(), shared.run()),
            background(*_tidying(settings, store, name), deletion_steps(store, deps.orders, name).run()),
            background_tasks,
            background(
                deps.uploads.grading.run(), undecided.run(), undecided.look_around(), deps.grades.regrade_steps.run()
            ),
            deps.outages,
            _listening(deps.feed, name, opened),
            _http(settings, deps),
        ):
            stop.heed()
            await stop.wait()
            deps.is_stopping = True
            deps.feed.close()
            deps.live_logs.close()
            deps.run_changes.close()


def _tidying(settings: IngestSettings, store: Store, name: str) -> Sequence[Coroutine[Any, Any, None]]:
    """Return the loops that remove what is old or left over."""
    sweeper = Sweeper(store.blobs, AnyOf((store.submissions, store.artifacts)), store.artifacts)
    steps = retention_steps(settings.retention, store, name)
    return sweeper.run(), Leftovers(store.runs).run(), steps.run()


def _health(settings: IngestSettings, store: Store, rabbit: Rabbit) -> Health:
    return Health(
        {"store": store.ping, "broker": rabbit.ping},
        vital=frozenset({"store"}),  # without the broker, submissions are still accepted
        file=settings.health_file,
        interval=HEALTH_INTERVAL,
        patience={"store": STORE_PATIENCE},
        answered_at={"store": store.answered_at},
    )


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


@contextlib.asynccontextmanager
async def _listening(feed: Feed, name: str, opened: Opened) -> AsyncIterator[None]:
    """Declare the courses' queues as soon as the broker is available; deliver events to the feed while it is watched.

    Wait for that for ``BROKER_PATIENCE``, then go on without.
    """
    are_declared = asyncio.Event()
    async with background(_listen(feed, name, are_declared, opened)):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BROKER_PATIENCE):
                await are_declared.wait()
        yield


async def _listen(feed: Feed, name: str, are_declared: asyncio.Event, opened: Opened) -> None:
    queue, tag, rabbit = feed_queue(name), f"{name}.feed", opened.rabbit
    vouched = Vouching(opened.tickets, opened.store.graders)
    while True:
        await join(rabbit)
        try:
            if not are_declared.is_set():
                await declare_queues(opened.store, rabbit)
                are_declared.set()
            await feed.until_watched()
            async with rabbit.consume(queue, feed.hear, tag=tag, prefetch=FEED_PREFETCH, vouched=vouched):
                await feed.follow()
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
