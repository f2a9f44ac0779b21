"""Works: submissions as a grade sees them, with the result of their grading. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from operator import attrgetter

from broadway.domain.clock import Clock
from broadway.domain.job import Attempt, Job, Outcome
from broadway.domain.marks import Marks
from broadway.domain.policy import AttemptLimits, DailyLimit

_MOST_STEPS = 5  # from a moment to the next free one: the time between submissions, the next day, and both again

# Outcomes that are the program's own; no other ever changes a grade or uses an attempt.
OWN = frozenset(
    (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.TIMED_OUT, Outcome.OUT_OF_MEMORY, Outcome.OUTPUT_LIMIT),
)


IN_ORDER = attrgetter("at", "id")  # the order of works: that of their receipt


@dataclass(frozen=True, slots=True)
class Work:
    """A submission and its result. ``at`` is the time of its first receipt.

    ``outcome`` is None while it waits. ``score`` is None without points. One that is not ``gradable`` has no mistake
    but one of form, such as an answer that cannot be read: it does not count.
    """

    id: str
    at: datetime
    outcome: Outcome | None = None
    score: Decimal | None = None
    max: Decimal | None = None
    gradable: bool = True
    has_report: bool = True

    @property
    def is_unsettled(self) -> bool:
        """True if its result is yet to come: it waits, or the infrastructure failed and it is graded again."""
        return self.outcome in (None, Outcome.INFRASTRUCTURE_ERROR)

    @property
    def may_count(self) -> bool:
        """True if it has a result that may count."""
        return self.outcome in OWN and self.gradable

    @property
    def uses_attempt(self) -> bool:
        """True if it uses an attempt: all do but those that are not gradable through no fault of the student."""
        return self.outcome is None or self.may_count


def work_of(submission: str, at: datetime, outcome: Outcome | None, marks: Marks, points: Decimal | None) -> Work:
    """Return a submission with its result.

    Without a report, a job that succeeded has all of the assignment's points, and one that failed has 0.
    """
    if marks.source is not None:
        score, limit = marks.out_of(points)
        return Work(submission, at, outcome, score, limit, marks.gradable)
    score = points if outcome is Outcome.SUCCEEDED else Decimal(0) if outcome in OWN else None
    return Work(submission, at, outcome, score, points, has_report=False)


def graded_attempt(job: Job) -> Attempt | None:
    """Return the attempt of a job whose result counts, or None.

    It is the last one with an outcome of its own: a rerun that fails through the infrastructure, or is cancelled,
    changes nothing.
    """
    own = [each for each in job.attempts if each.outcome in OWN and not each.released]
    return own[-1] if own else None


def final_marks(job: Job) -> Marks | None:
    """Return the marks of the attempt that ended a job, or None if they are unknown or do not count.

    A job that failed through the infrastructure has no points, whatever its stages have reported.
    """
    if job.outcome not in OWN:
        return None
    return next((each.marks for each in job.attempts if each.execution_id == job.execution_id), None)


def beyond_limits(limits: AttemptLimits | None, clock: Clock, works: Iterable[Work]) -> dict[str, int]:
    """Return the submissions beyond the limits of attempts by their ids, with their number among these, from 1."""
    return _divided(limits, clock, works)[1] if limits else {}


@dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts of a student or a group at a moment.

    ``used`` is the number of submissions within the limits that use an attempt, and ``used_today`` those of the present
    day by the policy's ``reset``. ``left`` is the number of further ones, without regard to the time between them; None
    without such a limit. ``next_at`` is the time at which the next submission is within the limits: the moment itself
    if it is now, None if it is at no time.
    """

    used: int
    used_today: int
    left: int | None
    next_at: datetime | None


@dataclass(slots=True)
class _Within:
    """The submissions within the limits that use an attempt, up to a moment: their number, by day, and the last one."""

    limits: AttemptLimits
    clock: Clock
    count: int = 0
    days: Counter[date] = field(default_factory=Counter)
    last: datetime | None = None

    def take(self, at: datetime) -> None:
        self.count += 1
        self.last = at
        if daily := self.limits.per_day:
            self.days[_day(daily, self.clock, at)] += 1

    def of_day(self, at: datetime) -> int:
        """Return the number of those of a moment's day; 0 without a limit per day."""
        daily = self.limits.per_day
        return self.days[_day(daily, self.clock, at)] if daily else 0

    def is_beyond(self, at: datetime) -> bool:
        """Return whether a submission after these is beyond a limit."""
        limits, daily = self.limits, self.limits.per_day
        if limits.total is not None and self.count >= limits.total:
            return True
        if self.last is not None and at - self.last < limits.cooldown:
            return True
        return daily is not None and self.of_day(at) >= daily.submissions

    def later(self, at: datetime) -> datetime | None:
        """Return a later time at which the limit that a submission is beyond may be over, or None if it is never."""
        limits, daily = self.limits, self.limits.per_day
        if limits.total is not None and self.count >= limits.total:
            return None
        if self.last is not None and at - self.last < limits.cooldown:
            return self.last + limits.cooldown
        if daily is None:
            return at
        day = _day(daily, self.clock, at) + timedelta(days=1)
        reset = datetime.combine(day, time.min) + daily.after_midnight
        readings = (self.clock.begins(reset), self.clock.ends(reset))
        return next((end for end in readings if end > at), at + timedelta(days=1))


def attempts_at(limits: AttemptLimits, clock: Clock, works: Iterable[Work], at: datetime) -> Attempts:
    """Return the attempts at a moment, of the submissions until then."""
    within, _ = _divided(limits, clock, [work for work in works if work.at <= at])
    today, daily = within.of_day(at), limits.per_day
    left = [] if limits.total is None else [limits.total - within.count]
    left += [] if daily is None else [daily.submissions - today]
    next_at: datetime | None = at
    for _ in range(_MOST_STEPS):
        if next_at is None or not within.is_beyond(next_at):
            break
        next_at = within.later(next_at)
    return Attempts(within.count, today, max(0, min(left)) if left else None, next_at)


def _divided(limits: AttemptLimits, clock: Clock, works: Iterable[Work]) -> tuple[_Within, dict[str, int]]:
    """Return the submissions within the limits that use an attempt, and the numbers of the others by their ids."""
    within = _Within(limits, clock)
    beyond: dict[str, int] = {}
    extra = 0
    for work in sorted(works, key=IN_ORDER):
        is_beyond = within.is_beyond(work.at)
        if is_beyond:
            beyond[work.id] = extra + 1
        if work.uses_attempt and is_beyond:
            extra += 1
        elif work.uses_attempt:
            within.take(work.at)
    return within, beyond


def _day(daily: DailyLimit, clock: Clock, at: datetime) -> date:
    """Return the day of a moment by the policy's reset."""
    return (clock.wall(at) - daily.after_midnight).date()
