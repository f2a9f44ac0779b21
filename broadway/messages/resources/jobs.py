"""Jobs, their attempts, stages and logs."""

from datetime import datetime
from typing import Any

from pydantic import Field

from broadway.messages.resources.base import View


class JobSummary(View):
    """A job as an entry of its run. ``env`` is that of its last stage."""

    id: str
    phase: str
    state: str
    outcome: str | None
    reason: str
    fault_phase: str | None
    seconds: float | None = Field(description="time in a slot")
    queue_seconds: float | None = Field(description="time before the first start")
    attempts: int
    grader: str | None
    queued_at: datetime
    dispatched_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    env: dict[str, Any]


class AttemptView(View):
    """One start of a job by a grader."""

    id: str
    grader: str
    generation: int
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    reason: str
    given_back: bool


class StageView(View):
    """A stage of a job. One that did not run has only what was asked for."""

    image: str | None
    untrusted: bool
    success: bool | None
    killed: bool | None
    killed_for: str | None = Field(description="which limit it did not keep: time, output or disk")
    exit_code: int | None
    signal: int | None = Field(description="what has ended it, if a signal has")
    out_of_memory: bool | None
    started_at: datetime | None
    finished_at: datetime | None
    reason: str
    usage: dict[str, Any] | None


class JobView(JobSummary):
    """A job with all that is known: its times, every attempt, what each stage used, what it scores.

    ``score`` and ``max_score`` are those of the last stage that gave any, and ``results`` its file, as text.
    """

    run: str
    course: str
    assignment: str
    generation: int
    executions: list[AttemptView]
    stages: list[StageView]
    score: float | None
    max_score: float | None
    results: str | None


class LogLine(View):
    """A line of a log. Of graders that do not tell streams it has neither stage nor stream."""

    stage: int | None
    at: str | None
    stream: str | None
    text: str


class LogView(View):
    """A job's log by line; ``error`` is what the grader itself had to say."""

    job: str
    lines: list[LogLine]
    error: str
