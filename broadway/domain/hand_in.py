"""Handing in: whether a submission of a moment is taken, by the same rules as its grade. Pure.

A submission is refused if it could count for no student of the entry under any of their extensions, for its time or for
the limits of attempts. All others are taken, also those that get no points for their delay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from broadway.domain.counting import Candidate, Obstacle, candidates
from broadway.domain.extension import Extension, Member
from broadway.domain.policy import AttemptLimits, Deadline, PastLimit, Policy
from broadway.domain.schedule import Schedule, schedules_of
from broadway.domain.work import Attempts, Work, attempts_at

_OF_TIME = (Obstacle.TOO_EARLY, Obstacle.CLOSED)
_NOTES = {
    Obstacle.NO_CREDIT: "it is too late for any credit",
    Obstacle.NEEDS_LATE_DAYS: "it needs more late days than are left",
    Obstacle.AFTER_DUE: "it is after the due time, and only earlier submissions count",
    Obstacle.BEYOND_LIMIT: "it is for practice: the attempts that count are used up",
}
_FIRST = (Obstacle.BEYOND_LIMIT, Obstacle.TOO_EARLY, Obstacle.CLOSED)  # the reason of several that a student reads


@dataclass(frozen=True, slots=True)
class Entrant:
    """A student of an entry, with the student's extensions and the submissions of the student and the group."""

    member: Member
    extensions: Sequence[Extension]
    works: Sequence[Work]


@dataclass(frozen=True, slots=True)
class Ruling:
    """The decision on a submission of a moment.

    ``text`` is for the student: the reason of a refusal, or why a submission that is taken will not count; otherwise
    empty. ``next_at`` is the time from which on a refused submission would be taken; None if it is not known.
    """

    is_taken: bool
    text: str = ""
    next_at: datetime | None = None


TAKEN = Ruling(is_taken=True)


@dataclass(frozen=True, slots=True)
class _View:
    """A new submission under one schedule of one student."""

    policy: Policy
    schedule: Schedule
    works: Sequence[Work]
    found: Candidate

    @property
    def is_refused(self) -> bool:
        limits, obstacle = self.policy.attempts, self.found.obstacle
        if obstacle is Obstacle.BEYOND_LIMIT:
            return limits is not None and limits.past_limit is PastLimit.REFUSE
        return obstacle in _OF_TIME


def is_open(policy: Policy) -> bool:
    """Return whether a policy takes every submission, so that nothing else needs to be read."""
    return policy.deadline == Deadline() and policy.attempts is None


def ruling(
    policy: Policy, entrants: Sequence[Entrant], at: datetime, identity: str = "", *, is_asked: bool = False
) -> Ruling:
    """Return the decision on a submission.

    Args:
        policy: The assignment's policy.
        entrants: The students whose submission it is: one, or the members of a group.
        at: The time of its first receipt.
        identity: Its id, which decides between submissions of the same time.
        is_asked: There is no submission: the student asks what would happen to one of this moment.
    """
    views = [view for entrant in entrants for view in _views(policy, entrant, at, identity)]
    taken = [view for view in views if not view.is_refused]
    if not taken:
        first = min(views, key=lambda view: _FIRST.index(view.found.obstacle or Obstacle.CLOSED))
        return _refusal(first, at, is_asked=is_asked)
    notes = [_NOTES.get(view.found.obstacle) if view.found.obstacle else None for view in taken]
    return TAKEN if None in notes else Ruling(is_taken=True, text=f"it is graded, and does not count: {notes[0]}")


def attempts_of(policy: Policy, schedule: Schedule, works: Sequence[Work], at: datetime) -> Attempts | None:
    """Return the attempts of a student under a schedule; None without limits."""
    if policy.attempts is None:
        return None
    return attempts_at(policy.attempts, schedule.clock, _in_time(schedule, works), at)


def limits_in_words(limits: AttemptLimits, attempts: Attempts) -> str:
    """Return the used attempts by limit, such as `5 of 5 submissions of this day and 7 of 20 in total are used`."""
    daily, total = limits.per_day, limits.total
    parts = [] if daily is None else [f"{attempts.used_today} of {daily.submissions} submissions of this day"]
    parts += [] if total is None else [f"{attempts.used} of {total} {'in total' if parts else 'submissions'}"]
    return f"{' and '.join(parts)} are used" if parts else ""


def _views(policy: Policy, entrant: Entrant, at: datetime, identity: str) -> list[_View]:
    works = [each for each in entrant.works if each.id != identity]
    new = Work(identity, at)
    views = []
    for schedule in schedules_of(policy, entrant.extensions, entrant.member):
        found = candidates(policy, schedule, entrant.member, [*works, new])
        views.append(_View(policy, schedule, works, next(each for each in found if each.work is new)))
    return views


def _in_time(schedule: Schedule, works: Sequence[Work]) -> list[Work]:
    return [each for each in works if not schedule.is_too_early(each.at) and not schedule.is_too_late(each.at)]


def _refusal(view: _View, at: datetime, *, is_asked: bool) -> Ruling:
    schedule, shown = view.schedule, view.schedule.clock.shown
    if view.found.obstacle is Obstacle.TOO_EARLY and schedule.opens_at:
        text = f"the assignment opens at {shown(schedule.opens_at)}; it is {shown(at)} now"
        return Ruling(is_taken=False, text=text, next_at=schedule.opens_at)
    if view.found.obstacle is Obstacle.CLOSED and schedule.ended_at:
        end, came = shown(schedule.ended_at), shown(at)
        of_submission = "this submission came " + ("less than a second later" if came == end else f"at {came}")
        then = f"it is {came} now" if is_asked else of_submission
        return Ruling(is_taken=False, text=f"the assignment closed at {end}; {then}")
    attempts = attempts_of(view.policy, schedule, view.works, at)
    assert attempts is not None  # noqa: S101 - without limits no submission is beyond them
    return _no_attempt(view, attempts)


def _no_attempt(view: _View, attempts: Attempts) -> Ruling:
    """Refuse a submission beyond the limits of attempts: say which are used, how many are left, and when."""
    limits, schedule = view.policy.attempts, view.schedule
    assert limits is not None  # noqa: S101 - as above
    parts = [limits_in_words(limits, attempts)]
    if limits.cooldown_seconds:
        parts.append(f"{limits.cooldown_seconds} s must pass after a submission")
    next_at = attempts.next_at
    if next_at is None:
        return Ruling(is_taken=False, text="; ".join([*filter(None, parts), "no attempt is left"]))
    if schedule.is_too_late(next_at):
        closed = schedule.clock.shown(schedule.ended_at) if schedule.ended_at else ""
        end = f"no further one is possible before the assignment closes at {closed}"
        return Ruling(is_taken=False, text="; ".join([*filter(None, parts), end]))
    parts.append(f"the next one is possible from {schedule.clock.shown(next_at)}")
    return Ruling(is_taken=False, text="; ".join(filter(None, parts)), next_at=next_at)
