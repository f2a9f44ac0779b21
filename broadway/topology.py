"""Every exchange, queue and binding of the broker, as frozen values. Nothing else spells a queue's name."""

from dataclasses import dataclass, field
from typing import Any, Literal

from broadway.job import JobClass

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


JOBS = Exchange("broadway.jobs", "direct")
UNROUTED = Exchange("broadway.unrouted", "fanout")
EVENTS = Exchange("broadway.events", "topic", alternate=UNROUTED.name)
LOGS = Exchange("broadway.logs", "topic", transient=True)
CONTROL = Exchange("broadway.control", "topic", transient=True)
DEAD_LETTERS = Exchange("broadway.dlx", "topic")

EXCHANGES = (JOBS, UNROUTED, EVENTS, LOGS, CONTROL, DEAD_LETTERS)

# A message that comes back this often has broken its consumers; attempts of jobs are counted elsewhere.
POISON_AFTER = 20

_QUORUM = {"x-queue-type": "quorum"}
_DEAD_LETTERED = {
    "x-dead-letter-exchange": DEAD_LETTERS.name,
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",  # at-least-once dead-lettering needs it
}
_LIMITED = {**_QUORUM, **_DEAD_LETTERED, "x-delivery-limit": POISON_AFTER}
# A course's messages are held until their jobs have settled, so every restart of a dispatcher redelivers them: for
# them a delivery count says nothing. "No limit" has no spelling that all versions share: 4.x takes -1, where 3.x
# dead-letters at once, and without the argument 4.x has a limit of 20.
_PATIENT = {**_QUORUM, **_DEAD_LETTERED, "x-delivery-limit": 1_000_000}
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
DEAD = Queue("broadway.dead", bindings=(Binding(DEAD_LETTERS.name, "#"),), arguments=_QUORUM)
UNROUTED_FACTS = Queue(
    "broadway.unrouted",
    bindings=(Binding(UNROUTED.name, ""),),
    arguments={**_QUORUM, "x-max-length": 10_000, "x-overflow": "drop-head"},
)

SHARED_QUEUES = (RESULTS, DISPATCHER, DEAD, UNROUTED_FACTS)


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
    return Queue(f"broadway.ready.{pool}", bindings=(Binding(JOBS.name, ready_key(pool)),), arguments=_LIMITED)


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


def dead_letter_key(queue: str) -> str:
    return f"dead.{queue}"
