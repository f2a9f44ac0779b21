"""Grades of any submissions under any policy: order, extensions, errors of the infrastructure, nights, arithmetic."""

import re
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import available_timezones

from hypothesis import example, given
from hypothesis import strategies as st

from broadway.domain.clock import Clock
from broadway.domain.counting import Adjustment, candidates
from broadway.domain.extension import Extension, ExtensionOrder, Member
from broadway.domain.grade import Grade, grade
from broadway.domain.job import Outcome
from broadway.domain.policy import Counts, PastLimit, Policy, Spend
from broadway.domain.schedule import Schedule, schedules_of
from broadway.domain.work import Work

DUE = datetime(2026, 10, 24, 21, 59, tzinfo=UTC)  # 23:59 in Berlin, in the night in which the clocks are put back
NOW = DUE + timedelta(days=100)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
LOWEST = Decimal(-1)
RESULT = re.compile(r"(\S+) (\N{MULTIPLICATION SIGN}|\+|-) (\S+)(?: %)? = (\S+?)\.?(?: Reason.*)?$")

minutes = st.integers(-6 * 1440, 8 * 1440)
scores = st.decimals(-5, 12, places=2)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Return any valid policy with a due time."""
    percents = sorted(draw(st.lists(st.integers(0, 100), max_size=3)), reverse=True)
    credit = [{"until": f"2026-10-{25 + 2 * n}T23:59", "percent": each} for n, each in enumerate(percents)]
    early = [{"until": "2026-10-23T23:59", "percent": 110}] if draw(st.booleans()) else []
    closes = {"closes": "2026-10-30T23:59"} if credit and draw(st.booleans()) else {}
    opens = {"opens": "2026-10-21T02:30"} if draw(st.booleans()) else {}
    days = {"per_assignment": draw(st.integers(1, 3)), "per_course": 5, "spend": draw(st.sampled_from(Spend))}
    past = draw(st.sampled_from(PastLimit))
    penalty = {"penalty_percent": 15} if past is PastLimit.PENALTY else {}
    limits = {"total": draw(st.integers(1, 4)), "cooldown_seconds": 3600, "past_limit": past, **penalty}
    return Policy.model_validate(
        {
            "zone": "Europe/Berlin",
            "deadline": {
                "due": "2026-10-24T23:59",
                "grace_seconds": draw(st.sampled_from([0, 300])),
                "credit": early + credit,
                **closes,
                **opens,
            },
            "late_days": days if draw(st.booleans()) else None,
            "attempts": limits if draw(st.booleans()) else None,
            "counts": draw(st.sampled_from(Counts)),
        }
    )


@st.composite
def submissions(draw: st.DrawFn) -> list[Work]:
    """Return submissions around the due time, some of them at the same time."""
    found = []
    for number in range(draw(st.integers(0, 5))):
        outcome = draw(st.sampled_from([Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.FAILED, *Outcome, None]))
        at = DUE + timedelta(minutes=draw(minutes))
        found.append(Work(f"s{number}", at, outcome, draw(scores), Decimal(10), draw(st.booleans()) or number % 2 == 0))
    return found


times = st.one_of(
    st.fixed_dictionaries({"add_days": st.integers(0, 4), "add_minutes": st.integers(0, 300)}),
    st.sampled_from([{"due": "2026-10-25T02:30"}, {"closes": "2026-11-02T12:00"}, {"due": "2026-10-20T12:00"}]),
)
targets = st.sampled_from(
    [("student", "ada"), ("group", "g"), ("label", "evening"), ("label", "late"), ("student", "bob")]
)
members = st.builds(
    Member,
    student=st.just("ada"),
    group=st.just("g"),
    labels=st.just(frozenset({"evening", "late"})),
    late_days_left=st.integers(0, 4),
    late_days_claimed=st.integers(0, 4),
    chosen=st.sampled_from([None, "s0", "s1"]),
)
adjustments = st.lists(st.builds(Adjustment, scores, st.just("style")), max_size=2)


def extensions_of(orders: dict[tuple[str, str], dict[str, Any]]) -> list[Extension]:
    found = [
        ExtensionOrder.model_validate({"target": kind, "name": name, **each}) for (kind, name), each in orders.items()
    ]
    return [Extension(str(number), order, DUE) for number, order in enumerate(found)]


extensions = st.dictionaries(targets, times, max_size=3).map(extensions_of)


def graded(
    member: Member, works: Sequence[Work], policy: Policy, extended: Sequence[Extension], adjusted: Sequence[Adjustment]
) -> Grade:
    return grade(member, works, policy=policy, points=Decimal(10), extensions=extended, adjustments=adjusted, now=NOW)


def points_of(found: Grade) -> Decimal:
    """Return points, of which none at all are the fewest."""
    return LOWEST if found.points is None else found.points


@given(members, submissions(), policies(), extensions, adjustments, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(
    member: Member,
    works: list[Work],
    policy: Policy,
    extended: list[Extension],
    adjusted: list[Adjustment],
    random: Any,
) -> None:
    mixed, mixed_extensions = random.sample(works, len(works)), random.sample(extended, len(extended))

    assert graded(member, mixed, policy, mixed_extensions, adjusted) == graded(
        member, works, policy, extended, adjusted
    )


class Thorough(Schedule):
    """A schedule by which the rules for its time are applied to each submission, also to one on time."""

    def is_in_full(self, at: datetime) -> bool:  # noqa: ARG002 - the signature of Schedule
        """Return False."""
        return False


@given(members, submissions(), policies(), extensions)
def test_a_submission_on_time_counts_as_if_all_rules_were_applied(
    member: Member, works: list[Work], policy: Policy, extended: list[Extension]
) -> None:
    for schedule in schedules_of(policy, extended, member):
        given_ = {each.name: getattr(schedule, each.name) for each in fields(schedule) if each.init}
        thorough = Thorough(**given_)
        assert candidates(policy, schedule, member, works) == candidates(policy, thorough, member, works)
        assert all(schedule.percent(each.at) == percent(thorough, each.at) for each in works)


def percent(schedule: Schedule, at: datetime) -> Decimal:
    """Return the percent of a submission by its definition."""
    step = next((step for step in schedule.steps if at <= step.until + schedule.grace), None)
    if schedule.due_at is not None and at - schedule.due_at > schedule.grace:
        return step.percent if step else Decimal(0)
    is_early = step is not None and schedule.due_at is not None and step.until <= schedule.due_at
    return step.percent if step and is_early else Decimal(100)


@given(members, submissions(), policies(), st.dictionaries(targets, times, min_size=1), adjustments)
def test_an_extension_never_lowers(
    member: Member,
    works: list[Work],
    policy: Policy,
    orders: dict[tuple[str, str], dict[str, Any]],
    adjusted: list[Adjustment],
) -> None:
    extended = extensions_of(orders)
    before, after = (graded(member, works, policy, some, adjusted) for some in (extended[:-1], extended))

    assert points_of(after) >= points_of(before)


@given(members, submissions(), policies(), extensions, minutes, adjustments)
def test_an_infrastructure_error_never_changes_a_grade(
    member: Member, works: list[Work], policy: Policy, extended: list[Extension], late: int, adjusted: list[Adjustment]
) -> None:
    lost = Work("s9", DUE + timedelta(minutes=late), Outcome.INFRASTRUCTURE_ERROR, Decimal(12))
    before = graded(member, works, policy, extended, adjusted)
    after = graded(member, [lost, *works], policy, extended, adjusted)

    assert set(after.unsettled) - {"s9"} == set(before.unsettled)
    facts = ("status", "unsettled", "is_final", "lines", "number")  # that there is one more, which has no result yet
    assert replace(after, **{name: getattr(before, name) for name in facts}) == before
    if before.submission is not None:
        assert after.status is before.status


@given(members, policies(), extensions, minutes, st.integers(0, 5 * 1440), scores)
def test_a_later_submission_is_never_worth_more(
    member: Member, policy: Policy, extended: list[Extension], at: int, later: int, score: Decimal
) -> None:
    policy = policy.model_copy(update={"deadline": policy.deadline.model_copy(update={"opens": None})})
    early, late = (
        Work("s0", DUE + timedelta(minutes=each), Outcome.SUCCEEDED, score, Decimal(10)) for each in (at, at + later)
    )

    assert points_of(graded(member, [late], policy, extended, [])) <= points_of(
        graded(member, [early], policy, extended, [])
    )


@given(
    st.sampled_from(sorted(available_timezones() - {"Pacific/Kwajalein", "Kwajalein"})),
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(lambda moment: moment.replace(microsecond=0)),  # noqa: DTZ001 - by the zone's clock
    st.integers(0, 10),
)
@example("Europe/Berlin", datetime.fromisoformat("2026-10-24T23:59"), 1)
@example("Europe/Berlin", datetime.fromisoformat("2026-10-24T02:30"), 1)
@example("Europe/Berlin", datetime.fromisoformat("2026-03-28T02:30"), 1)
def test_a_day_late_is_the_same_time_of_the_next_day_in_every_zone(zone: str, due: datetime, days: int) -> None:
    clock = Clock.of(zone)
    end = clock.ends(due + days * DAY)

    assert [clock.days_after(due, at, timedelta()) for at in (end, end + SECOND)] == [days, days + 1]


@given(members, submissions(), policies(), extensions, adjustments)
def test_each_line_can_be_recomputed(
    member: Member, works: list[Work], policy: Policy, extended: list[Extension], adjusted: list[Adjustment]
) -> None:
    found = graded(member, works, policy, extended, adjusted)
    present = Fraction(0)
    for line in found.lines:
        if step := RESULT.search(line.text):
            first, sign, second, result = step[1], step[2], step[3], step[4]
            assert Fraction(first) == present
            by = Fraction(second)
            expected = {"+": present + by, "-": present - by}.get(sign, present * by / 100)
            assert Fraction(result) == expected
        if line.points is not None:
            present = Fraction(line.points)

    assert found.lines[-1].points == found.points
    assert found.points is None or Fraction(found.points) == present
