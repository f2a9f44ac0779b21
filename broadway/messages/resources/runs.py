"""Runs, their phases, and the orders that change them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from broadway.domain.bounds import Id
from broadway.domain.course import MAX_STUDENTS
from broadway.messages.resources.base import Body, View

MAX_JOBS = MAX_STUDENTS + 2  # of a run
ENDED = frozenset({"finished", "failed"})  # states of runs

Config = Annotated[
    Literal["kept", "current"],
    Field(description="the config to use: the one that the run has kept, or the assignment's current one from now on"),
]


class TriggerView(View):
    """The webhook delivery that started a run. ``received_at`` is the submission's time."""

    hook: str
    delivery: str
    student: str
    version: str
    ref: str | None = None
    received_at: datetime


class RunView(View):
    """A run."""

    id: str
    course: str
    assignment: str
    state: str
    round: int
    students: int | None = Field(description="number of students' jobs; null in a list")
    started_at: datetime
    finished_at: datetime | None
    success: bool | None = Field(
        description="true if the run is complete and has graded a student; false if it failed, or every student's job "
        "ended as an infrastructure error"
    )
    trigger: TriggerView | None
    order: str | None = Field(
        default=None, description="the order that is being carried out: cancel, supersede or rerun; null without one"
    )

    @property
    def is_over(self) -> bool:
        """True if the run has ended, well or not."""
        return self.state in ENDED


class RunSummary(RunView):
    """A run as an entry of a list, with the points of the submission that started it."""

    score: float | None = Field(default=None, description="points of its report; null for runs over a roster")
    max_score: float | None = Field(default=None, description="points of the assignment, or those that its report has")


class PhaseView(View):
    """A phase of a run that has begun, from the queueing of its first job to the end of its last one."""

    phase: str
    state: str = Field(description="queued, running or finished")
    jobs: int
    outcomes: dict[str, int] = Field(description="number of ended jobs by outcome")
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    reason: str = Field(description="reason of the first job that ended without success; empty if there is no such job")


class RunDetail(RunView):
    """A run with its phases. Its jobs have pages of their own, at ``…/jobs``."""

    reason: str = Field(description="reason why the run has not succeeded; empty otherwise")
    phases: list[PhaseView]


class OrderView(View):
    """The result of a cancellation or a rerun: the run's state, and the jobs concerned.

    An order for more than 50 jobs is carried out after the answer: until then the run's view names it as ``order``.
    """

    run: str
    state: str
    round: int
    jobs: list[str] = Field(description="the ids of the jobs concerned, 1000 at most")
    count: int = Field(default_factory=lambda data: len(data["jobs"]), description="the number of the jobs concerned")
    is_config_current: bool | None = Field(
        default=None, description="whether a rerun uses the assignment's current config; null for a cancellation"
    )
    config: str | None = Field(default=None, description="digest of the config that grades students in a rerun")
    config_before: str | None = Field(default=None, description="digest of the one that the run had until now")


class Cancellation(Body):
    """The body of ``…/cancel``."""

    reason: str = Field(default="cancelled by the course staff", min_length=1, max_length=1000)


class Rerun(Body):
    """The body of a run's ``…/rerun``: all jobs, those that ended without success, or a list of job ids."""

    jobs: Literal["all", "failed"] | Annotated[list[Id], Field(max_length=MAX_JOBS)] = "all"
    config: Config = "kept"


class JobRerun(Body):
    """The body of a job's ``…/rerun``."""

    config: Config = "kept"
