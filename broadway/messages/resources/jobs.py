"""Jobs, their attempts, stages and logs."""

from datetime import datetime
from typing import Any

from pydantic import Field

from broadway.messages.resources.base import View


class JobSummary(View):
    """A job as an entry of its run. ``env`` is its last stage's environment, for course staff only."""

    id: str
    phase: str
    state: str
    outcome: str | None
    reason: str
    fault_phase: str | None
    seconds: float | None = Field(description="time that its last attempt held a slot; null until the job has ended")
    queue_seconds: float | None = Field(description="time from queueing to the first start; null before that start")
    attempts: int
    grader: str | None
    queued_at: datetime
    dispatched_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    env: dict[str, Any]
    waits_for: str = Field(
        default="", description="what a waiting job lacks, if graders of its pool are missing; empty otherwise"
    )
    student: str | None = Field(default=None, description="the student or group, if its roster or its hook names one")
    score: float | None = Field(default=None, description="points of its report, for course staff only; null without")
    max_score: float | None = Field(default=None, description="points of the assignment, or those that its report has")


class AttemptView(View):
    """One start of a job by a grader. ``given_back``: it returned the job unfinished; that start is not counted."""

    id: str
    grader: str
    generation: int
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    reason: str
    given_back: bool


class StageView(View):
    """A stage of a job. A stage that did not run has only its ``image`` and ``untrusted``."""

    image: str | None
    untrusted: bool
    success: bool | None
    killed: bool | None
    killed_for: str | None = Field(description="the limit that the stage exceeded: time, output or disk")
    exit_code: int | None
    signal: int | None = Field(description="the number of the signal that ended the stage, or null")
    out_of_memory: bool | None
    started_at: datetime | None
    finished_at: datetime | None
    reason: str
    usage: dict[str, Any] | None
    refused_results: str | None = Field(
        default=None, description="the beginning of its results file if that is not valid; null otherwise"
    )


class WaitView(View):
    """The estimated seconds until a job starts; the start is likely at most ``error`` seconds earlier or later."""

    seconds: float
    error: float


class QueueView(View):
    """The place of a waiting job: the number of jobs ahead of it, and the estimated wait, null if it is unknown."""

    ahead: int
    wait: WaitView | None
    text: str


class JobView(JobSummary):
    """A job with its times, all attempts, the usage of each stage, and its scores.

    ``score`` and ``max_score`` come from the last stage that reported scores, and ``results`` is that stage's results
    file as text, if it has no format.
    """

    run: str
    course: str
    assignment: str
    generation: int
    executions: list[AttemptView]
    stages: list[StageView]
    results: str | None
    queue: QueueView | None = Field(default=None, description="its place; null unless it waits for its first start")


class LogLine(View):
    """A line of a log. ``stage`` and ``stream`` are null for graders that do not report them."""

    stage: int | None
    at: str | None
    stream: str | None
    text: str


class LogView(View):
    """A job's log by line; ``error`` holds the grader's own messages."""

    job: str
    lines: list[LogLine]
    error: str
    attempt: str | None = Field(default=None, description="the id of the attempt whose log it is, if it has one")
