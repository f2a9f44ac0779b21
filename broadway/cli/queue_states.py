"""The queues of a deployment: messages and consumers by the broker, jobs by the store."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from yarl import URL

from broadway.domain.job import JobClass, JobState
from broadway.management import Management, virtual_host
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
        QueueRow(
            queue["name"],
            int(queue.get("messages_ready", 0)),
            int(queue.get("messages_unacknowledged", 0)),
            int(queue.get("consumers", 0)),
            *jobs.get(queue["name"], (None, None)),
        )
        for queue in sorted(found, key=lambda queue: str(queue["name"]))
    ]


async def _jobs(settings: ServiceSettings) -> Mapping[str, tuple[int, int]]:
    """Return the numbers of waiting and running jobs by the queue of their course and class."""
    mongo = settings.mongodb
    connecting = Store.connect(
        mongo.dsn, primary=mongo.primary, logs=mongo.logs, server_timeout=mongo.timeout, service="queues"
    )
    counts: dict[str, tuple[int, int]] = {}
    async with connecting as store:
        registered = [course.id for course in await store.courses.all()]
        for course in {*registered, *filter(None, await store.jobs.courses_with_backlog())}:
            for job_class in JobClass:
                of_state = {
                    state: await store.jobs.count_open(course, job_class, state)
                    for state in (JobState.QUEUED, JobState.DISPATCHED, JobState.RUNNING)
                }
                running = of_state.pop(JobState.RUNNING)
                counts[course_queue(course, job_class).name] = sum(of_state.values()), running
    return counts
