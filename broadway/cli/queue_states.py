"""The queues of a deployment: messages and consumers by the broker, jobs by the store."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import httpx2
from yarl import URL

from broadway.connections import store_of
from broadway.domain.job import JobClass, JobState
from broadway.management import Management, ManagementError, virtual_host
from broadway.messages.topology import course_queue
from broadway.mongo.store import Store
from broadway.settings.programs import ServiceSettings

_OURS = "broadway."


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One queue. ``waiting`` and ``running`` count the jobs of a course's queue; other queues have None."""

    queue: str
    ready: int
    unacked: int
    consumers: int
    waiting: int | None = None
    running: int | None = None

    @property
    def row(self) -> dict[str, Any]:
        return asdict(self)


async def queue_states(settings: ServiceSettings, management_url: str) -> list[QueueRow]:
    """Return the queues of a deployment, in the order of their names.

    Raises:
        ManagementError: The management API refuses the request, or is unreachable.
        StoreError: The store does not answer.
    """
    vhost = virtual_host(str(URL(settings.amqp_url.get_secret_value())))
    async with Management.connect(management_url, tls=settings.tls) as management:
        found = [queue for queue in await management.get("queues", vhost) if queue["name"].startswith(_OURS)]
    jobs = await _jobs(settings)
    return [
        _row(queue, jobs.get(queue["name"], (None, None)))
        for queue in sorted(found, key=lambda queue: str(queue["name"]))
    ]


@dataclass(frozen=True, slots=True)
class ConsumerRow:
    """A consumer of a queue: its tag, its user and host at the broker, and the messages that it may hold."""

    tag: str
    user: str
    host: str
    prefetch: int
    is_active: bool


@dataclass(frozen=True, slots=True)
class QueueDetail:
    """One queue with its state at the broker, its consumers, and the age of the oldest job that waits for it.

    ``oldest_job_seconds`` is that of a course's queue; None without a waiting job, and for other queues.
    """

    about: QueueRow
    state: str
    leader: str
    members: list[str]
    message_bytes: int
    policy: str
    oldest_job_seconds: float | None
    consumed_by: list[ConsumerRow]

    @property
    def row(self) -> dict[str, Any]:
        found = asdict(self)
        return {**found.pop("about"), **found}


async def queue_detail(settings: ServiceSettings, management_url: str, name: str) -> QueueDetail | None:
    """Return one queue, or None if the broker has no queue of that name.

    Raises:
        ManagementError: The management API refuses the request, or is unreachable.
        StoreError: The store does not answer.
    """
    vhost = virtual_host(str(URL(settings.amqp_url.get_secret_value())))
    async with Management.connect(management_url, tls=settings.tls) as management:
        try:
            queue = await management.get("queues", vhost, name)
        except ManagementError as error:
            if error.status == httpx2.codes.NOT_FOUND:
                return None
            raise
    waiting, running, oldest = await _jobs_of(settings, name)
    return QueueDetail(
        _row(queue, (waiting, running)),
        state=str(queue.get("state", "")),
        leader=str(queue.get("leader") or queue.get("node", "")),
        members=sorted(map(str, queue.get("members", []))),
        message_bytes=int(queue.get("message_bytes", 0)),
        policy=str(queue.get("policy") or ""),
        oldest_job_seconds=oldest,
        consumed_by=sorted((_consumer(each) for each in queue.get("consumer_details", [])), key=attrgetter("tag")),
    )


def _consumer(found: Mapping[str, Any]) -> ConsumerRow:
    channel = found.get("channel_details") or {}
    return ConsumerRow(
        tag=str(found.get("consumer_tag", "")),
        user=str(channel.get("user", "")),
        host=str(channel.get("peer_host", "")),
        prefetch=int(found.get("prefetch_count", 0)),
        is_active=bool(found.get("active", True)),
    )


def _row(queue: Mapping[str, Any], jobs: tuple[int | None, int | None]) -> QueueRow:
    return QueueRow(
        str(queue["name"]),
        int(queue.get("messages_ready", 0)),
        int(queue.get("messages_unacknowledged", 0)),
        int(queue.get("consumers", 0)),
        *jobs,
    )


async def _jobs_of(settings: ServiceSettings, name: str) -> tuple[int | None, int | None, float | None]:
    """Return the waiting and running jobs of a course's queue, and the age of the oldest that waits, in seconds."""
    async with store_of(settings.mongodb, service="queues") as store:
        for course in await _courses(store):
            for job_class in JobClass:
                if course_queue(course, job_class).name == name:
                    oldest = await store.jobs.queued(course, job_class, limit=1)
                    age = round((datetime.now(UTC) - oldest[0].queued_at).total_seconds(), 1) if oldest else None
                    return *await _counts(store, course, job_class), age
    return None, None, None


async def _jobs(settings: ServiceSettings) -> Mapping[str, tuple[int, int]]:
    """Return the numbers of waiting and running jobs by the queue of their course and class."""
    async with store_of(settings.mongodb, service="queues") as store:
        return {
            course_queue(course, job_class).name: await _counts(store, course, job_class)
            for course in await _courses(store)
            for job_class in JobClass
        }


async def _courses(store: Store) -> set[str]:
    registered = [course.id for course in await store.courses.all()]
    return {*registered, *filter(None, await store.jobs.courses_with_backlog())}


async def _counts(store: Store, course: str, job_class: JobClass) -> tuple[int, int]:
    of_state = {
        state: await store.jobs.count_open(course, job_class, state)
        for state in (JobState.QUEUED, JobState.DISPATCHED, JobState.RUNNING)
    }
    running = of_state.pop(JobState.RUNNING)
    return sum(of_state.values()), running
