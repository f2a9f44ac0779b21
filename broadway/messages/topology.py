"""Every exchange, queue and binding of the broker, as frozen values. No other module contains a queue's name."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from broadway.domain.job import JobClass

ExchangeKind = Literal["direct", "topic", "fanout"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange. ``alternate`` gets messages that no binding matches; ``transient`` messages may get lost."""

    name: str
    kind: ExchangeKind
    alternate: str | None = None
    transient: bool = False

    @property
    def arguments(self) -> dict[str, Any]:
        return {"alternate-exchange": self.alternate} if self.alternate else {}


@dataclass(frozen=True, slots=True)
class Binding:
    exchange: str
    key: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue with its bindings. Durable ones are quorum queues; exclusive ones die with their connection.

    A ``brief`` one dies with its consumer.
    """

    name: str
    bindings: tuple[Binding, ...] = ()
    exclusive: bool = False
    brief: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def hears_graders(self) -> bool:
        """True if graders' events arrive in this queue."""
        return any(binding.exchange in (EVENTS.name, LOGS.name) for binding in self.bindings)

    @property
    def has_dead_letters(self) -> bool:
        """True if messages that no consumer can handle become dead letters."""
        return "x-dead-letter-exchange" in self.arguments


JOBS = Exchange("broadway.jobs", "direct")
UNROUTED = Exchange("broadway.unrouted", "fanout")
EVENTS = Exchange("broadway.events", "topic", alternate=UNROUTED.name)
LOGS = Exchange("broadway.logs", "topic", transient=True)
CONTROL = Exchange("broadway.control", "topic", transient=True)
DEAD_LETTERS = Exchange("broadway.dlx", "topic")

EXCHANGES = (JOBS, UNROUTED, EVENTS, LOGS, CONTROL, DEAD_LETTERS)

PING_KEY = "ping"

# A message that was returned this often kills its consumers. rabbit/subscription.py counts failures of handlers, and
# the store counts attempts of jobs, since the broker's count is unreliable: after a restart the broker delivers a
# message to each of its former consumers, one after another, and counts each delivery as a return.
POISON_AFTER = 200

_QUORUM = {"x-queue-type": "quorum"}
_DEAD_LETTERED = {
    "x-dead-letter-exchange": DEAD_LETTERS.name,
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",  # at-least-once dead-lettering needs it
}
_LIMITED = {**_QUORUM, **_DEAD_LETTERED, "x-delivery-limit": POISON_AFTER}
# The dispatcher holds a course's messages until their jobs have settled, so each restart of the dispatcher returns
# them. A pool may have hundreds of graders, so a restart of the broker returns a ready message hundreds of times.
# A limit makes no sense for these queues, but "no limit" has no value that all versions share: 4.x takes -1, which
# makes 3.x dead-letter at once, and without the argument 4.x has a limit of 20.
_UNLIMITED = {**_QUORUM, "x-delivery-limit": 1_000_000}
_UNLIMITED_DEAD_LETTERED = {**_UNLIMITED, **_DEAD_LETTERED}
_SINGLE = {"x-single-active-consumer": True}

RESULTS = Queue(
    "broadway.results",
    bindings=tuple(
        Binding(EVENTS.name, key) for key in ("job.started.#", "job.finished.#", "job.released.#", "grader.#")
    ),
    arguments=_LIMITED,
)
DISPATCHER = Queue(
    "broadway.dispatcher",
    bindings=tuple(
        Binding(EVENTS.name, key)
        for key in ("job.started.#", "job.released.#", "job.requeued.#", "job.settled.#", "grader.#")
    ),
    arguments={**_LIMITED, **_SINGLE},
)
DEAD = Queue("broadway.dead", bindings=(Binding(DEAD_LETTERS.name, "#"),), arguments=_UNLIMITED)
UNROUTED_FACTS = Queue(
    "broadway.unrouted",
    bindings=(Binding(UNROUTED.name, ""),),
    arguments={**_QUORUM, "x-max-length": 10_000, "x-overflow": "drop-head"},
)

SHARED_QUEUES = (RESULTS, DISPATCHER, DEAD, UNROUTED_FACTS)


@dataclass(frozen=True, slots=True)
class Policy:
    """Settings of queues that operators may change while the queues are in use.

    Of the policies that match a queue, the one with the highest priority applies. ``since`` is the first version of
    RabbitMQ that knows all its settings, as in ``(3, 12)``.
    """

    name: str
    pattern: str
    definition: Mapping[str, Any]
    priority: int
    since: tuple[int, int] = (3, 10)


_SPREAD = {"queue-leader-locator": "balanced"}  # spreads new queues over the nodes of a cluster
_WEEK = 7 * 24 * 3600 * 1000  # milliseconds

POLICIES = (
    Policy("broadway", r"^broadway\.", _SPREAD, priority=0),
    # The dispatcher holds a course's messages until their jobs have settled, and bulk jobs may wait for days.
    Policy(
        "broadway-backlogs", r"^broadway\.course\.", {**_SPREAD, "consumer-timeout": _WEEK}, priority=1, since=(3, 12)
    ),
)


def course_key(course: str, job_class: JobClass) -> str:
    return f"course.{course}.{job_class}"


def ready_key(pool: str) -> str:
    return f"ready.{pool}"


