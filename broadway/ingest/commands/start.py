"""Starting runs over given environments, or over an assignment's roster."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Protocol, Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, model_validator

from broadway.domain.assignment import Env
from broadway.domain.course import MAX_STUDENTS, Course
from broadway.domain.roster import Student
from broadway.domain.run import Run
from broadway.domain.submission import VARIABLE, LatestSubmission
from broadway.ingest.commands.limits import check_not_reserved
from broadway.ingest.commands.submit import (
    NewRun,
    NewRuns,
    RunRequest,
    StoredRun,
    digest_of,
    run_id_of,
)
from broadway.lifecycle.announce import Announcements
from broadway.lifecycle.orders import RUN_NOT_FOUND, NoRunError
from broadway.lifecycle.steps import RunSteps
from broadway.lifecycle.stores import AssignmentConfigs, AssignmentRosters
from broadway.runtime import fault_history
from broadway.runtime.threads import beside

log = structlog.get_logger(__name__)

NO_SUCH_ASSIGNMENT = "this course has no such assignment"


class RunOrder(BaseModel):
    """The jobs of a new run: ``students`` of the roster, or ``students_env`` with an environment for each job."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    students: Literal["all"] | Annotated[list[Student], Field(max_length=MAX_STUDENTS)] | None = None
    students_env: Annotated[list[Env], Field(max_length=MAX_STUDENTS)] | None = None
    pre_processing_env: Env = {}
    post_processing_env: Env = {}

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.students is None) is (self.students_env is None):
            raise ValueError("expected either students or students_env")
        return self


class NoAssignmentError(LookupError):
    """The course has no such assignment."""


class NotInRosterError(ValueError):
    """The assignment has no roster, or the roster has no such student; the text says so."""


class LatestSubmissions(Protocol):
    """The latest submissions of students."""

    async def latest_ids(
        self, course: str, assignment: str, students: AbstractSet[str]
    ) -> Mapping[str, LatestSubmission]:
        """Return the latest submission of each of some students, by student; those without one are left out."""


@dataclass(frozen=True, slots=True)
class RunStarts:
    """Stores runs and announces their first steps, in that order."""

    new_runs: NewRuns
    runs: RunSteps
    assignments: AssignmentConfigs
    rosters: AssignmentRosters
    announcements: Announcements
    latest: LatestSubmissions

    async def start(
        self, course: Course, assignment: str, request: RunRequest, *, key: str | None, traceparent: str
    ) -> str:
        """Start a run over environments; return its id.

        Raises:
            RejectedError: The run does not fit the assignment, or is not allowed; nothing is stored.
            KeyReusedError: Another request had that key; nothing is stored.
            UnstorableError: The run is too large for the store; nothing is stored.
        """
        new_run = NewRun(course, assignment, request, traceparent=traceparent)
        stored = await self.new_runs.submit(new_run, key=key)
        self._begin(stored, course=course.id, students=len(request.students_env))
        return stored.run_id

    async def start_over_roster(
        self, course: Course, assignment: str, order: RunOrder, *, key: str | None, traceparent: str
    ) -> Run:
        """Start a run over the students or environments that an order names; return it with its number of students.

        With the key of an earlier, equal order, return the run of that order, even if the roster has changed.

        Raises:
            NoAssignmentError: The course has no such assignment.
            NotInRosterError: The order needs a roster that is missing, or names a student that is not in it.
            NoRunError: The run was removed right after it was stored.
            RejectedError: As ``start``.
            KeyReusedError: As ``start``.
            UnstorableError: As ``start``.
        """
        if await self.assignments.get(course.id, assignment) is None:
            raise NoAssignmentError(NO_SUCH_ASSIGNMENT)
        stored = await self._repeated(course.id, assignment, order, key) if key else None
        if stored is None:
            _check_reserved(order)
            request = await self._resolve(course.id, assignment, order)
            new_run = NewRun(course, assignment, request, traceparent=traceparent, asked=order)
            stored = await self.new_runs.submit(new_run, key=key)
        run = await self.runs.summary(stored.run_id)
        if run is not None and run.students is None:  # an earlier version stored it
            run = await self.runs.get(stored.run_id)
        if run is None:
            raise NoRunError(RUN_NOT_FOUND)
        run = replace(run, students=len(run.students_env) if run.students is None else run.students)
        self._begin(stored, course=course.id, students=run.students or 0)
        return run

    async def _repeated(self, course: str, assignment: str, order: RunOrder, key: str) -> StoredRun | None:
        given = order.students_env or (order.students if isinstance(order.students, list) else ())
        digest = await beside(len(given), digest_of, assignment, order)
        return await self.new_runs.repeated(run_id_of(course, key), digest)

    def _begin(self, stored: StoredRun, *, course: str, students: int) -> None:
        fault_history.note("submitted", run=stored.run_id, course=course, students=students)
        if step := stored.step:
            jobs = len(step.queued) if step.is_stored else students
            log.info("run submitted", assignment=step.run.assignment, jobs=jobs, **step.run.context)
            promised = 0 if step.is_stored else students
            backlogs = self.new_runs.backlogs
            backlogs.promise(course, promised)
            self.announcements.step(step, then=lambda: backlogs.fulfil(course, promised))

    async def _resolve(self, course: str, assignment: str, order: RunOrder) -> RunRequest:
        """Return the order as a request, with the environments of its students."""
        given: dict[str, Any] = order.model_dump(exclude_unset=True, exclude={"students"})
        if order.students is None:
            return RunRequest(**given)
        roster = await self.rosters.get(course, assignment)
        if roster is None:
            raise NotInRosterError("students: this assignment has no roster; import one, or give students_env")
        named = [entry.student for entry in roster.students] if order.students == "all" else order.students
        entries = {entry.student: entry for entry in roster.students}
        if unknown := [student for student in named if student not in entries]:
            raise NotInRosterError(f"students: {unknown[0]} is not in the roster of {assignment}")
        handed_in = await self.latest.latest_ids(course, assignment, set(named))
        envs = [
            {**entries[student].env, "BROADWAY_STUDENT": student, **_own(handed_in.get(student))} for student in named
        ]
        return RunRequest(**given, students_env=envs)


def _own(submission: LatestSubmission | None) -> Env:
    """Return Broadway's own variables for the job of a submission."""
    return {VARIABLE: submission.id, "BROADWAY_SUBMITTED_AT": submission.at.isoformat()} if submission else {}


def _check_reserved(order: RunOrder) -> None:
    """Refuse variables of Broadway's own in an order."""
    for index, env in enumerate(order.students_env or ()):
        check_not_reserved(f"students_env.{index}", env)
    for name in ("pre_processing_env", "post_processing_env"):
        check_not_reserved(name, getattr(order, name))
