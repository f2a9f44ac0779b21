"""Graders, the bodies of their joining, and their operators' orders."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from broadway.domain.bounds import shallow
from broadway.domain.grader import MAX_SLOTS
from broadway.messages.resources.base import Body, View


class Wanted(View):
    """An operator's standing order to a grader. ``slots`` is null while the grader's own setting applies."""

    mode: str
    slots: int | None


class GraderView(View):
    """A grader: its state, its jobs, and its operator's standing order."""

    id: str
    hostname: str
    pool: str
    state: str = Field(description="online, paused, draining, drained, gone or revoked")
    slots: int
    reason: str
    wanted: Wanted
    running: list[str] = Field(description="ids of the jobs that it runs")
    jobs_processed: int
    last_seen: datetime | None
    way: str = Field(description="broker, websocket or polling")
    runtime: str = Field(
        description="the runtime of its containers; `default` is the engine's own, empty if it does not report one"
    )
    has_secret: bool = Field(description="true if its id belongs to a secret of its own, which its requests need")


class GraderList(View):
    """All graders that have ever joined."""

    graders: list[GraderView]


class JoinView(View):
    """The answer to a joining grader. ``amqp_url`` is null if graders may not connect to the broker."""

    heartbeat_interval: Annotated[int, Field(ge=0, le=3600)]
    amqp_url: Annotated[str, Field(max_length=4096)] | None = Field(repr=False)
    own_user: bool = Field(description="true if the login in `amqp_url` belongs to this grader alone")
    order: Annotated[dict[str, Any], Field(max_length=100), AfterValidator(shallow)]
    deployment: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_-]*$",
        max_length=64,
        description="id of the deployment, for the labels of containers and the names of directories",
    )
    proof_key: str = Field(
        default="",
        pattern=r"^[0-9a-f]*$",
        max_length=128,
        repr=False,
        description="the grader's secret key, in hexadecimal, for the proofs in its reports",
    )
    own_secret: bool = Field(
        default=False, description="true if the grader's later requests need its own secret as their bearer token"
    )
    batches: bool = Field(
        default=False, description="true if the grader may report several outcomes in one message to the broker"
    )
    cancelled_logs: bool = Field(
        default=False, description="true if the grader may report the output of a cancelled job to the broker"
    )


class JoinRequest(Body):
    """A grader's description of itself."""

    hostname: Annotated[str, Field(max_length=255)]
    pool: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=100)] = "default"
    slots: Annotated[int, Field(ge=1, le=MAX_SLOTS)] = 1


class Because(Body):
    """The reason of an operator's order."""

    reason: Annotated[str, Field(max_length=500)] = ""


class Slots(Body):
    """The number of jobs that a grader runs at a time; null for the number that it was started with."""

    slots: Annotated[int, Field(ge=1, le=MAX_SLOTS)] | None
