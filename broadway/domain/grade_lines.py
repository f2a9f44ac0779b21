"""The lines of a grade: its arithmetic, and the reason for each step, as sentences for the student. Pure.

No line has the reason of an extension, or the name of a label: a group reads the lines of its members.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, localcontext
from functools import lru_cache

from broadway.domain import report
from broadway.domain.counting import EXACT, Adjustment, Candidate, Decision, Obstacle, late_days_at_most, share
from broadway.domain.extension import Member, Target
from broadway.domain.job import Outcome
from broadway.domain.policy import FULL, Counts, PastLimit, Policy
from broadway.domain.schedule import Schedule

MAX_NOTES = 20  # on submissions that do not count
TIMES = "\N{MULTIPLICATION SIGN}"

_UNITS = ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute"))
_SECOND = timedelta(seconds=1)
_CHOICES = {
    Counts.LATEST: "the latest of those that may count",
    Counts.BEST: "the best of those that may count",
    Counts.LATEST_BEFORE_DUE: "the latest before the due time",
    Counts.BEST_BEFORE_DUE: "the best before the due time",
    Counts.CHOSEN: "the latest of those that may count, since none of these was chosen",
}
_FAILURES = {
    Outcome.TIMED_OUT: "exceeded its time limit",
    Outcome.OUT_OF_MEMORY: "exceeded its memory limit",
    Outcome.OUTPUT_LIMIT: "exceeded its output limit",
}
_REASONS: Mapping[Obstacle | None, str] = {
    Obstacle.BEYOND_LIMIT: "it is beyond the limit of attempts",
    Obstacle.WAITING: "it is not graded yet",
    Obstacle.ERROR: "something failed on our side; it uses no attempt, and is graded again",
    Obstacle.CANCELLED: "its grading was cancelled; it uses no attempt",
    Obstacle.SUPERSEDED: "a later submission replaced it before it was graded; it uses no attempt",
    Obstacle.NOT_GRADABLE: "its form is wrong, so that it could not be graded; it uses no attempt",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence about a grade. ``points`` are those after its step of the arithmetic; None if it has no number."""

    text: str
    points: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """The parts of a grade that its lines describe."""

    policy: Policy
    schedule: Schedule
    member: Member
    found: Sequence[Candidate]
    counted: Candidate | None
    adjustments: Sequence[Adjustment]
    points: Decimal | None
    max: Decimal | None
    has_useless_extension: bool = False
    decision: Decision | None = None


def lines_of(reading: Reading) -> tuple[Line, ...]:
    """Return the lines of a grade, from the due time to the result."""
    arithmetic = list(_arithmetic(reading))
    last = arithmetic[-1].points if arithmetic else None
    floor = [Line("A grade is at least 0 points.", Decimal(0))] if last is not None and last < 0 else []
    return (*_times(reading), *_choice(reading), *arithmetic, *floor, *_notes(reading), *_results(reading))


@lru_cache(maxsize=4096)
def points_text(points: Decimal) -> str:
    """Return points with all their digits."""
    with localcontext(prec=EXACT):
        return report.shown(points)


