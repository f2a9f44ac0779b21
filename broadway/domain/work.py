"""Works: submissions as a grade sees them, with the result of their grading. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from broadway.domain.clock import Clock
from broadway.domain.job import Attempt, Job, Outcome
from broadway.domain.marks import Marks
from broadway.domain.policy import AttemptLimits

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
    if limits is None:
        return {}
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
    return beyond


def _is_beyond(limits: AttemptLimits, clock: Clock, within: list[datetime], at: datetime) -> bool:
    """Return whether a submission is beyond a limit after those ``within`` the limits."""
    if limits.total is not None and len(within) >= limits.total:
        return True
    if within and at - within[-1] < timedelta(seconds=limits.cooldown_seconds):
        return True
    daily = limits.per_day
    if daily is None:
        return False
    hours, minutes = map(int, daily.reset.split(":"))
    reset = timedelta(hours=hours, minutes=minutes)
    day = (clock.wall(at) - reset).date()
    return sum((clock.wall(each) - reset).date() == day for each in within) >= daily.submissions
