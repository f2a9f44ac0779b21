"""The policy of an assignment: its deadline, late days, attempts, groups, and which submission counts. Pure.

All times are by the clock of the policy's zone, unless they have an offset. ``domain/grade.py`` applies the policy.
"""

from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from broadway.domain.clock import Clock, Moment, Zone

MAX_STEPS = 100  # of credit
MAX_PERCENT = 200
MAX_ATTEMPTS = 10_000
FULL = Decimal(100)  # percent

Percent = Annotated[Decimal, Field(ge=0, le=MAX_PERCENT, allow_inf_nan=False, decimal_places=2)]
TimeOfDay = Annotated[str, StringConstraints(pattern=r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]$", max_length=5)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Counts(StrEnum):
    """The submission that counts, of those that may count. Equal ones: the earlier counts."""

    LATEST = "latest"
    BEST = "best"
    LATEST_BEFORE_DUE = "latest_before_due"
    BEST_BEFORE_DUE = "best_before_due"
    CHOSEN = "chosen"  # by the student; the latest until then


class Spend(StrEnum):
    """The way in which late days are used: by a late submission, or by a claim before it."""

    AUTO = "auto"
    CLAIMED = "claimed"


class PastLimit(StrEnum):
    """The treatment of a submission beyond the limit of attempts."""

    REFUSE = "refuse"
    PRACTICE = "practice"  # it is graded, and does not count
    PENALTY = "penalty"  # it counts less


class CreditStep(_Part):
    """The part of the points that a submission until a time gets: more than 100 before the due time, less after it."""

    until: Moment
    percent: Percent


class Deadline(_Part):
    """The times of an assignment.

    ``opens``: earlier submissions do not count. ``due``: later ones are late. ``closes``: later ones do not count; it
    is the last of the other ends unless it is given. Every end is extended by ``grace_seconds``. ``credit`` has steps
    in the order of time; after the last one a late submission gets nothing.
    """

    opens: Moment | None = None
    due: Moment | None = None
    closes: Moment | None = None
    grace_seconds: int = Field(default=0, ge=0, le=86400)
    credit: Annotated[tuple[CreditStep, ...], Field(max_length=MAX_STEPS)] = ()

    @property
    def grace(self) -> timedelta:
        """The time after each end that still belongs to it."""
        return timedelta(seconds=self.grace_seconds)


class LateDays(_Part):
    """Days by which students may be late without losing points; a day ends at the due time of day.

    ``per_course`` days are for all assignments together. A submission that needs more days than are left uses none.
    Each member of a group uses days of their own.
    """

    per_assignment: int = Field(ge=1, le=100)
    per_course: int = Field(ge=1, le=1000)
    spend: Spend = Spend.AUTO


class DailyLimit(_Part):
    """The number of submissions per day; a day begins at ``reset``."""

    submissions: int = Field(ge=1, le=MAX_ATTEMPTS)
    reset: TimeOfDay = "00:00"

    @property
    def after_midnight(self) -> timedelta:
        """The time of day at which a day begins."""
        hours, minutes = map(int, self.reset.split(":"))
        return timedelta(hours=hours, minutes=minutes)


class AttemptLimits(_Part):
    """The limit of submissions of a student or a group. The student's fault alone uses attempts.

    ``cooldown_seconds`` must pass after a submission. With ``past_limit`` `penalty`, each submission beyond a limit
    loses ``penalty_percent`` more than the one before.
    """

    total: int | None = Field(default=None, ge=1, le=MAX_ATTEMPTS)
    per_day: DailyLimit | None = None
    cooldown_seconds: int = Field(default=0, ge=0, le=366 * 86400)
    past_limit: PastLimit = PastLimit.REFUSE
    penalty_percent: Annotated[Percent, Field(gt=0, le=100)] | None = None

    @property
    def cooldown(self) -> timedelta:
        """The time that must pass after a submission."""
        return timedelta(seconds=self.cooldown_seconds)

    @model_validator(mode="after")
    def _has_its_penalty(self) -> Self:
        if (self.past_limit is PastLimit.PENALTY) is (self.penalty_percent is None):
            raise ValueError("penalty_percent: expected together with past_limit penalty, and only then")
        return self


class Groups(_Part):
    """Groups that hand in together; ``max`` is the number of members."""

    max: int = Field(ge=2, le=1000)


class Policy(_Part):
    """The rules by which submissions become a grade."""

    zone: Zone = "UTC"
    deadline: Deadline = Deadline()
    late_days: LateDays | None = None
    attempts: AttemptLimits | None = None
    groups: Groups | None = None
    counts: Counts = Counts.LATEST

    @property
    def clock(self) -> Clock:
        """The clock of the zone."""
        return Clock.of(self.zone)

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        if problem := self._problem_of_times() or self._problem_of_steps() or self._problem_of_counts():
            raise ValueError(problem)
        return self

    def _problem_of_times(self) -> str | None:
        """Return the times that contradict each other, or None."""
        times, clock = self.deadline, self.clock
        if times.due is None:
            needs = next((name for name, has in (("closes", times.closes), ("credit", times.credit)) if has), None)
            return f"deadline.due: expected, since deadline.{needs} is given" if needs else None
        due = clock.ends(times.due)
        if times.opens and clock.begins(times.opens) >= due:
            return "deadline.opens: expected a time before deadline.due"
        if times.closes is None:
            return None
        closes = clock.ends(times.closes)
        if closes < due:
            return "deadline.closes: expected no time before deadline.due"
        if closes > due and not self.late_days and not any(clock.ends(step.until) > due for step in times.credit):
            return (
                "deadline.closes: a later time than deadline.due needs the credit of late submissions; add a step to "
                "deadline.credit, such as the same time with percent 100, or late_days"
            )
        return None

    def _problem_of_steps(self) -> str | None:
        """Return the step of credit that is not in order, or None."""
        times, clock = self.deadline, self.clock
        if times.due is None:
            return None
        due, last = clock.ends(times.due), clock.ends(times.closes) if times.closes else None
        before: tuple[datetime, Decimal] | None = None
        for index, step in enumerate(times.credit):
            end = clock.ends(step.until)
            if before and end <= before[0]:
                return f"deadline.credit.{index}.until: expected a later time than in the step before"
            if before and step.percent > before[1]:
                return f"deadline.credit.{index}.percent: expected no more than in the step before"
            if (step.percent < FULL) if end <= due else (step.percent > FULL):
                bound = "at least 100 until" if end <= due else "at most 100 after"
                return f"deadline.credit.{index}.percent: expected {bound} deadline.due"
            if last and end > last:
                return f"deadline.credit.{index}.until: expected no time after deadline.closes"
            before = end, step.percent
        return None

    def _problem_of_counts(self) -> str | None:
        """Return a rule that needs a due time which is not there, or None."""
        if self.deadline.due is not None:
            return None
        if self.late_days:
            return "deadline.due: expected, since late_days is given"
        if self.counts in (Counts.LATEST_BEFORE_DUE, Counts.BEST_BEFORE_DUE):
            return f"deadline.due: expected, since counts is {self.counts}"
        return None
