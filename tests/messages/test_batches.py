"""Messages with several events: their bounds, their owners, and which events share a message."""

import json
from typing import Any

import pytest
from outcomes import outcome

from broadway.domain.job import JobClass, Outcome, Phase
from broadway.messages.batches import MAX_BYTES, Batch, JobsFinished, JobsQueued, JobsSettled, packed, parts_of
from broadway.messages.envelope import UndecodableError, decode, decode_dead_letter, encode
from broadway.messages.events import Event, JobQueued, JobSettled

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
JOB: dict[str, Any] = {"course": "cs1", "run_id": "r1", "generation": 1}


def queued(number: int, course: str = "cs1", job_class: JobClass = JobClass.BULK) -> JobQueued:
    return JobQueued(**{**JOB, "course": course}, job_id=f"j{number}", job_class=job_class, traceparent=TRACE)


def settled(number: int, course: str = "cs1", reason: str = "") -> JobSettled:
    ids = {**JOB, "course": course, "job_id": f"j{number}"}
    return JobSettled(**ids, phase=Phase.STUDENTS, outcome=Outcome.FAILED, reason=reason)


BATCHES: list[Batch] = [
    JobsQueued(parts=[queued(1), queued(2)]),
    JobsFinished(parts=[outcome("j1", stdout="ä"), outcome("j2")]),
    JobsSettled(parts=[settled(1), settled(2)]),
]
BY_TYPE = pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: batch.type)


@BY_TYPE
def test_round_trip(batch: Batch) -> None:
    wire = encode(batch, source="/broadway/test")

    assert decode(wire.headers, wire.body) == batch
    assert wire.headers["ce-subject"].endswith("(2 jobs)")
    assert encode(decode(wire.headers, wire.body), source="/elsewhere").message_id == wire.message_id


@BY_TYPE
@pytest.mark.parametrize("number", [0, 1000])
def test_a_batch_out_of_bounds_is_not_decoded(batch: Batch, number: int) -> None:
    wire = encode(batch, source="/broadway/test")
    part = json.loads(wire.body)["parts"][0]

    with pytest.raises(UndecodableError, match=f"{batch.type}: parts"):
        decode(wire.headers, json.dumps({"parts": [part] * number}).encode())


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        (JobsQueued, [queued(1), queued(2, course="cs2")]),
        (JobsQueued, [queued(1), queued(2, job_class=JobClass.INTERACTIVE)]),
        (JobsFinished, [outcome(), outcome().model_copy(update={"grader_id": "g2"})]),
        (JobsSettled, [settled(1), settled(2, course="cs2")]),
    ],
    ids=["courses", "classes", "graders", "settled"],
)
def test_a_batch_of_two_owners_is_not_decoded(kind: type[Batch], parts: list[Event]) -> None:
    wire = encode(kind.model_construct(parts=parts), source="/broadway/test")

    with pytest.raises(UndecodableError, match="one owner"):
        decode(wire.headers, wire.body)


def test_parts_keep_their_traces_unless_these_are_invalid() -> None:
    wire = encode(JobsQueued(parts=[queued(1), queued(2)]), source="/broadway/test")
    body = json.loads(wire.body)
    body["parts"][1]["traceparent"] = "made up\nerror"

    first, second = parts_of(decode(wire.headers, json.dumps(body).encode()))

    assert (first, second) == (queued(1), queued(2).model_copy(update={"traceparent": None}))


def sizes(messages: list[Event]) -> list[int]:
    return [len(parts_of(message)) for message in messages]


def test_events_are_packed_by_owner_number_and_size() -> None:
    many = [queued(number) for number in range(120)]
    messages = packed(JobsQueued, many)

    assert sizes(messages) == [50, 50, 20]
    assert [part for message in messages for part in parts_of(message)] == many
    assert sizes(packed(JobsQueued, many, most=1)) == [1] * 120
    assert sizes(packed(JobsQueued, [queued(1), queued(2), queued(3, course="cs2"), queued(4)])) == [2, 1, 1]
    assert packed(JobsQueued, [queued(1)]) == [queued(1)], "one event keeps its single form"
    assert packed(JobsQueued, []) == []
    assert sizes(packed(JobsSettled, [settled(n) for n in range(300)])) == [200, 100]


@pytest.mark.parametrize("text", ["x", "\u00e9", "\U0001f600", "\x01"])
def test_a_packed_message_is_never_too_large_to_be_decoded(text: str) -> None:
    large = [outcome(f"j{number}", stdout=text * 30_000) for number in range(40)]
    huge = outcome("huge", stdout=text * 500_000)
    messages = packed(JobsFinished, [*large, huge])

    assert sum(sizes(messages)) == 41
    assert huge in messages
    for message in messages:
        wire = encode(message, source="/broadway/test")
        assert decode(wire.headers, wire.body) == message
        assert len(wire.body) <= MAX_BYTES or message == huge


def test_a_dead_batch_is_labelled_from_its_events() -> None:
    (batch, *_) = BATCHES
    wire = encode(batch, source="/broadway/test")
    letter = decode_dead_letter({**wire.headers, "x-death": [{"queue": "q", "reason": "delivery_limit"}]}, wire.body)

    assert (letter.about, letter.message_id, letter.subject) == (batch, batch.identity, "cs1, bulk (2 jobs)")
