"""Schedules: the times of an assignment for one student, under one of the student's extensions or without any. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

from broadway.domain.clock import Clock
from broadway.domain.extension import Extension, Member, in_force
from broadway.domain.policy import FULL, Policy


@dataclass(frozen=True, slots=True)
class Step:
    """The percent of the points until a time."""

    until: datetime
    percent: Decimal


@dataclass(frozen=True, slots=True)
class Schedule:
    """The times of an assignment for one student, in UTC, without the grace that each end has.

    ``due`` is the due time as a moment of the clock, from which late days are counted; ``due_at`` is the same in UTC.
    """

    clock: Clock
    grace: timedelta = timedelta()
    opens_at: datetime | None = None
    due: datetime | None = None
    due_at: datetime | None = None
    closes_at: datetime | None = None
    steps: tuple[Step, ...] = ()
    extension: Extension | None = None
    ended_at: datetime | None = field(init=False, compare=False, repr=False)
    late_at: datetime | None = field(init=False, compare=False, repr=False)
    has_bonus: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Compute what each submission is compared with.

        ``ended_at`` is the time after which no submission counts any more, and ``late_at`` the one after which it is
        late, both with the grace. ``has_bonus`` is true if there are steps of credit until the due time.
        """
        due_at, closes_at = self.due_at, self.closes_at
        object.__setattr__(self, "ended_at", None if closes_at is None else closes_at + self.grace)
        object.__setattr__(self, "late_at", None if due_at is None else due_at + self.grace)
        has_bonus = due_at is not None and any(step.until <= due_at for step in self.steps)
        object.__setattr__(self, "has_bonus", has_bonus)

    def is_too_early(self, at: datetime) -> bool:
        return self.opens_at is not None and at < self.opens_at

    def is_too_late(self, at: datetime) -> bool:
        return self.ended_at is not None and at > self.ended_at

    def is_in_full(self, at: datetime) -> bool:
        """Return whether a submission is on time and gets all of its points, without any rule for its time."""
        if self.has_bonus or (self.late_at is not None and at > self.late_at):
            return False
        return not self.is_too_early(at) and not self.is_too_late(at)

    def delay(self, at: datetime) -> timedelta:
        """Return the time since the due time, 0 before it; the grace is not taken off."""
        return timedelta() if self.due_at is None else max(timedelta(), at - self.due_at)

    def is_late(self, at: datetime) -> bool:
        """Return whether a submission is late: received after the due time and its grace."""
        return self.late_at is not None and at > self.late_at

    def days_late(self, at: datetime) -> int:
        """Return the begun days by which a submission is late; a day ends at the due time of day."""
        return self.clock.days_after(self.due, at, self.grace) if self.due and self.is_late(at) else 0

    def percent(self, at: datetime) -> Decimal:
        """Return the percent of the points that a submission gets without late days."""
        if not self.has_bonus and not self.is_late(at):
            return FULL
        step = next((step for step in self.steps if at <= step.until + self.grace), None)
        if self.is_late(at):
            return step.percent if step else Decimal(0)
        is_early = step is not None and self.due_at is not None and step.until <= self.due_at
        return step.percent if step and is_early else FULL


def schedules_of(policy: Policy, extensions: Iterable[Extension], member: Member) -> list[Schedule]:
    """Return the schedules that hold for a student: one for each extension, those with the last due time first.

    The schedule without an extension is the last one.
    """
    plain = _plain(_Same(policy))
    extended = [_schedule(policy, each) for each in in_force(extensions, member)]
    return [*sorted(extended, key=_due, reverse=True), plain]


def last_end(schedules: Iterable[Schedule]) -> datetime | None:
    """Return the end of the last of a student's schedules, with its grace; None if there is none."""
    ends = [each.ended_at for each in schedules]
    known = [end for end in ends if end is not None]
    return max(known) if known and len(known) == len(ends) else None


def useless(policy: Policy, extension: Extension) -> str | None:
    """Return the reason why an extension has no effect on any student, or None; staff should see it at once."""
    if extension.order.is_empty:
        return None
    if policy.deadline.due is None:
        return "the assignment has no due time"
    plain, extended = _schedule(policy, None), _schedule(policy, extension)
    if (plain.due_at, plain.steps, plain.closes_at) == (extended.due_at, extended.steps, extended.closes_at):
        return "its times are not later than the assignment's"
    if (plain.due_at, plain.steps) == (extended.due_at, extended.steps) and not policy.late_days:
        return "the assignment has no late credit, so that only a later due time has an effect"
    return None


def _due(schedule: Schedule) -> datetime:
    return schedule.due_at or datetime.max.replace(tzinfo=UTC)  # no schedule of an assignment has a due time, or all


@dataclass(frozen=True, slots=True, eq=False)
class _Same:
    """A policy that is equal only to itself: to compare the parts of two takes longer than to compute a schedule."""

    policy: Policy

    def __hash__(self) -> int:
        return id(self.policy)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.policy is self.policy


@lru_cache(maxsize=64)
def _plain(same: _Same) -> Schedule:
    """Return the schedule without an extension, which all students of a class have."""
    return _schedule(same.policy, None)


def _schedule(policy: Policy, extension: Extension | None) -> Schedule:
    times, clock = policy.deadline, policy.clock
    opens_at = clock.begins(times.opens) if times.opens else None
    if times.due is None:
        return Schedule(clock, times.grace, opens_at, extension=extension)
    due = _extended(times.due, extension, clock)
    shift = clock.wall(due) - clock.wall(times.due)
    due_at, steps = clock.ends(due), _steps(policy, times.due, shift)
    if times.closes:
        closes_at = max(due_at, clock.ends(clock.moved(times.closes, shift)))
    else:
        days = timedelta(days=policy.late_days.per_assignment if policy.late_days else 0)
        closes_at = max([clock.ends(clock.moved(due, days)), *(step.until for step in steps)])
    later = clock.ends(extension.order.closes) if extension and extension.order.closes else closes_at
    if later > closes_at:
        closes_at, steps = later, _reaching(steps, later, due_at)
    return Schedule(clock, times.grace, opens_at, due, due_at, closes_at, tuple(steps), extension)


def _steps(policy: Policy, due: datetime, shift: timedelta) -> list[Step]:
    """Return the steps of credit; those after the due time move with it."""
    clock = policy.clock
    ends = [(clock.ends(each.until) > clock.ends(due), each) for each in policy.deadline.credit]
    return [
        Step(clock.ends(clock.moved(each.until, shift) if is_late else each.until), each.percent)
        for is_late, each in ends
    ]


def _reaching(steps: list[Step], end: datetime, due_at: datetime) -> list[Step]:
    """Return steps of which the last one, if it is for late submissions, reaches a later end."""
    if not steps or steps[-1].until <= due_at:
        return steps
    return [*steps[:-1], replace(steps[-1], until=end)]


def _extended(due: datetime, extension: Extension | None, clock: Clock) -> datetime:
    """Return the due time under an extension, which is never earlier than the assignment's."""
    if extension is None:
        return due
    order = extension.order
    later = clock.moved(order.due or due, timedelta(days=order.add_days))
    if order.add_minutes:
        later = clock.ends(later) + timedelta(minutes=order.add_minutes)
    return later if clock.ends(later) > clock.ends(due) else due
