"""The ingest service: takes submissions over HTTP, stores them, publishes their jobs, and serves the reads."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import structlog
import uvicorn

from broadway.course import CourseConfigError, read_courses
from broadway.ingest.app import Deps, build_app
from broadway.job import JobClass
from broadway.mongo import Store
from broadway.rabbit import Rabbit
from broadway.service import StartError
from broadway.settings import IngestSettings
from broadway.topology import Queue, course_queue, ready_queue

log = structlog.get_logger(__name__)

GRACEFUL_SHUTDOWN = 5  # seconds that open requests get


async def serve(settings: IngestSettings, *, store: Store, rabbit: Rabbit, stop: asyncio.Event) -> None:
    """Serve HTTP until told to stop.

    Raises:
        StartError: The course config is wrong, or the address cannot be bound.
    """
    await load_courses(settings, store=store, rabbit=rabbit)
    deps = Deps(settings, store, rabbit, cluster_token=_cluster_token(settings))
    async with _http(settings, deps):
        await stop.wait()
    await asyncio.gather(*deps.tasks, return_exceptions=True)


async def load_courses(settings: IngestSettings, *, store: Store, rabbit: Rabbit) -> None:
    """Replace the stored courses if a course config is given, and declare the queues of all of them."""
    if settings.course_config:
        try:
            courses = read_courses(settings.course_config)
        except CourseConfigError as error:
            raise StartError(str(error)) from error
        await store.courses.replace_all(courses)
        log.info("courses loaded", courses=[course.id for course in courses])
    registered = await store.courses.all()
    queues: list[Queue] = [course_queue(course.id, job_class) for course in registered for job_class in JobClass]
    queues += [ready_queue(pool) for pool in sorted({course.pool for course in registered} | {"default"})]
    await rabbit.declare(*queues)


def _cluster_token(settings: IngestSettings) -> str:
    if settings.token:
        return settings.token.get_secret_value()
    token = str(uuid4())
    # The operator has to learn it somewhere, and the log is where the original says it.
    log.info("token not given, using %s", token)
    return token


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handlers: the service has one for all its parts."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def _http(settings: IngestSettings, deps: Deps) -> AsyncIterator[None]:
    config = uvicorn.Config(
        build_app(deps),
        host=settings.bind_addr,
        port=settings.bind_port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN,
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(_serve(server, settings))
        await server.listening.wait()
        log.info("ready to serve", address=f"http://{settings.bind_addr}:{settings.bind_port}")
        try:
            yield
        finally:
            server.should_exit = True


async def _serve(server: uvicorn.Server, settings: IngestSettings) -> None:
    try:
        await server.serve()
    except SystemExit as error:  # uvicorn's way to say that it cannot bind
        raise StartError(f"cannot listen on {settings.bind_addr}:{settings.bind_port}") from error
