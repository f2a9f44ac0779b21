"""Every exchange, queue and binding of the broker, as frozen values. Nothing else spells a queue's name."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from broadway.domain.job import JobClass

ExchangeKind = Literal["direct", "topic", "fanout"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange. ``alternate`` takes what no queue is bound for; ``transient`` messages may find nobody listening."""

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
    """A queue with its bindings. Durable ones are quorum queues; exclusive ones die with their connection."""

    name: str
    bindings: tuple[Binding, ...] = ()
    exclusive: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def hears_graders(self) -> bool:
        """Whether what graders say of themselves and of jobs comes in here."""
        return any(binding.exchange == EVENTS.name for binding in self.bindings)

    @property
    def has_dead_letters(self) -> bool:
        """Whether what nobody can handle is kept elsewhere."""
        return "x-dead-letter-exchange" in self.arguments


JOBS = Exchange("broadway.jobs", "direct")
UNROUTED = Exchange("broadway.unrouted", "fanout")
EVENTS = Exchange("broadway.events", "topic", alternate=UNROUTED.name)
LOGS = Exchange("broadway.logs", "topic", transient=True)
CONTROL = Exchange("broadway.control", "topic", transient=True)
DEAD_LETTERS = Exchange("broadway.dlx", "topic")

EXCHANGES = (JOBS, UNROUTED, EVENTS, LOGS, CONTROL, DEAD_LETTERS)

PING_KEY = "ping"

# A message that comes back this often has broken its consumers; attempts of jobs are counted elsewhere. What a handler
# fails at is counted where it fails (rabbit/subscription.py), since the broker's count says little: when it restarts,
# it hands a message to every consumer that it had before, one after another, and counts each as a return.
POISON_AFTER = 200

_QUORUM = {"x-queue-type": "quorum"}
_DEAD_LETTERED = {
    "x-dead-letter-exchange": DEAD_LETTERS.name,
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",  # at-least-once dead-lettering needs it
}
_LIMITED = {**_QUORUM, **_DEAD_LETTERED, "x-delivery-limit": POISON_AFTER}
# The dispatcher holds a course's messages until their jobs have settled, so each of its restarts returns them; a pool
# may have hundreds of graders, so each of the broker's returns what is ready hundreds of times. There a count says
# nothing. "No limit" has no spelling that all versions share: 4.x takes -1, where 3.x dead-letters at once, and
# without the argument 4.x has a limit of 20.
_ENDLESS = {**_QUORUM, "x-delivery-limit": 1_000_000}
_PATIENT = {**_ENDLESS, **_DEAD_LETTERED}
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
DEAD = Queue("broadway.dead", bindings=(Binding(DEAD_LETTERS.name, "#"),), arguments=_ENDLESS)
UNROUTED_FACTS = Queue(
    "broadway.unrouted",
    bindings=(Binding(UNROUTED.name, ""),),
    arguments={**_QUORUM, "x-max-length": 10_000, "x-overflow": "drop-head"},
)

SHARED_QUEUES = (RESULTS, DISPATCHER, DEAD, UNROUTED_FACTS)


@dataclass(frozen=True, slots=True)
class Policy:
    """What operators may change about queues while they are in use. Of those that fit, the highest priority counts.

    ``since`` is the first version of RabbitMQ that knows what is in it, as in ``(3, 12)``.
    """

    name: str
    pattern: str
    definition: Mapping[str, Any]
    priority: int
    since: tuple[int, int] = (3, 10)


_SPREAD = {"queue-leader-locator": "balanced"}  # over the nodes of a cluster, as queues are made
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
    """A course's backlog of one class: *ready* is what waits, *unacked* what is in flight."""
    return Queue(
        f"broadway.course.{course}.{job_class}",
        bindings=(Binding(JOBS.name, course_key(course, job_class)),),
        arguments={**_PATIENT, **_SINGLE},
    )


def ready_queue(pool: str) -> Queue:
    """What the graders of a pool consume."""
    return Queue(f"broadway.ready.{pool}", bindings=(Binding(JOBS.name, ready_key(pool)),), arguments=_PATIENT)


def durable_queues(courses: Iterable[str], pools: Iterable[str]) -> list[Queue]:
    """All queues that there should be for these courses and these pools, in whatever state services are."""
    backlogs = [course_queue(course, job_class) for course in courses for job_class in JobClass]
    return [*SHARED_QUEUES, *map(ready_queue, pools), *backlogs]


def control_queue(grader_id: str) -> Queue:
    """One grader's commands; it lives as long as the grader's connection."""
    return Queue(
        f"broadway.control.{grader_id}",
        bindings=(Binding(CONTROL.name, control_key(grader_id)), Binding(CONTROL.name, control_key("all"))),
        exclusive=True,
    )


def feed_queue(process: str) -> Queue:
    """What happens to jobs, for whoever watches them through one API process; it lives as long as the connection."""
    return Queue(
        f"broadway.feed.{process}",
        bindings=tuple(Binding(EVENTS.name, key) for key in ("job.started.#", "job.settled.#", "run.#")),
        exclusive=True,
        arguments={"x-max-length": 100_000, "x-overflow": "drop-head"},
    )


def control_key(grader_id: str) -> str:
    return f"grader.{grader_id}"


def event_key(noun: str, fact: str, course: str) -> str:
    return f"{noun}.{fact}.{course}"


@dataclass(frozen=True, slots=True)
class Grants:
    """What a user of the broker may do: regular expressions over the names of queues and exchanges.

    ``keys`` limits, by topic exchange, the routing keys that may be published and those that queues may be bound with.
    """

    configure: str
    write: str
    read: str
    keys: Mapping[str, tuple[str, str]]


GRADER_USER = "broadway-grader-"
NOTHING = "^$"


def grader_user(grader_id: str) -> str:
    """The broker's user of one grader."""
    return GRADER_USER + grader_id


def grader_of(user: str) -> str | None:
    """The grader whose user this is; None for a user of services."""
    return user.removeprefix(GRADER_USER) if user.startswith(GRADER_USER) else None


def grader_grants(grader_id: str, pool: str) -> Grants:
    """The least that a grader needs: take its pool's jobs, hear its own commands, tell what becomes of jobs.

    ``LOGS`` takes its pings; no queue need be there for them.
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
            LOGS.name: (_only(PING_KEY), NOTHING),
            CONTROL.name: (NOTHING, _only(control_key(grader_id), control_key("all"))),
        },
    )


def _only(*names: str) -> str:
    """A pattern of these names and no others; without the anchors it would be one of all that contain them."""
    return f"^({'|'.join(map(re.escape, names))})$"


def heartbeat_key(grader_id: str) -> str:
    return f"grader.heartbeat.{grader_id}"


def dead_letter_key(queue: str) -> str:
    return f"dead.{queue}"
