"""Handing in: submissions are taken or refused by the rules of their grade, and refusals say when the next one is."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadway.domain.clock import Clock
from broadway.domain.counting import Obstacle, candidates
from broadway.domain.extension import Extension, ExtensionOrder, Member
from broadway.domain.grade import grade
from broadway.domain.hand_in import TAKEN, Entrant, attempts_of, is_open, ruling
from broadway.domain.job import Outcome
from broadway.domain.policy import AttemptLimits, Policy
from broadway.domain.schedule import schedules_of
from broadway.domain.work import Work, attempts_at, beyond_limits

DUE = datetime(2026, 10, 24, 21, 59, tzinfo=UTC)  # 23:59 in Berlin, in the night in which the clocks are put back
OPENS = datetime(2026, 10, 1, 6, tzinfo=UTC)
OPENING, END = "1 Oct 2026, 08:00 CEST", "24 Oct 2026, 23:59"
NEXT = "the next one is possible from"
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LOST = Outcome.INFRASTRUCTURE_ERROR
ADA, BOB = Member("ada", "g7"), Member("bob", "g7")


def policy(**rules: Any) -> Policy:
    deadline = {"opens": "2026-10-01T08:00", "due": "2026-10-24T23:59", **rules.pop("deadline", {})}
    return Policy.model_validate({"zone": "Europe/Berlin", "deadline": deadline, **rules})


def entrant(*works: Work, member: Member = ADA, **extension: Any) -> Entrant:
    order = ExtensionOrder(target="student", name=member.student, **extension)
    return Entrant(member, [Extension("1", order, DUE)] if extension else [], works)


def works(*times: datetime, outcome: Outcome | None = Outcome.SUCCEEDED) -> list[Work]:
    return [Work(f"s{number}", at, outcome, Decimal(10), Decimal(10)) for number, at in enumerate(times)]


def test_only_a_policy_without_times_and_limits_takes_all() -> None:
    assert is_open(Policy())
    assert not is_open(policy())
    assert not is_open(Policy(attempts=AttemptLimits(total=1)))


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (OPENS - MINUTE, f"the assignment opens at {OPENING}; it is 1 Oct 2026, 07:59 CEST now"),
        (OPENS, ""),
        (DUE, ""),
        (DUE + SECOND, f"the assignment closed at {END} CEST; this submission came at {END}:01 CEST"),
    ],
)  # fmt: skip
def test_a_submission_outside_of_the_times_is_refused_with_both_times(at: datetime, text: str) -> None:
    found = ruling(policy(), [entrant()], at)

    assert (found.is_taken, found.text) == (not text, text)


def test_the_text_of_a_late_submission_has_the_time_of_something_that_exists() -> None:
    at = DUE.replace(second=1, microsecond=500_000)
    seconds = policy(deadline={"due": DUE.replace(second=1).isoformat().replace("+00:00", "Z")})
    asked = ruling(policy(), [entrant()], DUE + SECOND, is_asked=True)
    assert asked.text == f"the assignment closed at {END} CEST; it is {END}:01 CEST now"
    end = f"the assignment closed at {END}:01 CEST; this submission came"
    assert ruling(seconds, [entrant()], at).text == f"{end} less than a second later"


def test_an_extension_through_the_night_in_which_clocks_are_put_back_ends_by_the_clock() -> None:
    extended = [entrant(add_days=1)]

    assert ruling(policy(), extended, DUE + DAY + HOUR) == TAKEN  # 23:59 in winter time, 25 hours later
    refused = ruling(policy(), extended, DUE + DAY + HOUR + SECOND)
    assert refused.text.startswith("the assignment closed at 25 Oct 2026, 23:59 CET")


def test_an_end_in_the_doubled_hour_is_the_later_one() -> None:
    night = policy(deadline={"due": "2026-10-25T02:30"})
    second = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)  # the second 02:30

    assert ruling(night, [entrant()], second).is_taken
    assert not ruling(night, [entrant()], second + SECOND).is_taken


def test_a_group_hands_in_while_one_member_may() -> None:
    members = [entrant(), entrant(member=BOB, add_minutes=30)]

    assert ruling(policy(), members, DUE + 30 * MINUTE).is_taken
    assert not ruling(policy(), members, DUE + 31 * MINUTE).is_taken


def test_a_member_out_of_late_days_is_noted_and_the_group_may_hand_in() -> None:
    rules = policy(late_days={"per_assignment": 2, "per_course": 5})
    with_days = Entrant(Member("ada", "g7", late_days_left=1), [], [])
    without = Entrant(Member("bob", "g7"), [], [])

    assert ruling(rules, [with_days, without], DUE + HOUR) == TAKEN
    alone = ruling(rules, [without], DUE + HOUR)
    assert alone.is_taken
    assert alone.text == "it is graded, and does not count: it needs more late days than are left"
    assert not ruling(rules, [with_days, without], DUE + 3 * DAY).is_taken  # closed for both


@pytest.mark.parametrize(
    ("limits", "used", "text"),
    [
        ({"total": 2}, 2, "2 of 2 submissions are used; no attempt is left"),
        (
            {"per_day": {"submissions": 2, "reset": "04:00"}},
            2,
            f"2 of 2 submissions of this day are used; {NEXT} 11 Oct 2026, 04:00 CEST",
        ),
        (
            {"total": 9, "cooldown_seconds": 7200},
            1,
            f"1 of 9 submissions are used; 7200 s must pass after a submission; {NEXT} 10 Oct 2026, 16:00 CEST",
        ),
    ],
    ids=["total", "per_day", "cooldown"],
)
def test_used_up_attempts_are_named_with_the_next_time(limits: dict[str, Any], used: int, text: str) -> None:
    noon = datetime(2026, 10, 10, 12, tzinfo=UTC)
    before = works(*(noon + number * MINUTE for number in range(used)))

    found = ruling(policy(attempts=limits), [entrant(*before)], noon + 10 * MINUTE)

    assert (found.is_taken, found.text) == (False, text)


def test_a_next_attempt_after_the_close_is_none() -> None:
    rules = policy(attempts={"per_day": {"submissions": 1}})

    found = ruling(rules, [entrant(*works(DUE - HOUR))], DUE - MINUTE)

    assert found.next_at is None
    assert found.text.endswith("no further one is possible before the assignment closes at 24 Oct 2026, 23:59 CEST")


def test_an_attempt_that_the_infrastructure_spoiled_is_free_again() -> None:
    rules = policy(attempts={"total": 1})

    assert not ruling(rules, [entrant(*works(DUE - HOUR, outcome=None))], DUE).is_taken
    assert ruling(rules, [entrant(*works(DUE - HOUR, outcome=LOST))], DUE).is_taken


def test_a_submission_is_not_counted_against_itself() -> None:
    rules = policy(attempts={"total": 1})
    (stored,) = works(DUE - HOUR)

    assert ruling(rules, [entrant(stored)], stored.at, stored.id).is_taken


def test_submissions_before_the_opening_use_no_attempt() -> None:
    rules = policy(attempts={"total": 1})
    early = works(datetime(2026, 9, 1, tzinfo=UTC))

    (schedule,) = schedules_of(rules, [], ADA)
    attempts = attempts_of(rules, schedule, early, DUE)
    assert attempts is not None
    assert (attempts.used, attempts.left) == (0, 1)


limits = st.builds(
    AttemptLimits,
    total=st.none() | st.integers(1, 4),
    per_day=st.none()
    | st.fixed_dictionaries({"submissions": st.integers(1, 2), "reset": st.sampled_from(["00:00", "02:30", "04:00"])}),
    cooldown_seconds=st.sampled_from([0, 600, 90_000]),
)
times = st.integers(-3 * 1440, 2 * 1440).map(lambda minutes: DUE + minutes * MINUTE)
outcomes = st.sampled_from([None, Outcome.SUCCEEDED, Outcome.FAILED, LOST, Outcome.CANCELLED])
handed_in = st.lists(st.tuples(times, outcomes), max_size=6).map(
    lambda found: [Work(f"s{n}", at, outcome, Decimal(n), Decimal(10)) for n, (at, outcome) in enumerate(found)]
)


@given(limits, handed_in, times)
def test_the_next_free_time_is_within_the_limits(rules: AttemptLimits, before: list[Work], at: datetime) -> None:
    before = [work for work in before if work.at <= at]
    clock = Clock.of("Europe/Berlin")

    attempts = attempts_at(rules, clock, before, at)

    if attempts.next_at is None:
        assert attempts.left == 0
        return
    assert attempts.next_at >= at
    assert "~" not in beyond_limits(rules, clock, [*before, Work("~", attempts.next_at)])
    if attempts.next_at > at:
        assert "~" in beyond_limits(rules, clock, [*before, Work("~", at)])


@given(limits, handed_in, times, st.integers(0, 10))
def test_no_submission_is_refused_that_the_grade_would_count(
    rules: AttemptLimits, before: list[Work], at: datetime, score: int
) -> None:
    whole = policy(attempts=rules.model_dump(), counts="best", deadline={"opens": "2026-10-22T12:00"})
    before = [work for work in before if work.at <= at]

    found = ruling(whole, [entrant(*before)], at, "~")
    new = Work("~", at, Outcome.SUCCEEDED, Decimal(score + 10), Decimal(20))  # better than all others
    graded = grade(ADA, [*before, new], policy=whole, points=None, now=DUE + DAY)

    assert (graded.submission == "~") is found.is_taken


@given(limits, handed_in, times)
def test_results_can_only_free_attempts_without_a_time_between_them(
    rules: AttemptLimits, before: list[Work], at: datetime
) -> None:
    """The read of results is left out if a submission is taken as if all earlier ones used an attempt."""
    whole = policy(attempts=rules.model_copy(update={"cooldown_seconds": 0}).model_dump())
    waiting = [Work(work.id, work.at) for work in before]

    if ruling(whole, [entrant(*waiting)], at).is_taken:
        assert ruling(whole, [entrant(*before)], at).is_taken


def test_a_refusal_has_the_obstacle_of_the_grade() -> None:
    rules = policy()
    (schedule,) = schedules_of(rules, [], ADA)

    (found,) = candidates(rules, schedule, ADA, works(DUE + HOUR))

    assert found.obstacle is Obstacle.CLOSED
