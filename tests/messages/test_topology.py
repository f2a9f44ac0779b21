"""The topology: its data must be consistent."""

import re
from itertools import combinations

import pytest

from broadway.domain.job import JobClass
from broadway.messages.events import (
    GraderHeartbeat,
    JobEvent,
    JobFinished,
    JobReleased,
    JobRequeued,
    JobSettled,
    JobStarted,
)
from broadway.messages.topology import (
    CONTROL,
    DEAD,
    DEAD_LETTERS,
    DISPATCHER,
    EVENTS,
    EXCHANGES,
    JOBS,
    LOGS,
    POISON_AFTER,
    RESULTS,
    SHARED_QUEUES,
    UNROUTED,
    UNROUTED_FACTS,
    Queue,
    control_key,
    control_queue,
    course_key,
    course_queue,
    dead_letter_key,
    event_key,
    grader_grants,
    log_key,
    log_queue,
    ready_key,
    ready_queue,
)

QUEUES = [
    *SHARED_QUEUES,
    *(course_queue(course, job_class) for course in ("cs1", "cs2") for job_class in JobClass),
    ready_queue("default"),
    ready_queue("gpu"),
    control_queue("g1"),
    control_queue("g2"),
]
EACH_QUEUE = pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.name)


def matches(pattern: str, key: str) -> bool:
    """Return whether a topic exchange routes a key by a binding's pattern."""
    words = [{"#": r"(?:\.[^.]+)*", "*": r"\.[^.]+"}.get(word, r"\." + re.escape(word)) for word in pattern.split(".")]
    return re.fullmatch("".join(words), "." + key) is not None


def takes(queue: Queue, exchange: str, key: str) -> bool:
    return any(binding.exchange == exchange and matches(binding.key, key) for binding in queue.bindings)


def test_names_are_unique() -> None:
    names = [exchange.name for exchange in EXCHANGES] + [queue.name for queue in QUEUES]

    assert all(name.startswith("broadway.") for name in names)
    assert len({queue.name for queue in QUEUES}) == len(QUEUES)
    assert len({exchange.name for exchange in EXCHANGES}) == len(EXCHANGES)


@EACH_QUEUE
def test_every_bindings_exchange_exists(queue: Queue) -> None:
    assert queue.bindings
    assert {binding.exchange for binding in queue.bindings} <= {exchange.name for exchange in EXCHANGES}


@EACH_QUEUE
def test_lasting_queues_are_replicated_and_have_a_dead_letter_queue(queue: Queue) -> None:
    if queue.exclusive:
        assert queue.arguments == {}
        return
    assert queue.arguments["x-queue-type"] == "quorum"
    if queue not in (DEAD, UNROUTED_FACTS):
        assert queue.arguments["x-dead-letter-exchange"] == DEAD_LETTERS.name
        assert queue.arguments["x-overflow"] == "reject-publish"
        assert takes(DEAD, DEAD_LETTERS.name, dead_letter_key(queue.name))


def test_alternates_exist_and_are_bound() -> None:
    names = [exchange.name for exchange in EXCHANGES]

    assert {exchange.alternate for exchange in EXCHANGES} - {None} <= set(names)
    assert [binding.exchange for binding in UNROUTED_FACTS.bindings] == [UNROUTED.name]
    # An exchange is declared after its alternate.
    assert names.index(UNROUTED.name) < names.index(EVENTS.name)
    assert EVENTS.arguments == {"alternate-exchange": UNROUTED.name}
    assert JOBS.arguments == {}


@pytest.mark.parametrize(
    ("kind", "readers"),
    [
        (JobStarted, [RESULTS, DISPATCHER]),
        (JobFinished, [RESULTS]),
        (JobReleased, [RESULTS, DISPATCHER]),
        (JobSettled, [DISPATCHER]),
        (JobRequeued, [DISPATCHER]),
    ],
)
def test_every_fact_reaches_its_readers_and_no_others(kind: type[JobEvent], readers: list[Queue]) -> None:
    noun, fact, _ = kind.type.split(".")
    key = event_key(noun, fact, "cs_1-a")

    assert [queue for queue in SHARED_QUEUES if takes(queue, EVENTS.name, key)] == readers


def test_heartbeats_reach_results_and_dispatcher() -> None:
    noun, fact, _ = GraderHeartbeat.type.split(".")

    assert [q for q in SHARED_QUEUES if takes(q, EVENTS.name, event_key(noun, fact, "g1"))] == [RESULTS, DISPATCHER]


def test_every_course_class_pool_and_grader_has_its_own_route() -> None:
    routes = [
        *((JOBS, course_key(c, k), course_queue(c, k)) for c in ("cs1", "cs2") for k in JobClass),
        *((JOBS, ready_key(pool), ready_queue(pool)) for pool in ("default", "gpu")),
        *((CONTROL, control_key(grader), control_queue(grader)) for grader in ("g1", "g2")),
    ]

    for exchange, key, queue in routes:
        assert [q for q in QUEUES if takes(q, exchange.name, key)] == [queue]
    for one, other in combinations(routes, 2):
        assert one[1] != other[1]


def test_a_command_to_all_reaches_every_grader() -> None:
    assert [q.name for q in QUEUES if takes(q, CONTROL.name, control_key("all"))] == [
        "broadway.control.g1",
        "broadway.control.g2",
    ]


def test_a_live_log_is_heard_from_its_jobs_grader_alone_and_its_senders_are_checked() -> None:
    queue = log_queue("ingest@host:1470", "g1", "j1")

    assert takes(queue, LOGS.name, log_key("g1", "j1"))
    assert not any(takes(queue, LOGS.name, log_key(*other)) for other in (("g2", "j1"), ("g1", "j2"), ("g1.j1", "j1")))
    assert queue.hears_graders
    assert (queue.exclusive, queue.brief, queue.arguments["x-overflow"]) == (True, True, "drop-head")


@pytest.mark.parametrize(
    ("key", "is_allowed"),
    [
        ("ping", True),
        (f"log.g1.{'a' * 24}", True),
        ("log.g2.j1", False),
        ("log.g1.", False),
        ("log.g1.j1.x", False),
        ("log.g1x.j1", False),
        ("xping", False),
    ],
)
def test_a_grader_may_publish_its_own_live_logs_only(key: str, *, is_allowed: bool) -> None:
    write, read = grader_grants("g1", "default").keys[LOGS.name]

    assert bool(re.search(write, key)) is is_allowed
    assert read == "^$"


def test_jobs_may_be_redelivered_very_often_and_facts_may_not() -> None:
    for queue in (course_queue("cs1", JobClass.BULK), ready_queue("default"), DEAD):
        assert queue.arguments["x-delivery-limit"] >= 1000 * POISON_AFTER
    for queue in (RESULTS, DISPATCHER):
        assert queue.arguments["x-delivery-limit"] == POISON_AFTER
    assert course_queue("cs1", JobClass.BULK).arguments["x-single-active-consumer"] is True
