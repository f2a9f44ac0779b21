"""Regrades: the states of one, its selection, and the parts in which its jobs run. Pure.

A regrade grades submissions again that exist, beside all that students see. It is planned (`draft`), runs, and is ready
to be compared. Staff then publish its results or discard it. A regrade whose class has changed meanwhile is stale until
it is refreshed.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from broadway.domain.assignment import Env
from broadway.domain.job import Phase
from broadway.domain.regrade_terms import RegradeState, Select
from broadway.domain.run import Run, RunState, job_id

MAX_NOTE = 2000  # characters
MAX_CHOSEN = 20_000  # submissions that an order may name
MAX_SUBMISSIONS = 50_000  # of a regrade
MIN_CONTROL = 5  # submissions
MAX_ROUNDS = 50  # of a regrade
PART = 20  # jobs that start together; a job that comes later waits for at most a few of these
OPEN_PARTS = 2  # that run at the same time, so that graders need not wait between two parts
PUBLISHED_WITHIN = timedelta(minutes=1)  # then the process that published has died
CLEAN_AFTER = timedelta(seconds=5)  # another process may just start a part of a regrade that is discarded


class RegradeStateError(ValueError):
    """The regrade's state does not allow the step; the text says so."""


class InfraErrorsError(ValueError):
    """The infrastructure failed with some submissions, so that the regrade says nothing about their students."""


@dataclass(frozen=True, slots=True)
class RegradeOrder:
    """The wishes of staff. ``control_percent`` of the submissions are graded with the old config, too."""

    select: Select
    submissions: tuple[str, ...] = ()
    control_percent: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Regrade:
    """A regrade of an assignment.

    ``config`` is the assignment's at the time of the order, as far as it grades students. ``base`` is the number of the
    published version to which it is compared; 0 stands for the draft. ``plans`` name the stored parts, a plan for each
    round; parts of other plans are leftovers of a crash. ``version`` is the version that it was published as.
    ``publishing_at`` is the time at which its publication began, until that is known to have ended.
    ``clean_at`` is the time from which its reports are removed. ``announce_at`` is the time at which the callback
    ``regrade.ready`` is due. ``revision`` counts the changes.
    """

    id: str
    course: str
    assignment: str
    order: RegradeOrder
    config: Mapping[str, Any]
    config_digest: str
    created_at: datetime
    by: str = ""
    state: RegradeState = RegradeState.DRAFT
    base: int = 0
    plans: tuple[str, ...] = ()
    submissions: int = 0
    ready_at: datetime | None = None
    version: int | None = None
    publishing_at: datetime | None = None
    published_at: datetime | None = None
    published_by: str = ""
    note: str = ""
    discarded_at: datetime | None = None
    discarded_by: str = ""
    clean_at: datetime | None = None
    announce_at: datetime | None = None
    revision: int = 1

    @property
    def is_active(self) -> bool:
        """True if a process has to do its next step."""
        is_open = self.state in (RegradeState.DRAFT, RegradeState.RUNNING)
        return is_open or self.clean_at is not None or self.publishing_at is not None

    def is_due(self, now: datetime) -> bool:
        """Return whether a process has to do its next step now."""
        if self.publishing_at is not None:
            return self.publishing_at + PUBLISHED_WITHIN <= now
        return self.is_active and (self.clean_at is None or self.clean_at <= now)

    def plan_as(self, plan: str, submissions: int, base: int) -> "Regrade":
        """Start the stored parts of a plan."""
        self._demand("planned", RegradeState.DRAFT)
        return self._moved(state=RegradeState.RUNNING, plans=(plan,), submissions=submissions, base=base)

    def finish(self, now: datetime) -> "Regrade":
        """Note that all jobs have ended."""
        self._demand("finished", RegradeState.RUNNING)
        return self._moved(state=RegradeState.READY, ready_at=now, announce_at=now)

    def mark_stale(self) -> "Regrade":
        """Note that the class has changed since the regrade ran."""
        self._demand("stale", RegradeState.READY)
        return self._moved(state=RegradeState.STALE)

    def refresh(self, plan: str, submissions: int, base: int) -> "Regrade":
        """Run the stored parts of one more plan, whose results replace those of the same submissions."""
        self._demand("refreshed", RegradeState.READY, RegradeState.STALE)
        if len(self.plans) >= MAX_ROUNDS:
            raise RegradeStateError(f"the regrade was refreshed {MAX_ROUNDS - 1} times; start another one")
        return self._moved(
            state=RegradeState.RUNNING,
            plans=(*self.plans, plan),
            submissions=submissions,
            base=base,
            ready_at=None,
        )

    def begin_publishing(self, now: datetime) -> "Regrade":
        """Note that a version of the grade book is about to be published of it; until then it cannot be discarded."""
        self._demand("published", RegradeState.READY, RegradeState.STALE, RegradeState.PUBLISHED)
        return self._moved(publishing_at=now)

    def end_publishing(self) -> "Regrade":
        """Note that no version was published."""
        return self._moved(publishing_at=None)

    def publish_as(self, version: int, now: datetime, *, by: str, note: str) -> "Regrade":
        """Note the version as which the regrade is published."""
        self._demand("published", RegradeState.READY, RegradeState.STALE, RegradeState.PUBLISHED)
        return self._moved(
            state=RegradeState.PUBLISHED,
            publishing_at=None,
            version=version,
            published_at=now,
            published_by=by,
            note=note,
        )

    def discard(self, now: datetime, *, by: str) -> "Regrade":
        """Give the regrade up: its jobs are cancelled and its reports are removed."""
        if self.version is not None:
            raise RegradeStateError(
                f"the regrade is published as version {self.version}, which refers to its reports; undo that instead"
            )
        if self.publishing_at is not None:
            raise RegradeStateError("the regrade is being published; try again in a minute")
        self._demand("discarded", RegradeState.DRAFT, RegradeState.RUNNING, RegradeState.READY, RegradeState.STALE)
        return self._moved(
            state=RegradeState.DISCARDED,
            discarded_at=now,
            discarded_by=by,
            clean_at=now + CLEAN_AFTER,
            announce_at=None,
        )

    def clean(self) -> "Regrade":
        """Note that its reports are removed."""
        return self._moved(clean_at=None)

    def _demand(self, verb: str, *states: RegradeState) -> None:
        if self.state not in states:
            raise RegradeStateError(f"the regrade is {self.state}, so it cannot be {verb}")

    def _moved(self, **changes: Any) -> "Regrade":
        return replace(self, revision=self.revision + 1, **changes)


