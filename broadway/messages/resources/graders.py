"""Graders, their joining, and the orders of their operators."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from broadway.domain.grader import MAX_SLOTS
from broadway.messages.resources.base import Body, View


class Wanted(View):
    """What an operator wants of a grader. Without a number of slots it has those that it was started with."""

    mode: str
    slots: int | None


class GraderView(View):
    """A grader: what it does, and what is wanted of it."""

    id: str
    hostname: str
    pool: str
    state: str = Field(description="online, paused, draining, drained, gone or revoked")
    slots: int
    reason: str
    wanted: Wanted
    running: list[str] = Field(description="the jobs that it runs")
    jobs_processed: int
    last_seen: datetime | None
    way: str = Field(description="broker, websocket or polling")
    runtime: str = Field(
        description="what starts its containers; `default` is the engine's own, empty when it does not say"
    )


class GraderList(View):
    """Every grader that ever joined."""

    graders: list[GraderView]


class JoinView(View):
    """What a grader that joins has to know: ``amqp_url`` is null where it may not know the broker."""

    heartbeat_interval: int
    amqp_url: str | None
    own_user: bool = Field(description="whether the login in amqp_url is this grader's alone")
    order: dict[str, Any]


class JoinRequest(Body):
    """What a grader says of itself."""

    hostname: str
    pool: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=100)] = "default"
    slots: Annotated[int, Field(ge=1, le=MAX_SLOTS)] = 1


class Because(Body):
    """Why an operator wants something."""

    reason: Annotated[str, Field(max_length=500)] = ""


class Slots(Body):
    """How many jobs a grader runs at a time; null for what it was started with."""

    slots: Annotated[int, Field(ge=1, le=MAX_SLOTS)] | None
