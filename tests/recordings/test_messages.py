"""Messages in flight during an update are readable, and this version's messages are the same."""

import base64
import json

import pytest
from recordings.capture import Message, body_of
from recordings.recording import Recording, is_kept

from broadway.messages.envelope import UndecodableError, decode, decode_dead_letter, encode
from broadway.messages.events import ExecutionEvent
from broadway.messages.ticket import Tickets

# Heartbeats, orders and the messages of live logs have random ids; all other events have ids that name their fact.
DRAWN = {f"io.broadway.{name}.v1": {"ce-id"} for name in ("grader.heartbeat", "grader.order", "log.watch", "log.chunk")}


def readable(recording: Recording) -> list[Message]:
    """Return the messages that services have sent."""
    return [m for m in recording.messages if m["properties"].get("type", "ping") != "ping" and not is_dead(m)]


def is_dead(message: Message) -> bool:
    return bool(message["exchange"] == "broadway.dlx")


def test_every_kind_of_message_was_recorded(latest: Recording) -> None:
    names = (
        *("job.queued", "job.dispatched", "job.started", "job.released", "job.finished", "job.requeued", "job.settled"),
        *("job.cancel", "run.advanced", "grader.heartbeat", "grader.order", "jobs.queued", "jobs.settled"),
        *("log.watch", "log.chunk"),
    )
    assert {m["properties"]["type"] for m in readable(latest)} == {f"io.broadway.{name}.v1" for name in names}


def test_messages_are_decoded_and_encoded_to_the_same_bytes(recording: Recording) -> None:
    for message in readable(recording):
        event = decode(message["headers"], body_of(message))
        wire = encode(event, source=message["headers"]["ce-source"])
        if recording.is_latest:
            assert wire.body == body_of(message)
        assert is_kept(json.loads(body_of(message)), json.loads(wire.body)), message
        drawn = {"ce-time"} | DRAWN.get(wire.type, set())
        assert {**wire.headers, **{name: message["headers"][name] for name in drawn}} == message["headers"]
        properties = message["properties"]
        assert (wire.type, wire.content_type) == (properties["type"], properties["content_type"])
        assert wire.message_id == properties["message_id"] or "ce-id" in drawn


def test_issued_tickets_are_still_valid(recording: Recording) -> None:
    document = next(e["document"] for e in recording.documents if e["document"]["_id"] == "tickets")
    tickets = Tickets(base64.b64decode(document["value"]["$binary"]["base64"]))
    vouched = [m for m in readable(recording) if json.loads(m["body"]).get("ticket") and "started" in m["routing_key"]]
    assert vouched
    for message in vouched:
        assert tickets.is_ticket_of(report(message)), message
    assert not Tickets(b"another").is_ticket_of(report(vouched[0]))


def report(message: Message) -> ExecutionEvent:
    event = decode(message["headers"], body_of(message))
    assert isinstance(event, ExecutionEvent)
    return event


def test_dead_letters_have_their_queue_and_reason(recording: Recording) -> None:
    letters = [message for message in recording.messages if is_dead(message)]
    read = [decode_dead_letter(letter["headers"], body_of(letter)) for letter in letters]
    assert [letter.body for letter in read] == [body_of(letter) for letter in letters]
    is_first = "Field required" in str(recording.messages)
    missing = "Field required" if is_first else "is missing"  # the words of pydantic, and ours
    assert [(letter.queue, letter.reason, letter.message_type) for letter in read] == [
        ("broadway.results", "unknown event type ''", ""),
        ("broadway.ready.default", "rejected", "job.dispatched.v1"),
        ("broadway.results", f"io.broadway.job.finished.v1: course: {missing}", "job.finished.v1"),
    ]
    for letter in letters:
        with pytest.raises(UndecodableError):
            decode(letter["headers"], body_of(letter))
