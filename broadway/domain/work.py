"""Works: submissions as a grade sees them, with the result of their grading. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from broadway.domain.clock import Clock
from broadway.domain.job import Attempt, Job, Outcome
from broadway.domain.marks import Marks
from broadway.domain.policy import AttemptLimits, DailyLimit

_MOST_STEPS = 5  # from a moment to the next free one: the time between submissions, the next day, and both again

# Outcomes that are the program's own; no other ever changes a grade or uses an attempt.
OWN = frozenset(
    (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.TIMED_OUT, Outcome.OUT_OF_MEMORY, Outcome.OUTPUT_LIMIT),
)


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


def attempts_at(limits: AttemptLimits, clock: Clock, works: Iterable[Work], at: datetime) -> Attempts:
    """Return the attempts at a moment, of the submissions until then."""
    within, _ = _divided(limits, clock, [work for work in works if work.at <= at])
    daily = limits.per_day
    today = _of_day(daily, clock, within, at) if daily else 0
    left = [] if limits.total is None else [limits.total - len(within)]
    left += [] if daily is None else [daily.submissions - today]
    next_at: datetime | None = at
    for _ in range(_MOST_STEPS):
        if next_at is None or not _is_beyond(limits, clock, within, next_at):
            break
        next_at = _later(limits, clock, within, next_at)
    return Attempts(len(within), today, max(0, min(left)) if left else None, next_at)


def _divided(limits: AttemptLimits, clock: Clock, works: Iterable[Work]) -> tuple[list[datetime], dict[str, int]]:
    """Return the times of the submissions within the limits that use an attempt, and the others by their ids."""
    within: list[datetime] = []
    beyond: dict[str, int] = {}
    extra = 0
    for work in sorted(works, key=lambda work: (work.at, work.id)):
        is_beyond = _is_beyond(limits, clock, within, work.at)
        if is_beyond:
            beyond[work.id] = extra + 1
        if work.uses_attempt and is_beyond:
            extra += 1
        elif work.uses_attempt:
            within.append(work.at)
    return within, beyond


def _is_beyond(limits: AttemptLimits, clock: Clock, within: list[datetime], at: datetime) -> bool:
    """Return whether a submission is beyond a limit after those ``within`` the limits."""
    if limits.total is not None and len(within) >= limits.total:
        return True
    if within and at - within[-1] < limits.cooldown:
        return True
    daily = limits.per_day
    return daily is not None and _of_day(daily, clock, within, at) >= daily.submissions


def _later(limits: AttemptLimits, clock: Clock, within: list[datetime], at: datetime) -> datetime | None:
    """Return a later time at which the limit that a submission is beyond may be over, or None if it is never."""
    if limits.total is not None and len(within) >= limits.total:
        return None
    if within and at - within[-1] < limits.cooldown:
        return within[-1] + limits.cooldown
    daily = limits.per_day
    if daily is None:
        return at
    reset = datetime.combine(_day(daily, clock, at) + timedelta(days=1), time.min) + daily.after_midnight
    return next((end for end in (clock.begins(reset), clock.ends(reset)) if end > at), at + timedelta(days=1))


def _of_day(daily: DailyLimit, clock: Clock, within: list[datetime], at: datetime) -> int:
    day = _day(daily, clock, at)
    return sum(_day(daily, clock, each) == day for each in within)


def _day(daily: DailyLimit, clock: Clock, at: datetime) -> date:
    return (clock.wall(at) - daily.after_midnight).date()
