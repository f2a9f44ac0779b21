"""New runs: check the requests for them, and store them. Pure of HTTP."""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from secrets import token_hex
from typing import Annotated, Any
from weakref import WeakValueDictionary

from pydantic import BaseModel, ConfigDict, Field

from broadway.domain import trace
from broadway.domain.assignment import Env
from broadway.domain.course import MAX_STUDENTS, Course
from broadway.domain.job import Phase
from broadway.domain.run import PIPELINE_OF, Run, RunState, plan_jobs
from broadway.ingest.commands.backlogs import Backlogs
from broadway.ingest.commands.job_sizes import check_jobs
from broadway.ingest.commands.limits import Limits, QuotaError, RejectedError, allowed, check_env
from broadway.ingest.commands.stores import SubmittedJobs
from broadway.lifecycle.phases import begin
from broadway.lifecycle.steps import AT_ONCE, RunSteps, Step, complete
from broadway.lifecycle.stores import AssignmentConfigs
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.threads import beside


class RunRequest(BaseModel):
    """The body of ``POST /grading_run``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    students_env: Annotated[list[Env], Field(max_length=MAX_STUDENTS)]
    pre_processing_env: Env = {}
    post_processing_env: Env = {}


class KeyReusedError(ValueError):
    """A request has the idempotency key of a different one."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A request for a run. ``trigger`` describes its webhook delivery, if any, and ``traceparent`` is its request's.

    ``asked`` is the client's own body if ``request`` was derived from it, as for all students of a roster.
    """

    course: Course
    assignment: str
    request: RunRequest
    trigger: Mapping[str, Any] | None = None
    traceparent: str | None = None
    asked: BaseModel | None = None

    @property
    def digest(self) -> str:
        """The digest of the client's body: equal for equal bodies."""
        return digest_of(self.assignment, self.asked or self.request)


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A stored run, and its first step, which the caller must announce; None if another request announces it."""

    run_id: str
    step: Step | None


@dataclass(slots=True, weakref_slot=True)
class _Keyed:
    """The requests with one key that are in progress: they take turns, and repeats share the first one's run."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class NewRuns:
    """Checks requests for runs and stores these, one run per idempotency key."""

    assignments: AssignmentConfigs
    runs: RunSteps
    jobs: SubmittedJobs
    limits: Limits
    backlogs: Backlogs
    _keyed: WeakValueDictionary[str, _Keyed] = field(default_factory=WeakValueDictionary)

    async def submit(self, new_run: NewRun, *, key: str | None = None) -> StoredRun:
        """Store a run and the jobs of its first phase, so that every read shows them.

        The jobs of a run with more than ``AT_ONCE`` students are stored when its step is announced.

        ``key`` is the client's name for this run: repeats with it make one run.

        Raises:
            RejectedError: The run does not fit the assignment, or it or its config exceeds a limit; nothing is stored.
            KeyReusedError: Another request had that key; nothing is stored.
            UnstorableError: The run is too large for the store; nothing is stored.
        """
        if key is None:
            return await self._store(token_hex(12), new_run)
        run_id = run_id_of(new_run.course.id, key)
        digest = await beside(len(new_run.request.students_env), lambda: new_run.digest)
        keyed = self._keyed.setdefault(run_id, _Keyed())
        async with keyed.turn:
            if keyed.digest == digest:
                return StoredRun(run_id, None)
            stored = await self._store_once(run_id, new_run, digest)
            keyed.digest = digest
        return stored

    async def repeated(self, run_id: str, digest: str) -> StoredRun | None:
        """Return the result of an earlier request with the same idempotency key, or None.

        ``run_id`` is the id that the key gives a run.

        Raises:
            KeyReusedError: The earlier request had a different body.
        """
        known = await _known(run_id, digest, self.runs)
        if known and known.publish_at and (known.students or 0) <= AT_ONCE:
            # The process that stored the run may have died before it stored the jobs.
            await complete(run_id, runs=self.runs, jobs=self.jobs)
        return StoredRun(run_id, None) if known else None

    async def _store_once(self, run_id: str, new_run: NewRun, digest: str) -> StoredRun:
        try:
            stored = await self._store(run_id, new_run, digest)
        except RejectedError:
            # The assignment may have changed since an earlier request with this key was accepted.
            if await _known(run_id, digest, self.runs) is None:
                raise
            return StoredRun(run_id, None)
        if stored.step:
            return stored
        return await self.repeated(run_id, digest) or StoredRun(run_id, None)

    async def _store(self, run_id: str, new_run: NewRun, digest: str | None = None) -> StoredRun:
        run = await self._new_run(run_id, new_run)
        await reach(Point.SUBMIT_CHECKED)
        return StoredRun(run_id, await begin(replace(run, request_digest=digest), runs=self.runs, jobs=self.jobs))

    async def _new_run(self, run_id: str, new_run: NewRun) -> Run:
        course, request = new_run.course, new_run.request
        config = await self.assignments.get(course.id, new_run.assignment)
        if config is None:
            raise RejectedError("assignment configuration not found")
        limits, students = self.limits.of_course(course), len(request.students_env)
        run = await beside(students, self._checked, run_id, new_run, config, limits)
        await self.backlogs.demand_room(course.id, max(1, students), most=limits.waiting_jobs)
        return run

    def _checked(self, run_id: str, new_run: NewRun, config: Mapping[str, Any], limits: Limits) -> Run:
        """Return a new run if it fits its assignment, the limits and the store."""
        course, request = new_run.course, new_run.request
        _check_fit(config, request, limits)
        given = request.model_fields_set
        run = Run(
            id=run_id,
            course=course.id,
            assignment=new_run.assignment,
            state=RunState.READY,
            started_at=datetime.now(UTC),
            config=allowed(config, limits, course=course.id),
            students_env=request.students_env,
            pre_processing_env=request.pre_processing_env if "pre_processing_env" in given else None,
            post_processing_env=request.post_processing_env if "post_processing_env" in given else None,
            pool=course.pool,
            trigger=new_run.trigger,
            traceparent=new_run.traceparent or trace.begun(),
            students=len(request.students_env),
        )
        check_jobs(run)
        for phase in Phase:
            self.jobs.check(plan_jobs(run, phase, run.started_at))
        return run


def digest_of(assignment: str, asked: BaseModel) -> str:
    """Return the digest of a client's request: equal for equal requests, different for different ones."""
    body = json.dumps([assignment, asked.model_dump(exclude_unset=True)], sort_keys=True)
    return hashlib.sha256(body.encode()).hexdigest()


def run_id_of(course_id: str, key: str) -> str:
    """Return the id of the run that is submitted with a key; the store's unique ids prevent a second one."""
    return hashlib.sha256(f"{course_id}/{key}".encode()).hexdigest()[:24]


async def _known(run_id: str, digest: str, runs: RunSteps) -> Run | None:
    """Return the run of an earlier request with the same key, or None.

    Raises:
        KeyReusedError: That request had a different digest.
    """
    known = await runs.summary(run_id)
    if known and known.request_digest != digest:
        raise KeyReusedError("Idempotency-Key: another submission had the same one")
    return known


def _check_fit(config: Mapping[str, Any], request: RunRequest, limits: Limits) -> None:
    if len(request.students_env) > limits.students:
        raise QuotaError(
            f"students_env: has {len(request.students_env)} students, {limits.students} are allowed for a run"
        )
    for index, env in enumerate(request.students_env):
        check_env(f"students_env.{index}", env)
    for kind in ("pre", "post"):
        check_env(f"{kind}_processing_env", getattr(request, f"{kind}_processing_env"))
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
