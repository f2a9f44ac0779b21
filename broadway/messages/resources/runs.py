"""Runs, their phases, and the orders that change them."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from broadway.messages.resources.base import Body, View
from broadway.messages.resources.jobs import JobSummary


class TriggerView(View):
    """The webhook's delivery that brought a run. ``received_at`` is the submission's time."""

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
    students: int | None = Field(description="students' jobs; null in a list")
    started_at: datetime
    finished_at: datetime | None
    success: bool | None
    trigger: TriggerView | None


class PhaseView(View):
    """A phase of a run that has begun: from the first job's queueing and start to the last one's end."""

    phase: str
    state: str = Field(description="queued, running or finished")
    jobs: int
    outcomes: dict[str, int] = Field(description="how many of its jobs have ended in what")
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    reason: str = Field(description="why its job, or the first that has not succeeded, has ended so")


class RunDetail(RunView):
    """A run with its phases, and all of its jobs in the roster's order."""

    reason: str = Field(description="why it has failed")
    phases: list[PhaseView]
    jobs: list[JobSummary]


class OrderView(View):
    """What a cancellation or a rerun did: the run's state after it, and the jobs concerned."""

    run: str
    state: str
    round: int
    jobs: list[str]


class Cancellation(Body):
    """What ``…/cancel`` takes."""

    reason: str = Field(default="cancelled by the course staff", min_length=1, max_length=1000)


class Rerun(Body):
    """What ``…/rerun`` of a run takes: all its jobs, those that have not succeeded, or those that are named."""

    jobs: Literal["all", "failed"] | list[str] = "all"