def course_queue(course: str, job_class: JobClass) -> Queue:
    """Return the backlog of a course and a class: its *ready* messages wait, its *unacked* ones are in flight."""
    return Queue(
        f"broadway.course.{course}.{job_class}",
        bindings=(Binding(JOBS.name, course_key(course, job_class)),),
        arguments={**_UNLIMITED_DEAD_LETTERED, **_SINGLE},
    )


def ready_queue(pool: str) -> Queue:
    """Return the queue that the graders of a pool consume."""
    return Queue(
        f"broadway.ready.{pool}", bindings=(Binding(JOBS.name, ready_key(pool)),), arguments=_UNLIMITED_DEAD_LETTERED
    )


def durable_queues(courses: Iterable[str], pools: Iterable[str]) -> list[Queue]:
    """Return all queues that these courses and pools need, independently of the running services."""
    backlogs = [course_queue(course, job_class) for course in courses for job_class in JobClass]
    return [*SHARED_QUEUES, *map(ready_queue, pools), *backlogs]


def control_queue(grader_id: str) -> Queue:
    """Return the queue of a grader's commands; it ends with the grader's connection."""
    return Queue(
        f"broadway.control.{grader_id}",
        bindings=(Binding(CONTROL.name, control_key(grader_id)), Binding(CONTROL.name, control_key("all"))),
        exclusive=True,
    )


def feed_queue(process: str) -> Queue:
    """Return the queue of events for an API process's feed, which exists while the process's streams are watched."""
    return Queue(
        f"broadway.feed.{process}",
        bindings=tuple(Binding(EVENTS.name, key) for key in ("job.started.#", "job.settled.#", "run.#")),
        exclusive=True,
        brief=True,
        arguments={"x-max-length": 100_000, "x-overflow": "drop-head"},
    )


def notifier_queue(process: str, courses: Iterable[str]) -> Queue:
    """Return the queue of facts that wake a notifier: those of courses that have endpoints for callbacks."""
    keys = [
        event_key(noun, fact, course)
        for course in sorted(courses)
        for noun, fact in (("job", "settled"), ("run", "finished"), ("run", "failed"))
    ]
    return Queue(
        f"broadway.notifier.{process}",
        bindings=tuple(Binding(EVENTS.name, key) for key in keys),
        exclusive=True,
        brief=True,
        arguments={"x-max-length": 1000, "x-overflow": "drop-head"},
    )


def log_queue(process: str, grader_id: str, job_id: str) -> Queue:
    """Return the queue of a job's live log for an API process, which exists while the process has readers of it."""
    return Queue(
        f"broadway.logs.{process}.{job_id}",
        bindings=(Binding(LOGS.name, log_key(grader_id, job_id)),),
        exclusive=True,
        brief=True,
        arguments={"x-max-length-bytes": 4 * 1024 * 1024, "x-overflow": "drop-head"},
    )


def control_key(grader_id: str) -> str:
    return f"grader.{grader_id}"


def log_key(grader_id: str, job_id: str) -> str:
    """Return the key of a job's live log; the grader's part keeps graders from writing into each other's logs."""
    return f"log.{grader_id}.{job_id}"


def event_key(noun: str, fact: str, course: str) -> str:
    return f"{noun}.{fact}.{course}"


@dataclass(frozen=True, slots=True)
class Grants:
    """The permissions of a broker user: regular expressions for the names of queues and exchanges.

    ``keys`` has, by topic exchange, an expression for the routing keys of published messages, and one for those of
    bindings.
    """

    configure: str
    write: str
    read: str
    keys: Mapping[str, tuple[str, str]]


GRADER_USER = "broadway-grader-"
NOTHING = "^$"


def grader_user(grader_id: str) -> str:
    """Return the name of a grader's broker user."""
    return GRADER_USER + grader_id


def grader_of(user: str) -> str | None:
    """Return the id of the grader whose broker user this is; None for a user of services."""
    return user.removeprefix(GRADER_USER) if user.startswith(GRADER_USER) else None


def is_service(user: str | None) -> bool:
    """Return whether a message with this sender, which the broker has checked, comes from a service."""
    return bool(user) and grader_of(str(user)) is None


def grader_grants(grader_id: str, pool: str) -> Grants:
    """Return the fewest permissions that a grader needs: consume jobs and its commands, and publish its events.

    It sends pings to ``LOGS``, which needs no queue for them, and the output of its own jobs.
    """
    control = control_queue(grader_id).name
    return Grants(
        configure=_only(control),
        write=_only(EVENTS.name, LOGS.name, control),
        read=_only(ready_queue(pool).name, CONTROL.name, control),
        keys={
            EVENTS.name: (
                rf"^(job\.(started|finished|released)\.[A-Za-z0-9_-]+|{re.escape(heartbeat_key(grader_id))})$",
                NOTHING,
            ),
            LOGS.name: (rf"^({PING_KEY}|{re.escape(log_key(grader_id, ''))}[A-Za-z0-9_-]+)$", NOTHING),
            CONTROL.name: (NOTHING, _only(control_key(grader_id), control_key("all"))),
        },
    )


def _only(*names: str) -> str:
    """Return an expression for exactly these names; without anchors it would also match longer names."""
    return f"^({'|'.join(map(re.escape, names))})$"


def heartbeat_key(grader_id: str) -> str:
    return f"grader.heartbeat.{grader_id}"


def dead_letter_key(queue: str) -> str:
    return f"dead.{queue}"