class PartKind(StrEnum):
    """The config by which the jobs of a part grade: the regrade's, or for the control group the earlier one."""

    NEW = "new"
    CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Item:
    """A submission to grade again, with the environment of its job, and the job and execution that graded it."""

    submission: str
    env: Env
    job: str = ""
    execution: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """The state of a student when a part was planned: the submission that counted, and those that are graded again.

    ``is_listed``: the roster had the student.
    """

    student: str
    counting: str | None
    submissions: tuple[str, ...]
    is_listed: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """Some jobs of a regrade, which are one run. ``config`` is that of a control group; the regrade's own if None."""

    regrade: str
    plan: str
    number: int
    kind: PartKind
    items: tuple[Item, ...]
    seen: tuple[Seen, ...] = ()
    config: Mapping[str, Any] | None = None

    @property
    def id(self) -> str:
        """The part's id, by which it is stored."""
        return f"{self.regrade}/{self.plan}/{self.number:06}"

    @property
    def run_id(self) -> str:
        """The id of the part's run: the same whenever the part is started again."""
        return hashlib.sha256(f"regrade/{self.id}".encode()).hexdigest()[:24]


def regrade_id(course: str, assignment: str, key: str) -> str:
    """Return the id of the regrade that is ordered with an idempotency key."""
    return hashlib.sha256(f"regrade\0{course}\0{assignment}\0{key}".encode()).hexdigest()[:24]


def grading_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a config that grades students.

    Pre- and post-processing may act on other systems, as by sending grades, which a regrade must not.
    """
    return {name: config[name] for name in ("student_pipeline", "env") if config.get(name) is not None}


def split(groups: Iterable[tuple[Seen, Sequence[Item]]], size: int = PART) -> Iterator[tuple[list[Seen], list[Item]]]:
    """Yield parts of about ``size`` submissions; those of one student stay together."""
    seen: list[Seen] = []
    items: dict[str, Item] = {}  # the members of a group have the same submissions
    for each, own in groups:
        if items and len(items.keys() | {item.submission for item in own}) > size:
            yield seen, list(items.values())
            seen, items = [], {}
        seen.append(each)
        items |= {item.submission: item for item in own}
    if seen:
        yield seen, list(items.values())


def part_size(concurrency: int | None) -> int:
    """Return the number of jobs of a part; two parts leave room below the course's cap. Without a cap that is large."""
    return PART if concurrency is None else max(1, min(PART, (concurrency - 1) // OPEN_PARTS))


def most_open(concurrency: int | None) -> int:
    """Return the number of jobs of a regrade that may wait or run at a time, so that the course's others have room."""
    return OPEN_PARTS * PART if concurrency is None else max(1, concurrency - 1)


def control_group(submissions: Sequence[str], percent: int, seed: str) -> list[str]:
    """Return the submissions that are graded with the old config, too: a share of all, and at least five.

    The choice follows from the seed, so that a repeated plan has the same group.
    """
    count = min(len(submissions), max(MIN_CONTROL, -(-len(submissions) * percent // 100)))
    ranked = sorted(submissions, key=lambda each: hashlib.sha256(f"{seed}/{each}".encode()).digest())
    return sorted(ranked[:count])


def run_of(regrade: Regrade, part: Part, *, pool: str, now: datetime, traceparent: str | None = None) -> Run:
    """Return the run of a part: no student sees it, and its jobs wait for all others of the course."""
    works = {job_id(part.run_id, Phase.STUDENTS, index): item.submission for index, item in enumerate(part.items)}
    return Run(
        id=part.run_id,
        course=regrade.course,
        assignment=regrade.assignment,
        state=RunState.READY,
        started_at=now,
        config=grading_part(regrade.config if part.config is None else part.config),
        students_env=[item.env for item in part.items],
        pool=pool,
        trigger={"regrade": regrade.id, "works": works},
        traceparent=traceparent,
        students=len(part.items),
        regrade=regrade.id,
    )
