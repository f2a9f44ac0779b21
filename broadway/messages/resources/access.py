"""Join tokens, and the settings of pools."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from broadway.domain.access import MAX_NAME, MAX_USES
from broadway.messages.resources.base import Body, View

MAX_POOLS = 100  # of one join token
MAX_VALID_FOR = 10 * 365 * 24 * 3600  # seconds

PoolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=100)]


class JoinTokenView(View):
    """A join token, without its secret."""

    id: str
    name: str
    pools: list[str] | None = Field(description="the pools that it admits to; null for all pools")
    uses_left: int | None = Field(description="the number of new graders that it still admits; null for any number")
    graders: list[str] = Field(description="ids of the graders that it has admitted; empty if it admits any number")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewJoinTokenView(JoinTokenView):
    """A join token that has just been made, with its secret, which is shown only here."""

    token: str


class JoinTokenList(View):
    """The join tokens, latest first."""

    tokens: list[JoinTokenView]


class JoinTokenRequest(Body):
    """A new join token. Null stands for no limit."""

    name: Annotated[str, Field(max_length=MAX_NAME)] = ""
    pools: Annotated[list[PoolName], Field(min_length=1, max_length=MAX_POOLS)] | None = None
    uses: Annotated[int, Field(ge=1, le=MAX_USES)] | None = None
    valid_for: Annotated[int, Field(ge=1, le=MAX_VALID_FOR, description="seconds")] | None = None


class PoolSlotsView(View):
    """The slots of a pool's live graders."""

    live: int = Field(description="all of them")
    busy: int = Field(description="those in which a job runs, by the graders' last reports")
    free: int = Field(description="those without a job, of graders that take jobs")
    paused: int = Field(description="those of paused graders")
    draining: int = Field(description="those of graders that drain or are drained")


class PoolJobsView(View):
    """A pool's jobs. Each number is at most 100,000."""

    waiting: int = Field(description="jobs that wait for a start")
    ready: int | None = Field(
        description="those of them that any grader can take; null while the broker is unavailable"
    )
    running: int
    oldest_wait: float | None = Field(description="seconds since the first waiting job was queued; null without one")
    rate: float | None = Field(
        description="jobs that start in a second, of the last five minutes; null if not known yet"
    )
    mean_duration: float | None = Field(description="seconds that recent jobs took; null if there are too few")


class PoolView(View):
    """A pool: its settings, its courses, its graders and its load.

    ``suggested_slots`` is ``jobs.running + ceil(jobs.waiting * min(1, jobs.mean_duration / target))``, with 1 for an
    unknown duration, and at least ``ceil(jobs.rate * jobs.mean_duration)``. With so many slots every waiting job starts
    within about ``target`` seconds.
    """

    id: str
    original_graders: bool = Field(
        description="true if it admits graders without a secret, such as the original's, with the cluster token"
    )
    reason: str = Field(description="the reason for the setting; empty for the default, and for the token for metrics")
    changed_at: datetime | None
    courses: list[str]
    graders: int = Field(description="graders that have ever joined")
    without_secret: list[str] = Field(
        description="ids of its graders that have no secret; empty for the token for metrics"
    )
    live_graders: int
    slots: PoolSlotsView
    jobs: PoolJobsView
    suggested_slots: int = Field(description="the number of slots with which waiting jobs start within `target`")


class PoolList(View):
    """The pools of courses, of graders, and of settings, by name."""

    pools: list[PoolView]


class PoolRequest(Body):
    """The settings of a pool."""

    original_graders: bool
