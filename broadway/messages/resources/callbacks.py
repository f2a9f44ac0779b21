"""Endpoints for callbacks, and deliveries to them."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from broadway.domain.bounds import Time
from broadway.domain.callback import CallbackType
from broadway.domain.callback_addresses import MAX_URL
from broadway.domain.callback_delivery import BOTH_SECRETS, CallbackState, PayloadFormat
from broadway.domain.course import Name
from broadway.messages.resources.base import Body, View

MAX_HOURS = 7 * 24

Url = Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL)]
Description = Annotated[str, StringConstraints(max_length=200)]
Types = Annotated[list[CallbackType], Field(max_length=len(CallbackType), description="types to send; empty for all")]


class CallbackSettings(Body, strict=False):
    """The settings of an endpoint. A disabled one gets nothing; it can get what it missed when it is enabled."""

    url: Url
    types: Types = Field(default=[])
    format: PayloadFormat = PayloadFormat.STANDARD
    description: Description = ""
    enabled: bool = True


class NewCallback(CallbackSettings):
    """A new endpoint."""

    name: Name


class RotationRequest(Body):
    """The replacement of a secret. Both secrets sign for some hours, so that the receiver can change its own."""

    hours: int = Field(
        default=round(BOTH_SECRETS.total_seconds() / 3600),
        ge=0,
        le=MAX_HOURS,
        description="hours for which the present secret also signs",
    )


class ReplayRequest(Body, strict=False):
    """The replay of all failed and missed deliveries of events since a time, 30 days ago at most."""

    since: Time


class CallbackView(View):
    """An endpoint, without its secret. ``failing_since`` is the first failure after the last success."""

    name: str
    url: str
    types: list[CallbackType]
    format: PayloadFormat
    description: str
    enabled: bool
    disabled_reason: str | None
    disabled_at: datetime | None
    failing_since: datetime | None
    paused_until: datetime | None
    previous_secret_until: datetime | None
    created_at: datetime


class NewCallbackView(CallbackView):
    """An endpoint with its new secret, which no other answer contains."""

    secret: str


class CallbackDeliveryView(View):
    """A delivery of an event to an endpoint. ``status`` and ``error`` are those of the last attempt."""

    id: str
    callback: str
    event: str = Field(description="the event's id, which the header `webhook-id` has")
    type: CallbackType
    at: datetime
    state: CallbackState
    attempt: int = Field(description="attempts since the event, or since the last replay")
    due_at: datetime | None = Field(description="the time of the next attempt")
    status: int | None
    error: str


class CallbackAttemptView(View):
    """One attempt. ``answer`` is the beginning of the answer of a public host."""

    at: datetime
    status: int | None
    error: str
    seconds: float
    answer: str


class CallbackDeliveryDetail(CallbackDeliveryView):
    """A delivery with its last attempts, and with the event's data, null once the event is no longer kept."""

    attempts: list[CallbackAttemptView]
    data: dict[str, Any] | None


class PingView(View):
    """A test event that is on its way."""

    event: str


class ReplayView(View):
    """The number of deliveries that are sent again."""

    deliveries: int
