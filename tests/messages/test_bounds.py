"""Messages out of bounds are not decoded; texts for people are cut, since the rest of their message still counts."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from broadway.domain.bounds import MAX_DEPTH, MAX_LOG
from broadway.domain.grader import MAX_SLOTS
from broadway.domain.job import Outcome
from broadway.messages.envelope import (
    MAX_MESSAGE,
    OversizedError,
    UndecodableError,
    decode,
    decode_dead_letter,
    encode,
    fitted,
)
from broadway.messages.events import MAX_KEPT, GraderHeartbeat, JobFinished

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUNNING = {"job_id": "j", "generation": 1, "execution_id": "e"}
BEAT = GraderHeartbeat(grader_id="g", hostname="h", pool="p", slots=1, sent_at=T0)


def finished(**more: Any) -> JobFinished:
    ids = {"course": "c", "run_id": "r", "job_id": "j", "generation": 1, "execution_id": "e", "grader_id": "g"}
    times: dict[str, Any] = {"started_at": T0, "finished_at": T0, "outcome": Outcome.FAILED}
    return JobFinished(**{**ids, **times, **more})


def changed(event: Any, **more: Any) -> tuple[dict[str, Any], bytes]:
    """Return the headers and the body of an event with some keys replaced."""
    wire = encode(event, source="/test")
    return dict(wire.headers), json.dumps({**json.loads(wire.body), **more}).encode()


def nested(depth: int) -> Any:
    document: Any = 1
    for _ in range(depth):
        document = {"a": [document]}
    return document


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("slots", 100_000),
        ("slots", MAX_SLOTS + 1),
        ("slots", -1),
        ("slots", -1_000_000),
        ("slots", 10**400),
        ("running", [RUNNING] * (MAX_SLOTS + 1)),
        ("running", [RUNNING] * 200_000),
        ("running", [{**RUNNING, "execution_id": "e" * 1000}]),
        ("grader_id", "g" * 256),
        ("hostname", "h" * 9_000_000),
        ("pool", "p" * 256),
        ("order", -1),
        ("order", 2**60),
        ("sent_at", "2026-03-01T12:00:00"),
        ("sent_at", "0001-01-01T00:00:00+14:00"),
        ("sent_at", "9999-12-31T23:59:59-14:00"),
    ],
    ids=lambda value: f"{str(value)[:20]}:{len(str(value))}",
)
def test_a_heartbeat_out_of_bounds_is_not_decoded(key: str, value: Any) -> None:
    headers, body = changed(BEAT, **{key: value})

    with pytest.raises(UndecodableError) as problem:
        decode(headers, body)

    assert f"grader.heartbeat.v1: {key}" in str(problem.value)
    assert len(str(problem.value)) < 300


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("generation", -1),
        ("generation", 2**63),
        ("attempt", 2**64),
        ("results", [{}] * 201),
        ("results", [nested(MAX_DEPTH)]),
        ("job_id", "j" * 5000),
        ("started_at", "2026-03-01T12:00:00"),
    ],
    ids=lambda value: f"{str(value)[:20]}:{len(str(value))}",
)
def test_an_outcome_out_of_bounds_is_not_decoded(key: str, value: Any) -> None:
    headers, body = changed(finished(), **{key: value})

    with pytest.raises(UndecodableError, match=f"job.finished.v1: {key}"):
        decode(headers, body)


def test_a_message_that_is_too_large_is_not_decoded_at_all() -> None:
    headers, _ = changed(finished())

    with pytest.raises(OversizedError, match="has 16777217 bytes and was not decoded: 16777216 are allowed"):
        decode(headers, b"[" * (MAX_MESSAGE + 1))
    with pytest.raises(OversizedError, match="has 101 bytes"):
        decode(headers, b"[" * 101, most=100)


def test_texts_are_cut_and_say_so() -> None:
    headers, body = changed(finished(), reason="r" * 1_000_000, stdout="o" * 2 * MAX_LOG, stderr="e")

    event = decode(headers, body)

    assert isinstance(event, JobFinished)
    assert event.reason == "r" * 4000 + "\n[broadway] cut here: 996000 more characters were not kept\n"
    assert event.stdout == "o" * MAX_LOG + f"\n[broadway] cut here: {MAX_LOG} more characters were not kept\n"
    assert event.stderr == "e"
    again = decode(*changed(event))
    assert again == event


@pytest.mark.parametrize("text", ["x", "\u00e9", "\U0001f600", "\x01"])
def test_a_graders_outcome_fits_into_a_message(text: str) -> None:
    large = finished(results=[{"scores": {"document": text * 1000}}], stdout=text * 1000, reason="why")

    assert fitted(large) is large
    for most in (20_000, 2000):
        smaller = fitted(large, most=most)
        assert len(encode(smaller, source="/test").body) <= most
        assert smaller.outcome is Outcome.FAILED
        assert smaller.reason.startswith("why")
        if smaller != large:
            assert "results cannot be stored: they are too large for a message" in smaller.reason


def test_a_dead_letter_of_any_size_is_read_and_cut() -> None:
    headers = dict.fromkeys(("ce-id", "ce-type", "ce-subject", "x-broadway-queue", "x-broadway-reason"), "x" * 100_000)

    letter = decode_dead_letter(headers, b"x" * (MAX_KEPT + 1))

    assert len(letter.body) == MAX_KEPT
    assert max(len(letter.message_id), len(letter.subject), len(letter.queue), len(letter.reason)) < 5000


def test_an_error_about_a_message_does_not_show_its_content() -> None:
    with pytest.raises(ValueError, match="slots") as problem:
        GraderHeartbeat.model_validate({**BEAT.model_dump(), "slots": "hunter2"})

    assert "hunter2" not in str(problem.value)
