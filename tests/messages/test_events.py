"""Messages: decoding reverses encoding, and an unreadable message is reported and kept."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from broadway.domain.grader import GraderMode
from broadway.domain.job import FaultPhase, JobClass, Outcome, Phase
from broadway.domain.run import RunState
from broadway.messages import events, live_logs
from broadway.messages.envelope import TYPE_PREFIX, UndecodableError, decode, decode_dead_letter, encode
from broadway.messages.events import (
    CancelJob,
    Event,
    GraderHeartbeat,
    GraderOrder,
    JobDispatched,
    JobFinished,
    JobQueued,
    JobReleased,
    JobRequeued,
    JobSettled,
    JobStarted,
    RunAdvanced,
    RunningJob,
)
from broadway.messages.live_logs import LogChunk, WatchLog

T0 = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
JOB: dict[str, Any] = {"course": "cs1", "run_id": "r" * 24, "job_id": "j" * 24, "generation": 2}
EXECUTION: dict[str, Any] = {**JOB, "execution_id": "e1", "grader_id": "g1"}

EVENTS: list[Event] = [
    JobQueued(**JOB, job_class=JobClass.INTERACTIVE),
    JobDispatched(
        **JOB,
        assignment="mp1",
        phase=Phase.STUDENTS,
        attempt=2,
        stages=[{"image": "a", "env": {"A": [1, None, {"ü": "\u2028"}], "BIG": 2**63 - 1}}],
        avoid=["g0"],
        deferrals=1,
    ),
    JobStarted(**EXECUTION, started_at=T0),
    JobReleased(**EXECUTION, released_at=T0),
    JobFinished(
        **EXECUTION,
        started_at=T0,
        finished_at=T0,
        outcome=Outcome.INFRASTRUCTURE_ERROR,
        reason="pull: none",
        fault_phase=FaultPhase.PULL,
        retryable=True,
        results=[{"success": False}],
        stdout="ä\0\x1b[0m\r\n",
        stderr="no",
    ),
    JobRequeued(**JOB, not_before=T0, reason="again"),
    JobSettled(**JOB, phase=Phase.POST_PROCESSING, outcome=Outcome.OUTPUT_LIMIT, reason="much", seconds=1.25),
    RunAdvanced(course="cs1", assignment="mp1", run_id="r" * 24, state=RunState.PRE_PROCESSING),
    GraderHeartbeat(
        grader_id="g1",
        hostname="host",
        pool="default",
        slots=4,
        running=[RunningJob(job_id="j" * 24, generation=1, execution_id="e1")],
        sent_at=T0,
    ),
    GraderOrder(grader_id="g1", revision=3, mode=GraderMode.PAUSED, slots=2, reason="disk"),
    CancelJob(**JOB, reason="superseded"),
    WatchLog(**JOB, execution_id="e1", seconds=30, backlog=True),
    LogChunk(**EXECUTION, stage=1, line=2, offset=5, text="ä\n\ufffd\n", streams=[(1, 1), (2, 1)], begins=True),
]
BY_TYPE = pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)


def test_every_type_that_crosses_the_broker_is_tested_here() -> None:
    kinds = {
        kind
        for kind in (*vars(events).values(), *vars(live_logs).values())
        if isinstance(kind, type) and issubclass(kind, Event) and "type" in vars(kind)
    }

    assert {type(event) for event in EVENTS} == kinds - {events.DeadLetter}


@BY_TYPE
def test_round_trip(event: Event) -> None:
    wire = encode(event, source="/broadway/test")

    assert decode(wire.headers, wire.body) == event


@BY_TYPE
def test_an_operator_can_read_a_message(event: Event) -> None:
    wire = encode(event, source="/broadway/test")

    assert wire.headers["ce-specversion"] == "1.0"
    assert wire.headers["ce-type"] == wire.type == TYPE_PREFIX + event.type
    assert wire.headers["ce-id"] == wire.message_id
    assert wire.headers["ce-source"] == "/broadway/test"
    assert wire.headers["ce-subject"] == event.subject != ""
    assert datetime.fromisoformat(wire.headers["ce-time"]).tzinfo is not None
    assert wire.content_type == "application/json"
    assert json.loads(wire.body) == event.model_dump(mode="json", exclude={"traceparent"})


@BY_TYPE
def test_unknown_keys_are_ignored(event: Event) -> None:
    wire = encode(event, source="/broadway/test")
    newer = json.dumps({**json.loads(wire.body), "added_later": [1]}).encode()

    assert decode(wire.headers, newer) == event


@BY_TYPE
@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b"{}", b'{"course": 1}', b"\xff\xfe", b"[" * 100_000], ids=lambda body: body[:9]
)
def test_a_body_that_does_not_match_its_type_is_kept(event: Event, body: bytes) -> None:
    with pytest.raises(UndecodableError) as problem:
        decode({"ce-type": TYPE_PREFIX + event.type}, body)

    assert problem.value.body == body
    assert event.type in str(problem.value)


@pytest.mark.parametrize(
    "headers", [{}, {"ce-type": "io.broadway.job.queued.v9"}, {"ce-type": "dead.letter.v1"}, {"ce-type": None}]
)
def test_an_unknown_type_is_kept(headers: dict[str, Any]) -> None:
    with pytest.raises(UndecodableError, match="unknown event type") as problem:
        decode(headers, b"{}")

    assert problem.value.body == b"{}"


@pytest.mark.parametrize(
    "event",
    [event for event in EVENTS if event.names_fact],
    ids=lambda event: event.type,
)
def test_the_same_fact_has_the_same_id_from_every_sender(event: Event) -> None:
    again = decode({"ce-type": event.type}, encode(event, source="/elsewhere").body)

    assert encode(again, source="/here").message_id == encode(event, source="/there").message_id


def test_different_facts_have_different_ids() -> None:
    one, other = ({**EXECUTION, "execution_id": name} for name in ("e1", "e2"))
    settled = {"phase": Phase.STUDENTS, "outcome": Outcome.FAILED}
    dispatched = next(event for event in EVENTS if isinstance(event, JobDispatched))
    facts: list[Event] = [
        *EVENTS,
        JobStarted(**other, started_at=T0),
        JobReleased(**other, released_at=T0),
        JobRequeued(**JOB, not_before=T0.replace(second=1)),
        JobSettled(**{**JOB, "generation": 3}, **settled),
        JobSettled(**{**JOB, "job_id": "k" * 24}, **settled),
        RunAdvanced(course="cs1", assignment="mp1", run_id="r" * 24, state=RunState.FINISHED),
        RunAdvanced(course="cs1", assignment="mp1", run_id="r" * 24, state=RunState.FINISHED, round=2),
        *(dispatched.model_copy(update=more) for more in ({"attempt": 7}, {"deferrals": 7})),
        next(event for event in EVENTS if isinstance(event, GraderHeartbeat)),  # each heartbeat is a new fact
    ]
    # JobQueued is left out, because its id is the job's key alone.
    ids = [fact.identity for fact in facts if not isinstance(fact, JobQueued)]

    assert len(set(ids)) == len(ids)
    assert JobStarted(**one, started_at=T0).identity == JobStarted(**one, started_at=T0.replace(hour=1)).identity


def test_a_report_is_the_event_without_logs() -> None:
    finished = next(event for event in EVENTS if isinstance(event, JobFinished))

    assert (finished.execution.execution_id, finished.execution.outcome) == ("e1", Outcome.INFRASTRUCTURE_ERROR)
    assert (finished.execution.fault_phase, finished.execution.retryable) == (FaultPhase.PULL, True)


def test_a_dead_letter_is_read_as_far_as_possible() -> None:
    wire = encode(EVENTS[0], source="/broadway/test")
    headers = {**wire.headers, "x-broadway-queue": "broadway.results", "x-broadway-reason": "no such job"}

    letter = decode_dead_letter(headers, wire.body, "broadway")

    assert (letter.message_id, letter.message_type) == (wire.message_id, "job.queued.v1")
    assert (letter.queue, letter.reason, letter.body) == ("broadway.results", "no such job", wire.body)
    assert (letter.subject, letter.about, letter.is_proven) == (EVENTS[0].subject, EVENTS[0], True)


def test_a_dead_letter_is_labelled_from_its_event_and_not_from_its_headers() -> None:
    wire = encode(EVENTS[0], source="/broadway/test")
    forged = {**wire.headers, "ce-id": "j9:1:", "ce-subject": "cs9/r9/j9"}

    letter = decode_dead_letter(forged, wire.body, "broadway")
    unreadable = decode_dead_letter(forged, b"?", "broadway")

    assert (letter.message_id, letter.subject, letter.context) == (
        EVENTS[0].identity,
        EVENTS[0].subject,
        EVENTS[0].context,
    )
    assert (unreadable.about, unreadable.subject, unreadable.message_id) == (None, "cs9/r9/j9", "j9:1:")


def test_an_unreadable_dead_letter_that_no_service_sent_has_no_labels() -> None:
    wire = encode(EVENTS[0], source="/broadway/test")
    letter = decode_dead_letter(wire.headers, b"?", "broadway-grader-g1")

    assert (letter.about, letter.subject, letter.context) == (None, "", {})
    assert letter.message_id == hashlib.sha256(b"?").hexdigest()


@pytest.mark.parametrize("sender", ["", "broadway-grader-g1"])
def test_a_dead_letter_that_no_service_sent_is_not_proven(sender: str) -> None:
    wire = encode(EVENTS[0], source="/broadway/test")
    made_up = {"x-broadway-queue": "a", "x-broadway-reason": "b"}
    letter = decode_dead_letter(
        {**wire.headers, **made_up, "x-death": [{"queue": "broadway.results", "reason": "delivery_limit"}]},
        wire.body,
        sender,
    )

    assert (letter.queue, letter.reason) == ("broadway.results", "delivery_limit")
    assert (letter.sender, letter.is_proven) == (sender, False)


@pytest.mark.parametrize(
    ("headers", "queue", "reason"),
    [
        ({}, "unknown", "unknown"),
        ({"x-death": []}, "unknown", "unknown"),
        ({"x-death": "yes"}, "unknown", "unknown"),
        ({"x-death": ["yes"]}, "unknown", "unknown"),
        ({"x-death": [{"queue": "q", "reason": "delivery_limit"}, {"queue": "older"}]}, "q", "delivery_limit"),
    ],
)
def test_reading_a_dead_letter_never_fails(headers: dict[str, Any], queue: str, reason: str) -> None:
    letter = decode_dead_letter(headers, b"\xff")

    assert (letter.queue, letter.reason, letter.body) == (queue, reason, b"\xff")
