"""Webhooks and their deliveries."""

from datetime import datetime

from pydantic import Field

from broadway.domain.webhook import DeliveryState, Quota
from broadway.messages.resources.base import View


class HookView(View):
    """A hook, without its secrets. ``url`` is the path for deliveries."""

    name: str
    url: str
    assignment: str
    format: str
    secrets: int = Field(description="number of secrets")
    branches: list[str]
    tags: list[str]
    only_latest: bool
    quota: Quota | None
    env: list[str] | None = Field(
        default=None,
        description="variables that a delivery may set; null for a hook that was made before this list existed",
    )


class DeliveryView(View):
    """A delivery and its decision. ``received_at`` is its first arrival's time, ``times`` the number of arrivals."""

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
    """A delivery with its body, which is null if it was too long to be kept."""

    body: str | None


class Pong(View):
    """The answer to a ping."""

    state: str = "pong"
