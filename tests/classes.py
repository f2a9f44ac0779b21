"""Classes of students in the real store: submissions with the outcomes and marks of their jobs, without graders."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from secrets import token_hex
from typing import Any

from harness import stage

from broadway.domain.assignment_settings import AssignmentSettings, SettingsVersion
from broadway.domain.job import Attempt, Execution, Job, Outcome, Phase, RetryPolicy
from broadway.domain.marks import Marks
from broadway.domain.moves import Move
from broadway.domain.report import Source
from broadway.domain.roster import Roster, RosterEntry
from broadway.domain.run import PlannedJob, Run, RunState, plan_jobs
from broadway.domain.submission import VARIABLE, Submission, submission_id
from broadway.ingest.grade_composition import grade_reads
from broadway.ingest.reads.grades import GradeReads
from broadway.mongo.store import Store

CONFIG: dict[str, Any] = {"student_pipeline": [stage()]}
POLICY = RetryPolicy(max_attempts=1)
IMAGE = "sha256:" + "ab" * 32
BATCH = 500


@dataclass(frozen=True)
class HandIn:
    """A submission of a student: its time and its result; without an outcome it waits. A push has no files."""

    student: str
    at: datetime
    outcome: Outcome | None = Outcome.SUCCEEDED
    score: str | None = "10"
    number: int = 1
    is_push: bool = False


@dataclass
class Class:
    """An assignment of a course with its students."""

    store: Store
    course: str
    assignment: str = "mp1"

    @property
    def reads(self) -> GradeReads:
        return grade_reads(self.store)

    async def prepare(
        self, students: Iterable[str | RosterEntry], settings: Mapping[str, Any], *, version: int = 1
    ) -> None:
        """Store the assignment's config, settings and roster."""
        await self.store.assignments.put(self.course, self.assignment, CONFIG)
        stored = SettingsVersion(AssignmentSettings.model_validate(settings), version, datetime.now(UTC), "staff")
        assert await self.store.assignment_settings.add(self.course, self.assignment, stored)
        entries = [each if isinstance(each, RosterEntry) else RosterEntry(student=each) for each in students]
        await self.store.rosters.put(self.course, self.assignment, Roster(students=tuple(entries)))

    def submission(self, student: str, number: int = 1) -> str:
        """Return the id of a student's submission."""
        return submission_id(self.course, self.assignment, student, f"{student}-{number}")

    async def hand_in(self, *handed_in: HandIn, run: str | None = None) -> None:
        """Store submissions, with a job of one run that grades them."""
        submissions = [self.submitted(each) for each in handed_in if not each.is_push]
        for each in submissions:
            assert await self.store.submissions.add(each)
        await self.grade(handed_in, run=run)

    async def grade(
        self,
        handed_in: Sequence[HandIn],
        *,
        run: str | None = None,
        trigger: Mapping[str, Any] | None = None,
        of: str | None = None,
    ) -> list[str]:
        """Store a run that grades submissions, and the outcomes of its jobs; return the ids of the jobs.

        The submissions are those of the student ``of`` if it is given, whatever students the environments name.
        """
        planned = self._planned(handed_in, run or token_hex(12), trigger, of)
        await self.store.jobs.insert(planned)
        jobs = [each.job.id for each in planned]
        moves = {job: finished(each) for job, each in zip(jobs, handed_in, strict=True) if each.outcome}
        ids = list(moves)
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            await self.store.jobs.move(dict.fromkeys(some, started))
            await self.store.jobs.move({job: moves[job] for job in some})
        return jobs

    def _planned(
        self, handed_in: Sequence[HandIn], run: str, trigger: Mapping[str, Any] | None, of: str | None
    ) -> list[PlannedJob]:
        envs = [
            {
                **({} if each.is_push else {VARIABLE: self.submission(of or each.student, each.number)}),
                "BROADWAY_STUDENT": each.student,
                "BROADWAY_SUBMITTED_AT": each.at.isoformat(),
            }
            for each in handed_in
        ]
        now = datetime.now(UTC)
        stored = Run(
            run, self.course, self.assignment, RunState.STUDENTS, now, CONFIG, students_env=envs, trigger=trigger
        )
        return plan_jobs(stored, Phase.STUDENTS, now)

    def submitted(self, handed_in: HandIn) -> Submission:
        """Return the stored form of an upload."""
        return Submission(
            id=self.submission(handed_in.student, handed_in.number),
            course=self.course,
            assignment=self.assignment,
            student=handed_in.student,
            at=handed_in.at,
            files=(),
            digest="d",
        )


def started(job: Job) -> Job:
    """Start a job."""
    now = datetime.now(UTC)
    return job.start(Attempt(f"e-{job.id}", "g1", now), lease=timedelta(minutes=1), policy=POLICY, now=now)


def finished(handed_in: HandIn) -> Move:
    """Return the move that ends a job as a submission says."""
    score = handed_in.score
    marks = Marks() if score is None else Marks(Source.AUTOLAB, Decimal(score), Decimal(10))

    def move(job: Job) -> Job:
        now = datetime.now(UTC)
        execution = Execution(
            f"e-{job.id}",
            "g1",
            now,
            now,
            handed_in.outcome or Outcome.SUCCEEDED,
            results=[{"success": True, "data": {}, "usage": {"image": IMAGE}}],
            marks=marks,
        )
        return job.finish(execution, policy=POLICY, now=now)

    return move
