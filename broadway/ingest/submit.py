"""Submitting: registering an assignment's pipelines, and starting a run. Pure of HTTP."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from secrets import token_hex
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from broadway.assignment import AssignmentConfig, Env, Pipeline, Stage, longest_run, memory_bytes
from broadway.course import Course
from broadway.crashpoints import Point, reach
from broadway.job import Phase
from broadway.phases import Advanced, PhaseJobs, RunStore, advance, begin
from broadway.run import PIPELINE_OF, PlannedJob, Run, RunState, plan_jobs


class RunRequest(BaseModel):
    """What ``POST /grading_run`` takes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    students_env: list[Env]
    pre_processing_env: Env = {}
    post_processing_env: Env = {}


class RejectedError(ValueError):
    """A submission that makes no sense; the text says why."""


class KeyReusedError(ValueError):
    """A submission came with the idempotency key of another one."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A run that is stored, and its first step, which is still to be announced; None if somebody else does that."""

    run_id: str
    step: Advanced | None


class Runs(RunStore, Protocol):
    """The part of the run store that submitting needs."""

    async def insert(self, run: Run) -> bool: ...


class Jobs(PhaseJobs, Protocol):
    """The part of the job store that submitting needs."""

    def check(self, planned: Sequence[PlannedJob]) -> None: ...


class Assignments(Protocol):
    """The part of the assignment store that submitting needs."""

    async def get(self, course: str, assignment: str) -> dict[str, Any] | None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator lets courses ask for. ``images`` are patterns with ``*`` and ``?``."""

    max_job_seconds: float
    allow_privileged: bool = False
    images: Sequence[str] = ("*",)
    max_memory: str | None = None


def check_limits(config: AssignmentConfig, limits: Limits) -> None:
    """Compare an assignment with what the operator allows.

    Raises:
        RejectedError: It asks for more; the text names the pipeline, the stage and the key.
    """
    for key in PIPELINE_OF.values():
        pipeline: Pipeline = getattr(config, key) or []
        for index, stage in enumerate(pipeline):
            if problem := _problem(stage, limits):
                raise RejectedError(f"{key}.{index}.{problem}")
        seconds = longest_run([stage.model_dump() for stage in pipeline])
        if seconds > limits.max_job_seconds:
            raise RejectedError(
                f"{key}: its stages may run {seconds:g} s together, {limits.max_job_seconds:g} s are allowed for a job"
            )


def _problem(stage: Stage, limits: Limits) -> str | None:
    """The first key of a stage that asks for too much, and why."""
    if stage.privileged and not limits.allow_privileged:
        return "privileged: privileged containers are not allowed on this server"
    if not any(fnmatchcase(stage.image, pattern) for pattern in limits.images):
        return f"image: {stage.image} is none of the images that this server allows: {', '.join(limits.images)}"
    if limits.max_memory and memory_bytes(stage.memory) > memory_bytes(limits.max_memory):
        return f"memory: {stage.memory} is more than a stage may have on this server, {limits.max_memory}"
    return None


async def submit(
    course: Course,
    assignment: str,
    request: RunRequest,
    *,
    assignments: Assignments,
    runs: Runs,
    jobs: Jobs,
    key: str | None = None,
) -> Submitted:
    """Store a run and the jobs of its first phase, so that every read shows them.

    ``key`` is the client's name for this submission: however often it comes with that, it makes one run.

    Raises:
        RejectedError: The run does not fit the assignment; nothing is stored.
        KeyReusedError: Another submission had that key; nothing is stored.
        UnstorableError: The run is too large for the store; nothing is stored.
    """
    digest = _digest(assignment, request) if key else None
    run_id = _run_id(course, key) if key else token_hex(12)
    known = await _known(run_id, digest, runs) if key else None
    if known is None:
        run = await _new_run(run_id, course, assignment, request, assignments=assignments, jobs=jobs)
        run = replace(run, request_digest=digest)
        await reach(Point.SUBMIT_CHECKED)
        if await runs.insert(run):
            await reach(Point.SUBMIT_STORED)
            step = await begin(run, runs=runs, jobs=jobs)
            await reach(Point.SUBMIT_STEPPED)
            return Submitted(run_id, step)
        known = await _known(run_id, digest, runs)  # the same came at the same time
    if known and known.state is not RunState.READY:
        return Submitted(run_id, None)
    # Whoever stored it may still be about to take its first step, or dead.
    return Submitted(run_id, await advance(run_id, runs=runs, jobs=jobs))


def _run_id(course: Course, key: str) -> str:
    """The same for the same key, so that the store's own uniqueness of ids keeps it to one run."""
    return hashlib.sha256(f"{course.id}/{key}".encode()).hexdigest()[:24]


def _digest(assignment: str, request: RunRequest) -> str:
    body = json.dumps([assignment, request.model_dump(exclude_unset=True)], sort_keys=True)
    return hashlib.sha256(body.encode()).hexdigest()


async def _known(run_id: str, digest: str | None, runs: Runs) -> Run | None:
    """The run of an earlier submission with the same key."""
    known = await runs.summary(run_id)
    if known and known.request_digest != digest:
        raise KeyReusedError("Idempotency-Key: another submission had the same one")
    return known


async def _new_run(
    run_id: str, course: Course, assignment: str, request: RunRequest, *, assignments: Assignments, jobs: Jobs
) -> Run:
    config = await assignments.get(course.id, assignment)
    if config is None:
        raise RejectedError("assignment configuration not found")
    _check_fit(config, request)
    given = request.model_fields_set
    run = Run(
        id=run_id,
        course=course.id,
        assignment=assignment,
        state=RunState.READY,
        started_at=datetime.now(UTC),
        config=config,
        students_env=request.students_env,
        pre_processing_env=request.pre_processing_env if "pre_processing_env" in given else None,
        post_processing_env=request.post_processing_env if "post_processing_env" in given else None,
        pool=course.pool,
    )
    for phase in Phase:
        jobs.check(plan_jobs(run, phase, run.started_at))
    return run


def _check_fit(config: Mapping[str, Any], request: RunRequest) -> None:
    for kind in ("pre", "post"):
        if f"{kind}_processing_env" in request.model_fields_set and not config.get(f"{kind}_processing_pipeline"):
            raise RejectedError(
                f"{kind}-processing runtime environment provided, "
                f"but no {kind}-processing stage was associated with this assignment"
            )
    for key in PIPELINE_OF.values():
        if any(stage is None for stage in config.get(key) or []):
            raise RejectedError(f"{key} of this assignment has an empty stage; register the assignment again")
    if not config.get("student_pipeline"):
        raise RejectedError("student_pipeline of this assignment has no stage; register the assignment again")
