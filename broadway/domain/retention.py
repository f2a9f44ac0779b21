"""Retention: how long old things are kept, and which students' works no grade can need any more. Pure.

A rule is a number of days, or None to keep everything. A course may replace the deployment's rules by its own.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from broadway.domain.grade_book import BookEntry
from broadway.domain.results_of_work import Result

MIN_DAYS, MAX_DAYS = 1, 36_500
KEEP: Literal["keep"] = "keep"
NOTED_DAYS = 400  # for which an answer about a removed run or submission says when it was removed

Days = Annotated[int, Field(ge=MIN_DAYS, le=MAX_DAYS)]
Rule = Days | Literal["keep"] | None


class Kind(StrEnum):
    """The kinds of things that are removed, as they are counted."""

    SUBMISSIONS = "submissions"
    RUNS = "runs"
    JOBS = "jobs"
    LOGS = "logs"
    DELIVERIES = "deliveries"
    TOKENS = "tokens"
    DEAD_LETTERS = "dead_letters"
    GRADERS = "graders"


class CourseRules(BaseModel):
    """A course's own rules: days, `keep`, or None for the deployment's rule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    works: Rule = None
    logs: Rule = None
    regrades: Rule = None
    deliveries: Rule = None
    tokens: Rule = None


NO_RULES = CourseRules()


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules in force: days, or None to keep.

    ``works`` are submissions and runs, with all that belongs to them, that no grade needs. ``regrades`` are the runs of
    discarded regrades. ``tokens`` have expired or were revoked. The last two rules have no course.
    """

    works: int | None = None
    logs: int | None = None
    regrades: int | None = None
    deliveries: int | None = None
    tokens: int | None = None
    dead_letters: int | None = None
    graders: int | None = None

    def of_course(self, own: CourseRules) -> "Policy":
        """Return the rules of a course, given its own."""
        given = {name: rule for name, rule in own.model_dump().items() if rule is not None}
        days = {name: None if rule == KEEP else rule for name, rule in given.items()}
        return replace(self, **days, dead_letters=None, graders=None)

    @property
    def of_deployment(self) -> "Policy":
        """The rules for things without a course."""
        return Policy(tokens=self.tokens, dead_letters=self.dead_letters, graders=self.graders)

    @property
    def removes(self) -> bool:
        """True if a rule removes anything."""
        return any(days is not None for days in asdict(self).values())


def cutoff(days: int, now: datetime) -> datetime:
    """Return the moment before which things are older than a number of days."""
    return now - timedelta(days=days)


@dataclass(frozen=True, slots=True)
class Pass:
    """One application of a course's rules; with ``is_dry`` it removes nothing. ``counts`` has numbers by kind.

    ``kept`` says, by assignment, why works that are old enough stay.
    """

    id: str
    is_dry: bool
    ordered_at: datetime
    by: str = ""
    ended_at: datetime | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Removed:
    """The note of a run or a submission that was removed: its kind, its course and the time."""

    kind: str
    course: str
    at: datetime

    @property
    def text(self) -> str:
        """The answer about it."""
        return f"this {self.kind} was deleted by retention on {self.at:%Y-%m-%d}"


@dataclass(frozen=True, slots=True)
class State:
    """The stored state of a course's retention: its own rules, the pass that is ordered, and the last ones."""

    course: str
    rules: CourseRules = NO_RULES
    ordered: Pass | None = None
    last: Pass | None = None
    last_dry: Pass | None = None


@dataclass(frozen=True, slots=True)
class OldJob:
    """A job of an old run: its executions, and the work that it grades, or None."""

    id: str
    generation: int
    executions: frozenset[str]
    work: str | None = None


@dataclass(frozen=True, slots=True)
class OldRun:
    """A run that ended long ago."""

    id: str
    round: int
    jobs: tuple[OldJob, ...]

    @property
    def works(self) -> frozenset[str]:
        """The works that its jobs grade."""
        return frozenset(job.work for job in self.jobs if job.work)


@dataclass(frozen=True, slots=True)
class Referred:
    """The works, jobs and executions to which grade books refer."""

    works: frozenset[str] = frozenset()
    jobs: frozenset[str] = frozenset()
    executions: frozenset[str] = frozenset()

    @classmethod
    def by(cls, entries: Iterable[BookEntry], also: Iterable[str] = ()) -> "Referred":
        """Return the references of entries, and further works."""
        known = list(entries)
        return cls(
            frozenset(each.grade.submission for each in known if each.grade.submission) | frozenset(also),
            frozenset(each.job for each in known if each.job),
            frozenset().union(*(each.executions for each in known)),
        )

    def has_job(self, job: OldJob) -> bool:
        """Return whether a grade book refers to a job or to one of its executions."""
        return job.id in self.jobs or not self.executions.isdisjoint(job.executions)

    def has_result(self, result: Result) -> bool:
        """Return whether a grade book refers to a result."""
        return result.job in self.jobs or result.execution in self.executions


