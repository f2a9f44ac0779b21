"""Webhooks and the deliveries that they take."""

from datetime import datetime

from pydantic import Field

from broadway.domain.webhook import DeliveryState, Quota
from broadway.messages.resources.base import View


class HookView(View):
    """A hook, without its secrets. ``url`` is the path that deliveries go to."""

    name: str
    url: str
    assignment: str
    format: str
    secrets: int = Field(description="how many there are")
    branches: list[str]
    tags: list[str]
    only_latest: bool
    quota: Quota | None


class DeliveryView(View):
    """What has become of a delivery. ``received_at`` is when it came first; ``times`` how often it came."""

    id: str
    hook: str
    delivery: str
    state: DeliveryState
    reason: str
    assignment: str
    student: str | None
    version: str | None
    ref: str | None
    repository: str | None
    run: str | None
    job: str | None
    received_at: datetime
    retry_at: datetime | None
    times: int


class DeliveryDetail(DeliveryView):
    """A delivery with its body; null if that was too long to be kept."""

    body: str | None


class Pong(View):
    """The answer to a delivery that tries whether the hook is there."""

    state: str = "pong"
