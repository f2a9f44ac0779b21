"""The resources of v2, as clients get them: what v1 has no words for."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from operator import itemgetter
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from broadway.domain.course import Course
from broadway.domain.job import Attempt, Job, Outcome, Phase
from broadway.domain.letter import Letter
from broadway.domain.run import Run, RunState, job_id
from broadway.domain.webhook import Delivery, DeliveryState, Hook, Quota

Item = TypeVar("Item")

MAX_LETTER = 64 * 1024  # bytes of a dead letter's body that are shown


class View(BaseModel):
    """A resource, or a part of one. Times are RFC 3339 in UTC, durations seconds."""

    model_config = ConfigDict(frozen=True)


class Page(View, Generic[Item]):
    """Some of many. ``next`` is the ``after`` of the next page; null on the last one."""

    items: list[Item]
    next: str | None


class Problem(View):
    """RFC 9457: what is wrong with a request."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class CourseView(View):
    """A course, without its tokens."""

    id: str
    weight: float
    concurrency: int | None
    pool: str


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


class LetterView(View):
    """A message that no service could handle. ``subject`` is course/run/job; ``body`` is cut to 64 KiB."""

    id: str
    message_id: str
    queue: str
    subject: str
    reason: str
    count: int
    first_at: datetime
    last_at: datetime
    body: str


class AssignmentView(View):
    """An assignment: its config as it was posted, how many students its roster has, and its hooks."""

    id: str
    config: dict[str, Any]
    students: int | None = Field(description="students of the roster; null without one")
    hooks: list[str]


class AssignmentName(View):
    """An assignment in a list."""

    id: str


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


class OrderView(View):
    """What a cancellation or a rerun did: the run's state after it, and the jobs concerned."""

    run: str
    state: str
    round: int
    jobs: list[str]


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


def course_view(course: Course) -> CourseView:
    return CourseView(id=course.id, weight=course.weight, concurrency=course.concurrency, pool=course.pool)


def run_fields(run: Run, *, students: int | None = None) -> dict[str, Any]:
    """What every view of a run has."""
    return {
        "id": run.id,
        "course": run.course,
        "assignment": run.assignment,
        "state": run.state.slug,
        "round": run.round,
        "students": students,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "success": run.success,
        "trigger": run.trigger,
    }


def run_detail(run: Run, jobs: Sequence[Job], stages: Mapping[str, Sequence[Mapping[str, Any]]]) -> RunDetail:
    """A run with its jobs, which are in the order of phases; ``stages`` are by job."""
    by_phase = [(phase, [job for job in jobs if job.phase is phase]) for phase in Phase]
    students = sum(job.phase is Phase.STUDENTS for job in jobs)
    return RunDetail(
        **run_fields(run, students=students),
        reason=_why_failed(jobs) if run.state is RunState.FAILED else "",
        phases=[_phase(phase, own) for phase, own in by_phase if own],
        jobs=[job_summary(job, stages.get(job.id, [])) for job in jobs],
    )


def _phase(phase: Phase, jobs: Sequence[Job]) -> PhaseView:
    started = [job.started_at for job in jobs if job.started_at]
    ended = [job.finished_at for job in jobs if job.is_terminal and job.finished_at]
    undone = [job for job in jobs if job.is_terminal and not job.success]
    is_over = len(ended) == len(jobs)
    return PhaseView(
        phase=phase.value,
        state="finished" if is_over else "running" if started else "queued",
        jobs=len(jobs),
        outcomes=Counter(job.outcome.value for job in jobs if job.outcome),
        queued_at=min(job.queued_at for job in jobs),
        started_at=min(started, default=None),
        finished_at=max(ended) if is_over else None,
        reason=_reason(undone[0]) if undone else "",
    )


def _why_failed(jobs: Sequence[Job]) -> str:
    """What has ended a run: whatever has ended last without success. What has gone on before has not."""
    undone = [(job.finished_at, job) for job in jobs if job.finished_at and not job.success]
    if not undone:
        return ""
    _, last = max(undone, key=itemgetter(0))
    return _reason(last) if last.outcome in _UNWANTED else f"{last.phase.value}: {_reason(last)}"


def _reason(job: Job) -> str:
    """Why a job has ended as it has; the original's jobs say only how."""
    return job.reason or (job.outcome.value if job.outcome else "")


_UNWANTED = (Outcome.CANCELLED, Outcome.SUPERSEDED)


def _summary(job: Job, stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "id": job.id,
        "phase": job.phase.value,
        "state": job.state.value,
        "outcome": job.outcome.value if job.outcome else None,
        "reason": job.reason,
        "fault_phase": job.fault_phase.value if job.fault_phase else None,
        "seconds": job.seconds if job.is_terminal else None,
        "queue_seconds": (job.started_at - job.queued_at).total_seconds() if job.started_at else None,
        "attempts": job.starts,
        "grader": job.worker_id,
        "queued_at": job.queued_at,
        "dispatched_at": job.dispatched_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "env": (stages[-1].get("env") or {}) if stages else {},
    }