@dataclass(frozen=True, slots=True)
class OldWork:
    """A work that is old enough: the student or the group that handed it in, and the jobs that have graded it."""

    id: str
    student: str
    jobs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Chosen:
    """The works and runs of an assignment to remove. ``kept`` is the reason why all works stay, or empty.

    ``state`` are the decisions of people on which the choice depends, as they were before it.
    """

    works: Sequence[str] = ()
    runs: Sequence[OldRun] = ()
    kept: str = ""
    state: object = None


def old_works(
    received: Mapping[str, tuple[str, datetime]], results: Iterable[Result], before: datetime, referred: Referred
) -> dict[str, OldWork]:
    """Return the works that were handed in and graded before a moment, and to which no grade book refers, by id.

    ``received`` has the students and times of uploads by id.
    """
    found = {work: OldWork(work, student) for work, (student, at) in received.items() if at < before}
    newer = {work for work, (_, at) in received.items() if at >= before}
    for each in results:
        work = each.handed_in
        if referred.has_result(each) or max(work.at, each.finished_at) >= before:
            newer.add(work.id)
        elif not work.regrade:
            known = found.get(work.id) or OldWork(work.id, work.student)
            found[work.id] = replace(known, jobs=known.jobs | {each.job} if each.job else known.jobs)
    return {work: each for work, each in found.items() if work not in newer | referred.works}


def removable(
    works: Collection[OldWork], runs: Sequence[OldRun], referred: Referred
) -> tuple[dict[str, OldWork], list[OldRun]]:
    """Return the works and the runs that can be removed together: a work with all its runs, a run with all its works.

    Runs that grade no works are among them.
    """
    free = [run for run in runs if not any(referred.has_job(job) for job in run.jobs)]
    left = {each.id: each for each in works}
    while True:
        gone = [run for run in free if run.works <= left.keys()]
        jobs = {job.id for run in gone for job in run.jobs}
        kept = {each.id: each for each in left.values() if each.jobs <= jobs}
        if len(kept) == len(left):
            return left, gone
        left = kept


def together(works: Collection[str], runs: Sequence[OldRun]) -> Iterator[tuple[list[str], list[OldRun]]]:
    """Yield chosen works and runs in the smallest groups: a work with all its runs, a run with all its works."""
    of_work: dict[str, list[OldRun]] = {work: [] for work in works}
    for run in runs:
        for work in run.works:
            of_work.setdefault(work, []).append(run)
    left = dict.fromkeys(of_work)
    while left:
        todo, found, own = [left.popitem()[0]], list[str](), dict[str, OldRun]()
        while todo:
            found.append(todo.pop())
            own |= {run.id: run for run in of_work[found[-1]]}
            near = {work for run in of_work[found[-1]] for work in run.works if work in left}
            todo += near
            for work in near:
                del left[work]
        yield found, list(own.values())
    yield from (([], [run]) for run in runs if not run.works)


def changed(before: Iterable[BookEntry], after: Iterable[BookEntry]) -> set[str]:
    """Return the students whose grade, state, counting work or late days differ in two drafts."""
    earlier, later = ({each.student: _decided(each) for each in some} for some in (before, after))
    return {name for name in earlier.keys() | later.keys() if earlier.get(name) != later.get(name)}


def _decided(entry: BookEntry) -> tuple[Any, ...]:
    grade = entry.grade
    about = (grade.status, grade.points, grade.max, grade.submission, grade.submitted_at, grade.late_days)
    return *about, grade.unsettled, entry.job, entry.execution


def open_students(entries: Iterable[BookEntry], now: datetime) -> set[str]:
    """Return the students who may still hand in: their earlier works decide how many attempts are left."""
    return {each.student for each in entries if each.grade.closes_at is None or each.grade.closes_at >= now}


def without(works: Mapping[str, OldWork], names: AbstractSet[str]) -> dict[str, OldWork]:
    """Return works without those of some students and groups."""
    return {work: each for work, each in works.items() if each.student not in names}
