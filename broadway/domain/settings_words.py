"""The settings of an assignment as sentences, for staff. Pure."""

from collections.abc import Iterator
from datetime import timedelta

from broadway.domain.assignment_settings import AssignmentSettings, FileRules, Start
from broadway.domain.grade_lines import duration_text, points_text
from broadway.domain.policy import AttemptLimits, Counts, LateDays, PastLimit, Policy, Spend

MAX_SHOWN = 20  # patterns, and steps of credit

_COUNTS = {
    Counts.LATEST: "The latest submission counts.",
    Counts.BEST: "The best submission counts.",
    Counts.LATEST_BEFORE_DUE: "The latest submission before the due time counts.",
    Counts.BEST_BEFORE_DUE: "The best submission before the due time counts.",
    Counts.CHOSEN: "The submission that the student has chosen counts; the latest one until then.",
}
_PAST = {
    PastLimit.REFUSE: "further ones are refused",
    PastLimit.PRACTICE: "further ones are for practice",
    PastLimit.PENALTY: "each further one loses {} % more",
}


def sentences_of(settings: AssignmentSettings) -> list[str]:
    """Return what holds for an assignment, one sentence for each setting; all times have their zone."""
    return [*_policy(settings.policy), *_worth(settings), *_files(settings.files)]


def _worth(settings: AssignmentSettings) -> Iterator[str]:
    if settings.points is None:
        yield "The reports say how many points there are."
    else:
        yield f"{points_text(settings.points)} points are possible."
    if settings.starts is Start.AT_ONCE:
        yield "A submission is graded when it arrives."
    else:
        yield "A submission is graded by the next run for the roster."
    if settings.only_latest:
        yield "A submission supersedes the student's earlier ones that still wait."
    if quota := settings.quota:
        yield f"At most {_count(quota.submissions, 'submission')} within {_seconds(quota.seconds)}."


def _policy(policy: Policy) -> Iterator[str]:
    yield from _times(policy)
    if policy.late_days:
        yield _late_days(policy.late_days)
    if policy.attempts:
        yield from _attempts(policy.attempts)
    if policy.groups:
        yield f"Students hand in alone or in groups of at most {policy.groups.max}."
    yield _COUNTS[policy.counts]


def _times(policy: Policy) -> Iterator[str]:
    times, clock = policy.deadline, policy.clock
    if times.due is None:
        yield "There is no due time."
    if times.opens:
        yield f"Opens {clock.shown(clock.begins(times.opens))}."
    if times.due:
        yield f"Due {clock.shown(clock.ends(times.due))}{_grace(times.grace_seconds)}."
    for step in times.credit[:MAX_SHOWN]:
        until = clock.shown(clock.ends(step.until))
        yield f"Until {until} a submission gets {points_text(step.percent)} % of its points."
    if times.closes:
        yield f"Closes {clock.shown(clock.ends(times.closes))}."


def _grace(seconds: int) -> str:
    return f", with {_seconds(seconds)} of grace" if seconds else ""


def _late_days(rule: LateDays) -> str:
    use = "are used by a late submission" if rule.spend is Spend.AUTO else "are claimed before they are used"
    return f"Late days: {rule.per_assignment} for this assignment, {rule.per_course} for the course; they {use}."


def _attempts(rule: AttemptLimits) -> Iterator[str]:
    past = _PAST[rule.past_limit].format(points_text(rule.penalty_percent) if rule.penalty_percent else "")
    if rule.total:
        yield f"At most {_count(rule.total, 'attempt')}; {past}."
    if rule.per_day:
        daily = rule.per_day
        yield f"At most {_count(daily.submissions, 'attempt')} a day, which begins at {daily.reset}; {past}."
    if rule.cooldown_seconds:
        yield f"{_seconds(rule.cooldown_seconds)} must pass between two submissions."


def _files(rules: FileRules) -> Iterator[str]:
    for title, patterns in (("Needed", rules.required), ("Allowed", rules.allowed)):
        if patterns:
            more = f" and {len(patterns) - MAX_SHOWN} more" if len(patterns) > MAX_SHOWN else ""
            yield f"{title} files: {', '.join(patterns[:MAX_SHOWN])}{more}."


def _seconds(seconds: float) -> str:
    return duration_text(timedelta(seconds=seconds))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
