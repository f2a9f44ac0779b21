"""Counting: the submission of a student that counts under one schedule, and the reasons against the others. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from enum import StrEnum

from broadway.domain.extension import Member
from broadway.domain.job import Outcome
from broadway.domain.policy import FULL, Counts, PastLimit, Policy, Spend
from broadway.domain.schedule import Schedule
from broadway.domain.work import IN_ORDER, Work, beyond_limits

EXACT = 60  # digits; more than the product of points and two percentages has
_ZERO = Decimal(0)
_NO_POINTS = Decimal(-1)  # less than any grade
_BEFORE_DUE = (Counts.LATEST_BEFORE_DUE, Counts.BEST_BEFORE_DUE)
_BEST = (Counts.BEST, Counts.BEST_BEFORE_DUE)


class Obstacle(StrEnum):
    """The reason why a submission does not count."""

    TOO_EARLY = "too_early"
    CLOSED = "closed"
    NO_CREDIT = "no_credit"
    NEEDS_LATE_DAYS = "needs_late_days"
    AFTER_DUE = "after_due"
    BEYOND_LIMIT = "beyond_limit"
    WAITING = "waiting"
    ERROR = "error"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    NOT_GRADABLE = "not_gradable"


_UNSETTLED = (Obstacle.WAITING, Obstacle.ERROR)
_OF_OUTCOME = {
    None: Obstacle.WAITING,
    Outcome.INFRASTRUCTURE_ERROR: Obstacle.ERROR,
    Outcome.CANCELLED: Obstacle.CANCELLED,
    Outcome.SUPERSEDED: Obstacle.SUPERSEDED,
}


@dataclass(frozen=True, slots=True)
class Adjustment:
    """Points that staff add to the tests' points, or take off, with a reason that the student reads."""

    points: Decimal
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Staff's decision on a grade, which replaces the computed points; None if the student is excused."""

    points: Decimal | None
    reason: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A submission under a schedule. ``number`` is its place among the student's submissions, from 1.

    ``percent`` is that of its time, and ``remaining`` that of its attempt. ``days_late`` are the begun days by which it
    is late, and ``late_days`` those of them that it uses. ``beyond`` is its number among the submissions beyond the
    limits, or 0.
    """

    number: int
    work: Work
    percent: Decimal = FULL
    remaining: Decimal = FULL
    days_late: int = 0
    late_days: int = 0
    beyond: int = 0
    obstacle: Obstacle | None = None

    @property
    def is_unsettled(self) -> bool:
        """True if it may count as soon as its result is there."""
        return self.obstacle in _UNSETTLED

    def points(self, adjustments: Sequence[Adjustment]) -> Decimal | None:
        """Return the exact points that it is worth, or None if it was checked without points."""
        if not adjustments and (self.work.score is None or (self.percent is FULL and self.remaining is FULL)):
            return None if self.work.score is None else max(_ZERO, self.work.score)
        with localcontext(prec=EXACT):
            points = sum((each.points for each in adjustments), self.work.score or Decimal(0))
            return max(_ZERO, share(share(points, self.percent), self.remaining))


def share(points: Decimal, percent: Decimal) -> Decimal:
    """Return a percentage of points, exactly. Points below 0 stay as they are, so that a delay does not help."""
    if percent == FULL or points <= 0:
        return points
    with localcontext(prec=EXACT):
        return points * percent.scaleb(-2)


def late_days_at_most(policy: Policy, member: Member) -> int:
    """Return the late days that a submission of the student may use."""
    rule = policy.late_days
    if rule is None:
        return 0
    left = max(0, min(member.late_days_left, rule.per_assignment))
    return left if rule.spend is Spend.AUTO else max(0, min(left, member.late_days_claimed))


def candidates(policy: Policy, schedule: Schedule, member: Member, works: Iterable[Work]) -> list[Candidate]:
    """Return a student's submissions under a schedule, in the order of their receipt."""
    ordered = sorted(works, key=IN_ORDER)
    beyond = {}
    if policy.attempts:
        in_time = [work for work in ordered if not schedule.is_too_early(work.at) and not schedule.is_too_late(work.at)]
        beyond = beyond_limits(policy.attempts, schedule.clock, in_time)
    most = late_days_at_most(policy, member)
    return [
        Candidate(number, work, obstacle=_obstacle_of_result(work))
        if work.id not in beyond and schedule.is_in_full(work.at)
        else _candidate(policy, schedule, most, number, work, beyond.get(work.id, 0))
        for number, work in enumerate(ordered, start=1)
    ]


def counted(
    policy: Policy, member: Member, found: Sequence[Candidate], adjust: Sequence[Adjustment]
) -> Candidate | None:
    """Return the candidate that counts, or None. ``found`` is in the order of receipt; equal ones: the first."""
    able = [each for each in found if each.obstacle is None]
    if not able:
        return None
    if policy.counts in _BEST:
        return max(able, key=lambda each: _rank(each.points(adjust)))
    chosen = next((each for each in able if each.work.id == member.chosen), None)
    if policy.counts is Counts.CHOSEN and chosen:
        return chosen
    return max(able, key=lambda each: each.work.at)


def _rank(points: Decimal | None) -> Decimal:
    return _NO_POINTS if points is None else points


def _candidate(policy: Policy, schedule: Schedule, most: int, number: int, work: Work, beyond: int) -> Candidate:
    needed = schedule.days_late(work.at)
    is_covered = needed <= most
    percent = schedule.percent(work.at) if not needed or not is_covered else FULL
    remaining = _remaining(policy, beyond)
    return Candidate(
        number=number,
        work=work,
        percent=percent,
        remaining=remaining,
        days_late=needed,
        late_days=needed if is_covered else 0,
        beyond=beyond,
        obstacle=_obstacle_of_time(policy, schedule, work, percent, is_covered=is_covered)
        or (Obstacle.BEYOND_LIMIT if not remaining else None)
        or _obstacle_of_result(work),
    )


def _remaining(policy: Policy, beyond: int) -> Decimal:
    """Return the percent that a submission keeps beyond the limits of attempts."""
    limits = policy.attempts
    if limits is None or not beyond:
        return FULL
    if limits.past_limit is not PastLimit.PENALTY or limits.penalty_percent is None:
        return Decimal(0)
    return max(Decimal(0), FULL - beyond * limits.penalty_percent)


def _obstacle_of_time(
    policy: Policy, schedule: Schedule, work: Work, percent: Decimal, *, is_covered: bool
) -> Obstacle | None:
    if schedule.is_too_early(work.at):
        return Obstacle.TOO_EARLY
    if schedule.is_too_late(work.at):
        return Obstacle.CLOSED
    if is_covered:
        return None
    if policy.counts in _BEFORE_DUE:
        return Obstacle.AFTER_DUE
    if not percent:
        return Obstacle.NEEDS_LATE_DAYS if policy.late_days else Obstacle.NO_CREDIT
    return None


def _obstacle_of_result(work: Work) -> Obstacle | None:
    if work.outcome is not Outcome.SUCCEEDED and work.outcome in _OF_OUTCOME:
        return _OF_OUTCOME[work.outcome]
    return None if work.gradable else Obstacle.NOT_GRADABLE
