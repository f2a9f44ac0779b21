"""Deliveries of callbacks to endpoints: attempts, their schedule, and the state of an endpoint. Pure."""

import base64
import hashlib
import hmac
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from typing import Self

from broadway.domain.callback import CallbackEvent, CallbackType

# The delays before the attempts, from the example of Standard Webhooks: 75 hours together.
SCHEDULE = tuple(
    timedelta(seconds=seconds) for seconds in (0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
JITTER = 0.1  # share of a delay by which it may be longer or shorter
LONGEST_WAIT = timedelta(hours=24)  # that an endpoint may ask for
THROTTLE = timedelta(minutes=1)  # after 502 and 504, before the next delivery to the endpoint
DISABLED_AFTER = timedelta(days=5)  # of failures only
BOTH_SECRETS = timedelta(hours=24)  # for which a replaced secret still signs
KEPT_ANSWERS = 12  # attempts of a delivery
KEPT_BODY = 1024  # bytes of an answer
HEALTHY = 4  # deliveries to an endpoint at a time; one after a failure
SECRET_BYTES = 32
PREFIX = "whsec_"

_THROTTLING = (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT)
_WITH_WAIT = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class PayloadFormat(StrEnum):
    """The forms of a callback's body."""

    STANDARD = "standard"
    CLOUDEVENTS = "cloudevents"


class CallbackState(StrEnum):
    """The states of a delivery. Only pending ones are sent; a missed one came while its endpoint was disabled."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one attempt. ``status`` is None without an answer; then ``error`` says why."""

    at: datetime
    status: int | None
    error: str = ""
    body: str = ""
    seconds: float = 0.0
    retry_after: timedelta | None = None

    @property
    def is_success(self) -> bool:
        """True for 2xx only; a redirection is a failure, since it could lead anywhere."""
        return self.status is not None and HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way to one endpoint.

    ``attempt`` is the number of attempts since the first one or the last replay. ``lease`` names the sender that has
    taken the delivery; it is due again at ``due_at`` if the sender dies.
    """

    event: str
    endpoint: str
    course: str
    type: CallbackType
    at: datetime
    state: CallbackState = CallbackState.PENDING
    attempt: int = 0
    due_at: datetime | None = None
    lease: str | None = None
    answers: tuple[Answer, ...] = ()

    @property
    def id(self) -> str:
        """24 hexadecimal digits, which follow from the event and the endpoint."""
        return hashlib.sha256(f"{self.event}/{self.endpoint}".encode()).hexdigest()[:24]

    @classmethod
    def of(cls, event: CallbackEvent, endpoint: "Endpoint") -> Self:
        """Return the delivery of an event to an endpoint, due at once; a missed one if the endpoint is disabled."""
        state = CallbackState.PENDING if endpoint.is_enabled else CallbackState.MISSED
        due_at = event.at if endpoint.is_enabled else None
        return cls(event.id, endpoint.id, event.course, event.type, event.at, state, due_at=due_at)

    def answered(self, answer: Answer, now: datetime, jitter: float) -> Self:
        """Return the delivery after an attempt: delivered, due for another attempt, or failed.

        ``jitter`` is between -1 and 1. An endpoint that is gone (410) gets no further attempt.
        """
        answers = (*self.answers, answer)[-KEPT_ANSWERS:]
        done = replace(self, attempt=self.attempt + 1, answers=answers, lease=None, due_at=None)
        if answer.is_success:
            return replace(done, state=CallbackState.DELIVERED)
        if answer.status == HTTPStatus.GONE or done.attempt >= len(SCHEDULE):
            return replace(done, state=CallbackState.FAILED)
        delay = SCHEDULE[done.attempt] * (1 + JITTER * jitter)
        return replace(done, due_at=now + max(delay, asked_wait(answer)))

    def replayed(self, now: datetime) -> Self:
        """Return the delivery as due at once, with a new schedule."""
        return replace(self, state=CallbackState.PENDING, attempt=0, due_at=now, lease=None)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that gets events of a course.

    An empty ``types`` wants all types. ``previous_secret`` also signs until ``previous_until``. ``disabled`` has the
    reason if no events are sent. ``failing_since`` is the time of the first failure after the last success, and no
    delivery is sent before ``paused_until``.
    """

    id: str
    course: str
    name: str
    url: str
    secret: str = field(repr=False)
    created_at: datetime
    types: tuple[CallbackType, ...] = ()
    format: PayloadFormat = PayloadFormat.STANDARD
    description: str = ""
    disabled: str | None = None
    disabled_at: datetime | None = None
    previous_secret: str | None = field(default=None, repr=False)
    previous_until: datetime | None = None
    failing_since: datetime | None = None
    paused_until: datetime | None = None

    @property
    def is_enabled(self) -> bool:
        return self.disabled is None

    def wants(self, event: CallbackEvent) -> bool:
        """Return whether an event is for this endpoint."""
        if event.endpoint is not None:
            return event.endpoint == self.id
        return not self.types or event.type in self.types

    def secrets(self, now: datetime) -> list[str]:
        """Return the secrets that sign, the newest first."""
        has_two = self.previous_secret and self.previous_until and now < self.previous_until
        return [self.secret, *([self.previous_secret] if has_two and self.previous_secret else [])]

    def rotated(self, secret: str, until: datetime) -> Self:
        """Return the endpoint with a new secret; the present one also signs until ``until``."""
        return replace(self, secret=secret, previous_secret=self.secret, previous_until=until)

    def disable(self, reason: str, now: datetime) -> Self:
        return replace(self, disabled=reason, disabled_at=now)

    def enable(self) -> Self:
        return replace(self, disabled=None, disabled_at=None, failing_since=None, paused_until=None)

    def answered(self, answer: Answer, now: datetime) -> Self:
        """Return the endpoint after an attempt: healthy, failing, paused or disabled."""
        if answer.is_success:
            return replace(self, failing_since=None, paused_until=None)
        since = self.failing_since or now
        wait = max(asked_wait(answer), THROTTLE if answer.status in _THROTTLING else timedelta())
        failing = replace(self, failing_since=since, paused_until=now + wait if wait else self.paused_until)
        if answer.status == HTTPStatus.GONE:
            return failing.disable("it answered 410: it is gone", now)
        if now - since >= DISABLED_AFTER:
            return failing.disable(f"every attempt has failed for {DISABLED_AFTER.days} days", now)
        return failing


def asked_wait(answer: Answer) -> timedelta:
    """Return the time for which an answer asks to wait, within bounds."""
    if answer.status not in _WITH_WAIT or answer.retry_after is None:
        return timedelta()
    return min(max(answer.retry_after, timedelta()), LONGEST_WAIT)


def new_secret(random: bytes) -> str:
    """Return a secret in the form of Standard Webhooks."""
    return PREFIX + base64.b64encode(random).decode()


def signatures(secrets: list[str], event_id: str, timestamp: int, body: bytes) -> str:
    """Return the header ``webhook-signature``: one signature for each secret."""
    content = f"{event_id}.{timestamp}.".encode() + body
    return " ".join(f"v1,{_signature(secret, content)}" for secret in secrets)


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
