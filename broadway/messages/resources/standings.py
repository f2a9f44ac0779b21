"""The standing of a student in an assignment: times, attempts, late days and submissions."""

from datetime import datetime
from decimal import Decimal

from pydantic import Field

from broadway.domain.job import JobState, Outcome
from broadway.domain.policy import Counts, PastLimit, Spend
from broadway.domain.webhook import DeliveryState
from broadway.messages.resources.base import View


class TimeView(View):
    """A time, and the same by the clock of the assignment's zone."""

    at: datetime
    text: str = Field(description="such as `4 Dec 2026, 23:59 CET`")


class CreditView(View):
    """The percent of the points of a submission until a time."""

    until: TimeView
    percent: Decimal


class AttemptsView(View):
    """The attempts of a student or a group, and their limits."""

    used: int = Field(description="submissions that use an attempt; errors of the infrastructure do not")
    used_today: int = Field(description="those of the present day, which begins at the policy's `reset`; 0 without it")
    left: int | None = Field(description="further submissions, today if there is a limit per day; null without a limit")
    next: TimeView | None = Field(description="time from which on the next one is within the limits; null for never")
    total: int | None = Field(description="limit of all submissions, or null")
    per_day: int | None = Field(description="limit of a day's submissions, or null")
    cooldown_seconds: int = Field(description="time that must pass after a submission")
    past_limit: PastLimit


class LateDaysView(View):
    """The late days of a student."""

    left: int = Field(description="days of the course that the student has left before this assignment")
    claimed: int = Field(description="days that the student has claimed for this assignment")
    per_assignment: int
    per_course: int
    spend: Spend


class StandingSubmission(View):
    """A submission of a student or a group: an upload, or a push to a hook."""

    id: str = Field(description="id of the upload, or of the job of a push, or of its delivery without a job")
    is_upload: bool
    student: str = Field(description="the student or the group, by its name in the roster")
    at: datetime = Field(description="time of its first receipt")
    version: str = Field(description="the commit of a push, or the id of an upload")
    state: DeliveryState | None = Field(description="decision about its grading; null while it waits for a run")
    reason: str = Field(description="reason for the decision, or empty")
    job: str | None = Field(description="job that grades it, once it is stored")
    job_state: JobState | None
    outcome: Outcome | None
    is_chosen: bool = Field(description="true if the student has chosen it to count")


class StandingView(View):
    """The standing of a student in an assignment at a moment, under the student's own extensions."""

    assignment: str
    student: str
    group: str | None = Field(description="the student's group in this assignment, or null")
    now: datetime
    zone: str
    points: Decimal | None = Field(description="the most points, or null")
    opens: TimeView | None
    due: TimeView | None
    closes: TimeView | None = Field(description="end of the last submissions of this student, with the grace")
    grace_seconds: int
    is_extended: bool = Field(description="true if an extension gives this student later times")
    credit: list[CreditView]
    counts: Counts = Field(description="the submission that counts")
    can_hand_in: bool = Field(description="whether a submission would be taken now")
    message: str = Field(description="reason of a refusal, or why a submission would not count; otherwise empty")
    next: TimeView | None = Field(description="time from which on a refused submission would be taken, if it is known")
    attempts: AttemptsView | None = Field(description="null without limits")
    late_days: LateDaysView | None = Field(description="null without late days")
    chosen: str | None = Field(description="id of the submission that the student has chosen to count, or null")
    submissions: list[StandingSubmission] = Field(description="latest first, at most 50")