def job_summary(job: Job, stages: Sequence[Mapping[str, Any]]) -> JobSummary:
    return JobSummary(**_summary(job, stages))


def job_view(job: Job, stages: Sequence[Mapping[str, Any]]) -> JobView:
    results = list(job.results or [])
    scores: Mapping[str, Any] = next((entry["scores"] for entry in reversed(results) if entry.get("scores")), {})
    return JobView(
        **_summary(job, stages),
        run=job.run_id,
        course=job.course,
        assignment=job.assignment,
        generation=job.generation,
        executions=[attempt_view(attempt) for attempt in job.attempts],
        stages=list(_stages(stages, results, "" if job.outcome in _UNWANTED else job.reason)),
        score=scores.get("score"),
        max_score=scores.get("max_score"),
        results=scores.get("document"),
    )


def attempt_view(attempt: Attempt) -> AttemptView:
    return AttemptView(
        id=attempt.execution_id,
        grader=attempt.grader_id,
        generation=attempt.generation,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        outcome=attempt.outcome.value if attempt.outcome else None,
        reason=attempt.reason,
        given_back=attempt.released,
    )


def hook_view(each: Hook) -> HookView:
    config = each.config
    return HookView(
        name=each.name,
        url=f"/api/v2/courses/{each.course}/hooks/{each.name}",
        assignment=config.assignment,
        format=config.format.value,
        secrets=len(config.secrets),
        branches=list(config.branches),
        tags=list(config.tags),
        only_latest=config.only_latest,
        quota=config.quota,
    )


def delivery_view(delivery: Delivery) -> DeliveryView:
    return DeliveryView(**_delivery(delivery))


def delivery_detail(delivery: Delivery) -> DeliveryDetail:
    return DeliveryDetail(**_delivery(delivery), body=delivery.body)


def _delivery(delivery: Delivery) -> dict[str, Any]:
    push = delivery.push
    return {
        "id": delivery.id,
        "hook": delivery.hook,
        "delivery": delivery.delivery_id,
        "state": delivery.state,
        "reason": delivery.reason,
        "assignment": delivery.assignment,
        "student": delivery.student,
        "version": push.version if push else None,
        "ref": push.ref if push else None,
        "repository": push.repository if push else None,
        "run": delivery.run_id,
        "job": job_id(delivery.run_id, Phase.STUDENTS, 0) if delivery.run_id else None,
        "received_at": delivery.received_at,
        "retry_at": delivery.retry_at,
        "times": delivery.times,
    }


def letter_view(letter: Letter) -> LetterView:
    body = letter.body[:MAX_LETTER].decode(errors="replace")
    return LetterView.model_validate({**asdict(letter), "body": body})


def log_lines(text: str, results: Sequence[Mapping[str, Any]]) -> list[LogLine]:
    """A job's log by line: the stage's index, when the line came, from which stream, and what it says.

    Of graders that do not tell streams, all is one stream's, and of no known stage.
    """
    lines = iter(text.removesuffix("\n").split("\n") if text else [])  # other ends of lines are the program's
    told = [_line(line, index, stream) for index, stream, line in _streams(lines, results)]
    return told + [_line(line, None, 0) for line in lines]


def _streams(lines: Iterator[str], results: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, int, str]]:
    for index, entry in enumerate(results):
        for stream, count in entry.get("streams") or []:
            for line in islice(lines, count):
                yield index, stream, line


def _line(line: str, stage: int | None, stream: int) -> LogLine:
    at, _, text = line.partition(" ") if _STAMP.match(line) else ("", "", line)
    return LogLine(stage=stage, at=at or None, stream=_STREAMS.get(stream), text=text)


_STREAMS = {1: "stdout", 2: "stderr"}
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z ")


def _stages(
    stages: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]], reason: str
) -> Iterable[StageView]:
    """The stages of a job that has ended for ``reason``, if it has: that of the last stage which ran."""
    for index, stage in enumerate(stages):
        entry = results[index] if index < len(results) else {}
        data = entry.get("data")
        state: Mapping[str, Any] = data if isinstance(data, dict) else {}
        usage = entry.get("usage")
        yield StageView(
            image=_of(str, stage.get("image")),
            untrusted=bool(stage.get("untrusted")),
            success=_of(bool, entry.get("success")),
            killed=_of(bool, entry.get("killed")),
            killed_for=_of(str, entry.get("killed_for")),
            exit_code=_of(int, state.get("ExitCode")),
            signal=_of(int, entry.get("signal")),
            out_of_memory=_of(bool, state.get("OOMKilled")),
            started_at=_time(state.get("StartedAt")),
            finished_at=_time(state.get("FinishedAt")),
            reason=reason if index == len(results) - 1 else "",
            usage=usage if isinstance(usage, dict) else None,
        )


def _time(text: object) -> datetime | None:
    """A time as Docker tells it, in the year 1 if there is none."""
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return time.replace(tzinfo=time.tzinfo or UTC) if time and time.year > 1 else None


Kind = TypeVar("Kind")


def _of(kind: type[Kind], value: object) -> Kind | None:
    """What other graders report may be anything."""
    return value if isinstance(value, kind) else None
