"""Standings of students as resources."""

from datetime import datetime

from broadway.domain.clock import Clock
from broadway.domain.extension import Member
from broadway.domain.policy import AttemptLimits, LateDays
from broadway.domain.schedule import Schedule
from broadway.domain.work import Attempts
from broadway.ingest.reads.handed_in import HandedInWork
from broadway.ingest.reads.standings import StudentStanding
from broadway.messages.resources.standings import (
    AttemptsView,
    CreditView,
    LateDaysView,
    StandingSubmission,
    StandingView,
    TimeView,
)

MOST_SHOWN = 50  # submissions


def standing_view(standing: StudentStanding) -> StandingView:
    schedule, member, policy = standing.schedule, standing.member, standing.settings.policy
    clock = schedule.clock
    return StandingView(
        assignment=standing.assignment,
        student=member.student,
        group=member.group,
        now=standing.at,
        zone=policy.zone,
        points=standing.settings.points,
        opens=time_view(clock, schedule.opens_at),
        due=time_view(clock, schedule.due_at),
        closes=time_view(clock, standing.closes_at),
        grace_seconds=policy.deadline.grace_seconds,
        is_extended=schedule.extension is not None,
        credit=credit_of(schedule),
        counts=policy.counts,
        can_hand_in=standing.ruling.is_taken,
        message=standing.ruling.text,
        next=time_view(clock, standing.ruling.next_at),
        attempts=_attempts(clock, policy.attempts, standing.attempts),
        late_days=_late_days(policy.late_days, member),
        chosen=member.chosen,
        submissions=[_submission(each, member) for each in standing.found[:MOST_SHOWN]],
    )


def credit_of(schedule: Schedule) -> list[CreditView]:
    return [
        CreditView(until=TimeView(at=step.until, text=schedule.clock.shown(step.until)), percent=step.percent)
        for step in schedule.steps
    ]


def time_view(clock: Clock, at: datetime | None) -> TimeView | None:
    return None if at is None else TimeView(at=at, text=clock.shown(at))


def _attempts(clock: Clock, limits: AttemptLimits | None, attempts: Attempts | None) -> AttemptsView | None:
    if limits is None or attempts is None:
        return None
    return AttemptsView(
        used=attempts.used,
        used_today=attempts.used_today,
        left=attempts.left,
        next=time_view(clock, attempts.next_at),
        total=limits.total,
        per_day=limits.per_day.submissions if limits.per_day else None,
        cooldown_seconds=limits.cooldown_seconds,
        past_limit=limits.past_limit,
    )


def _late_days(rule: LateDays | None, member: Member) -> LateDaysView | None:
    if rule is None:
        return None
    return LateDaysView(
        left=member.late_days_left,
        claimed=member.late_days_claimed,
        per_assignment=rule.per_assignment,
        per_course=rule.per_course,
        spend=rule.spend,
    )


def _submission(found: HandedInWork, member: Member) -> StandingSubmission:
    delivery, job = found.delivery, found.job
    return StandingSubmission(
        id=found.id,
        is_upload=found.is_upload,
        student=found.student,
        at=found.at,
        version=found.version,
        state=delivery.state if delivery else None,
        reason=delivery.reason if delivery else "",
        job=job.id if job else None,
        job_state=job.state if job else None,
        outcome=found.outcome,
        is_chosen=found.id == member.chosen,
    )
