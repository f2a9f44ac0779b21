"""The CloudEvents envelope of messages, in binary mode: ``ce-*`` headers, and an event's JSON as the body."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cloudevents.core.bindings import rabbitmq as binding
from cloudevents.core.v1.event import CloudEvent
from pydantic import ValidationError

from broadway.domain.mistakes import mistakes
from broadway.domain.trace import HEADER, accepted
from broadway.messages.batches import MAX_BYTES, Batch, JobsFinished, JobsQueued, JobsSettled
from broadway.messages.events import (
    CancelJob,
    DeadLetter,
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
)
from broadway.messages.live_logs import LogChunk, WatchLog
from broadway.messages.topology import is_service

TYPE_PREFIX = "io.broadway."
MAX_TYPE = 100  # characters of a dead letter's type
DEAD_IN, DIED_OF = "x-broadway-queue", "x-broadway-reason"  # headers that a service adds to a dead letter

_KINDS: dict[str, type[Event]] = {
    kind.type: kind
    for kind in (
        JobQueued,
        JobDispatched,
        JobStarted,
        JobReleased,
        JobFinished,
        JobRequeued,
        JobSettled,
        RunAdvanced,
        GraderHeartbeat,
        GraderOrder,
        CancelJob,
        JobsQueued,
        JobsFinished,
        JobsSettled,
        WatchLog,
        LogChunk,
    )
}


@dataclass(frozen=True, slots=True)
class Wire:
    """A message in its form at the broker."""

    headers: dict[str, str]
    content_type: str
    body: bytes
    message_id: str
    type: str


MAX_MESSAGE = 16 * 1024 * 1024  # bytes of a body, which is RabbitMQ 4's own limit


class UndecodableError(ValueError):
    """A message that no consumer can read. ``body`` holds its bytes."""

    def __init__(self, reason: str, body: bytes) -> None:
        super().__init__(reason)
        self.body = body


class OversizedError(UndecodableError):
    """A message that is too large to be decoded."""


Decoder = Callable[[Mapping[str, Any], bytes, str], Event]  # of headers, a body, and the sender that the broker checked


def encode(event: Event, *, source: str) -> Wire:
    """Wrap an event for the broker; ``source`` is the sending service, such as ``/broadway/grader/host1``."""
    identity = event.identity
    name = TYPE_PREFIX + event.type
    attributes = {
        "id": identity,
        "type": name,
        "source": source,
        "subject": event.subject or event.type,
        "time": datetime.now(UTC),
        "datacontenttype": "application/json",
    }
    # Once for the event (CloudEvents) and once for the message (AMQP). They are equal, since no hop starts a span.
    trace = {HEADER: event.traceparent} if event.traceparent else {}
    body = event.model_dump(mode="json", exclude={"traceparent"})
    message = binding.to_binary_event(CloudEvent({**attributes, **trace}, body))
    return Wire(
        headers={**message.headers, **trace},
        content_type=message.content_type or "application/json",
        body=message.body,
        message_id=identity,
        type=name,
    )


def decode(headers: Mapping[str, Any], body: bytes, _: str = "", *, most: int = MAX_MESSAGE) -> Event:
    """Read a message, whose sender does not matter.

    Raises:
        OversizedError: The body has more than ``most`` bytes.
        UndecodableError: The type is unknown, or the body does not fit the type.
    """
    name = str(headers.get("ce-type", ""))
    kind = _KINDS.get(name.removeprefix(TYPE_PREFIX))
    if kind is None:
        raise UndecodableError(f"unknown event type {name!r}", body)
    allowed = min(most, MAX_BYTES) if issubclass(kind, Batch) else most
    if len(body) > allowed:
        raise OversizedError(f"{name}: has {len(body)} bytes and was not decoded: {allowed} are allowed", body)
    try:
        return kind.model_validate_json(body).model_copy(update={"traceparent": _traceparent(headers)})
    except ValidationError as error:
        raise UndecodableError(f"{name}: {mistakes(error, kind, whole='the body')[0]}", body) from error


def fitted(outcome: JobFinished, *, most: int = MAX_MESSAGE) -> JobFinished:
    """Return an outcome whose message has at most ``most`` bytes: without its results, and its logs, if need be."""
    for smaller in (outcome, outcome.without_results("they are too large for a message")):
        if _size(smaller, most) <= most:
            return smaller
    return smaller.without_logs()


def _size(event: Event, most: int) -> int:
    """Return the bytes of an event's body, or a number that is not smaller and is faster to compute."""
    estimate = 3 * len(event.model_dump_json().encode())  # two bytes of UTF-8 become six, as \uXXXX
    return estimate if estimate <= most else len(encode(event, source="/").body)


def decode_dead_letter(headers: Mapping[str, Any], body: bytes, sender: str = "") -> DeadLetter:
    """Read the parts of a dead letter that are readable; never fails.

    The queue and the reason are in the headers that a service adds, or else in the broker's record, which precedes any
    record that a sender has made up.
    """
    is_proven, about = is_service(sender), _read(headers, body)
    named = headers if is_proven and about is None else {}
    deaths = headers.get("x-death")
    latest = deaths[0] if isinstance(deaths, list) and deaths else None
    death: Mapping[str, Any] = latest if isinstance(latest, Mapping) else {}
    own = headers if is_proven or not death else {}
    return DeadLetter(
        traceparent=_traceparent(named),
        about=about,
        message_type=str(headers.get("ce-type", "")).removeprefix(TYPE_PREFIX)[:MAX_TYPE],
        named_id=str(named.get("ce-id", "")),
        named_subject=str(named.get("ce-subject", "")),
        queue=str(own.get(DEAD_IN) or death.get("queue") or "unknown"),
        reason=str(own.get(DIED_OF) or death.get("reason") or "unknown"),
        sender=sender,
        is_proven=is_proven,
        body=body,
    )


def _read(headers: Mapping[str, Any], body: bytes) -> Event | None:
    try:
        return decode(headers, body)
    except UndecodableError:
        return None


def _traceparent(headers: Mapping[str, Any]) -> str | None:
    return accepted(str(headers.get(HEADER) or headers.get(f"ce-{HEADER}") or ""))