def duration_text(duration: timedelta) -> str:
    """Return a time span in its two largest units, such as `1 day 3 hours`; begun seconds are whole ones."""
    seconds = -(-duration // _SECOND)
    rest, parts = timedelta(seconds=seconds), []
    for unit, name in _UNITS:
        count, rest = divmod(rest, unit)
        if count:
            parts.append(_count(count, name))
    if rest:
        parts.append(_count(rest.seconds, "second"))
    return " ".join(parts[:2]) or "0 seconds"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _times(reading: Reading) -> Iterator[Line]:
    schedule = reading.schedule
    if schedule.due_at is None:
        return
    extension = schedule.extension
    of_group = extension is not None and extension.order.target is Target.GROUP
    note = "" if extension is None else ", with your group's extension" if of_group else ", with your extension"
    yield Line(f"Due time: {schedule.clock.shown(schedule.due_at)}{note}.")
    if reading.has_useless_extension:
        yield Line("Your extension would not make the grade better, so the assignment's own times hold.")


def _choice(reading: Reading) -> Iterator[Line]:
    counted = reading.counted
    if counted is None:
        yield Line("No submission counts." if reading.found else "There is no submission.")
        return
    is_chosen = reading.policy.counts is Counts.CHOSEN and counted.work.id == reading.member.chosen
    choice = "as you have chosen" if is_chosen else _CHOICES[reading.policy.counts]
    choice = f", {choice}" if len(reading.found) > 1 else ""
    delay = _delay(reading.schedule, counted)
    yield Line(f"{_name(reading, counted)} counts{choice}{f': {delay}' if delay else ''}.")


def _name(reading: Reading, candidate: Candidate) -> str:
    return f"Submission {candidate.number} of {len(reading.found)} ({reading.schedule.clock.shown(candidate.work.at)})"


def _delay(schedule: Schedule, candidate: Candidate) -> str:
    """Return the phrase for the time of a submission, or an empty text without a due time."""
    delay = schedule.delay(candidate.work.at)
    if schedule.due_at is None:
        return ""
    if not delay:
        return "it is on time"
    if not schedule.is_late(candidate.work.at):
        return f"it is {duration_text(delay)} late, which the grace of {duration_text(schedule.grace)} allows"
    return f"it is {duration_text(delay)} late"


def _arithmetic(reading: Reading) -> Iterator[Line]:
    counted = reading.counted
    if counted is None and not reading.adjustments:
        return
    points = Decimal(0)
    if counted is not None:
        yield _tests(counted)
        points = counted.work.score or points
    for each in reading.adjustments:
        with localcontext(prec=EXACT):
            after = points + each.points
        sign = "-" if each.points < 0 else "+"
        sum_ = f"{points_text(points)} {sign} {points_text(abs(each.points))} = {points_text(after)}"
        yield Line(f"Adjustment: {sum_}. Reason: {each.reason}", after)
        points = after
    if counted is not None and (counted.work.score is not None or reading.adjustments):
        yield from _shares(reading, counted, points)


def _tests(counted: Candidate) -> Line:
    work = counted.work
    if work.score is None:
        return Line("The submission was checked; it has no points.")
    if work.has_report:
        bound = "" if work.max is None else f" of {points_text(work.max)}"
        return Line(f"Tests: {points_text(work.score)}{bound} points.", work.score)
    if work.outcome is Outcome.SUCCEEDED:
        return Line(f"The program succeeded: {points_text(work.score)} points.", work.score)
    failure = _FAILURES.get(work.outcome, "failed") if work.outcome else "failed"
    return Line(f"The program {failure}: {points_text(work.score)} points.", work.score)


def _shares(reading: Reading, counted: Candidate, points: Decimal) -> Iterator[Line]:
    """Yield the lines of late days and percentages."""
    if counted.late_days:
        left = reading.member.late_days_left - counted.late_days
        yield Line(
            f"Late days: this submission uses {counted.late_days}, so that it loses no points; {left} of yours "
            f"{'is' if left == 1 else 'are'} left.",
        )
    if counted.percent != FULL:
        why = "Early bonus" if counted.percent > FULL else "Late credit"
        line, points = _share(why, points, counted.percent)
        yield line
    if counted.remaining != FULL:
        why = f"Attempts: {_count(counted.beyond, 'submission')} beyond the limit"
        line, points = _share(why, points, counted.remaining)
        yield line


def _share(why: str, points: Decimal, percent: Decimal) -> tuple[Line, Decimal]:
    after = share(points, percent)
    if points <= 0:
        return Line(f"{why}: {points_text(percent)} % of {points_text(points)} points changes nothing.", after), after
    text = f"{why}: {points_text(points)} {TIMES} {points_text(percent)} % = {points_text(after)}."
    return Line(text, after), after


def _notes(reading: Reading) -> Iterator[Line]:
    """Yield the reasons against the submissions that a student may expect to count: later ones, and unsettled ones."""
    last = reading.counted.number if reading.counted else 0
    notes = [each for each in reading.found if each.obstacle and (each.number > last or each.is_unsettled)]
    for each in notes[-MAX_NOTES:]:
        yet = " yet" if each.is_unsettled else ""
        yield Line(f"{_name(reading, each)} does not count{yet}: {_reason(reading, each)}.")
    if len(notes) > MAX_NOTES:
        yield Line(f"{len(notes) - MAX_NOTES} more submissions do not count.")


def _reason(reading: Reading, candidate: Candidate) -> str:
    policy, obstacle = reading.policy, candidate.obstacle
    if obstacle is Obstacle.NEEDS_LATE_DAYS:
        most = late_days_at_most(policy, reading.member)
        late = _delay(reading.schedule, candidate)
        return f"{late} and needs {_count(candidate.days_late, 'late day')}; you can use {most}"
    is_practice = policy.attempts is not None and policy.attempts.past_limit is PastLimit.PRACTICE
    if obstacle is Obstacle.BEYOND_LIMIT and is_practice:
        return "it is beyond the limit of attempts, and for practice only"
    return _REASONS.get(obstacle) or _reason_of_time(reading.schedule, candidate)


def _reason_of_time(schedule: Schedule, candidate: Candidate) -> str:
    shown = schedule.clock.shown
    if candidate.obstacle is Obstacle.TOO_EARLY and schedule.opens_at:
        return f"the assignment opened at {shown(schedule.opens_at)}"
    if candidate.obstacle is Obstacle.CLOSED and schedule.closes_at:
        return f"the assignment closed at {shown(schedule.closes_at)}"
    bound = "late submissions get no points"
    if candidate.obstacle is Obstacle.AFTER_DUE:
        bound = "only submissions before the due time count"
    return f"{_delay(schedule, candidate)}, and {bound}"


def _results(reading: Reading) -> Iterator[Line]:
    """Yield the decision of staff, if there is one, and the grade."""
    decision = reading.decision
    if decision is not None:
        result = "excused" if decision.points is None else f"{points_text(decision.points)} points"
        yield Line(f"Decision of the course staff: {result}. Reason: {decision.reason}", decision.points)
        if decision.points is None:
            yield Line("Grade: excused.")
            return
    if reading.points is None:
        yield Line("Grade: no points yet." if _is_unsettled(reading.found) else "Grade: no points.")
        return
    bound = "" if reading.max is None else f" of {points_text(reading.max)}"
    yield Line(f"Grade: {points_text(reading.points)}{bound} points.", reading.points)


def _is_unsettled(found: Iterable[Candidate]) -> bool:
    return any(each.is_unsettled for each in found)
