"""Schedules: extensions of one student, a group or a label, and the times that move with them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from broadway.domain.extension import Extension, ExtensionOrder, Member, by_target, for_member, in_force
from broadway.domain.policy import Policy
from broadway.domain.schedule import Schedule, last_end, schedules_of, useless

ADA = Member("ada", group="g1", labels=frozenset({"evening"}))
POLICY = Policy.model_validate(
    {
        "zone": "Europe/Berlin",
        "deadline": {
            "due": "2026-12-04T12:00",
            "closes": "2026-12-06T12:00",
            "grace_seconds": 60,
            "credit": [
                {"until": "2026-12-02T12:00", "percent": 110},
                {"until": "2026-12-05T12:00", "percent": 90},
                {"until": "2026-12-06T12:00", "percent": 50},
            ],
        },
    }
)
BARE = Policy.model_validate({"zone": "Europe/Berlin", "deadline": {"due": "2026-12-04T12:00"}})
DAYS = Policy.model_validate(
    {**BARE.model_dump(exclude_unset=True), "late_days": {"per_assignment": 2, "per_course": 3}}
)


def at(day: int, hour: int = 12, second: int = 0) -> datetime:
    """Return a time of December 2026 in Berlin, in UTC."""
    return datetime(2026, 12, day, hour - 1, 0, second, tzinfo=UTC)


def extension(number: int = 1, target: str = "student", name: str = "ada", **times: Any) -> Extension:
    return Extension(str(number), ExtensionOrder(target=target, name=name, **times), at(1) + timedelta(hours=number))


def first(*extensions: Extension, policy: Policy = POLICY, member: Member = ADA) -> Schedule:
    return schedules_of(policy, extensions, member)[0]


@pytest.mark.parametrize(
    ("time", "percent"),
    [
        (at(2), 110),
        (at(2, second=59) + timedelta(seconds=1), 110),  # the grace
        (at(2) + timedelta(seconds=61), 100),
        (at(4) + timedelta(seconds=60), 100),
        (at(4) + timedelta(seconds=61), 90),
        (at(5) + timedelta(seconds=60), 90),
        (at(5) + timedelta(seconds=61), 50),
        (at(6) + timedelta(seconds=60), 50),
        (at(6) + timedelta(seconds=61), 0),
    ],
)
def test_each_end_of_credit_has_the_grace(time: datetime, percent: int) -> None:
    assert first().percent(time) == percent


def test_an_extension_moves_all_later_ends_and_no_earlier_one() -> None:
    schedule = first(extension(add_days=3))

    assert (schedule.due_at, schedule.closes_at) == (at(7), at(9))
    assert [(step.until, step.percent) for step in schedule.steps] == [
        (at(2), Decimal(110)),
        (at(8), Decimal(90)),
        (at(9), Decimal(50)),
    ]
    assert [schedule.percent(time) for time in (at(5), at(8), at(8, 13), at(10))] == [100, 90, 50, 0]


@pytest.mark.parametrize(
    ("times", "due", "closes"),
    [
        ({"due": "2026-12-05T12:00"}, at(5), at(7)),
        ({"due": "2026-12-05T11:00Z"}, at(5), at(7)),
        ({"due": "2026-12-05T12:00", "add_days": 1}, at(6), at(8)),
        ({"add_minutes": 60}, at(4, 13), at(6, 13)),
        ({"add_days": 1, "add_minutes": 60}, at(5, 13), at(7, 13)),
        ({"closes": "2026-12-09T12:00"}, at(4), at(9)),
        ({"due": "2026-12-01T12:00"}, at(4), at(6)),  # earlier than the assignment's
        ({"closes": "2026-12-05T12:00"}, at(4), at(6)),
    ],
    ids=str,
)
def test_an_extension_replaces_times_or_adds_to_them(times: dict[str, Any], due: datetime, closes: datetime) -> None:
    schedule = first(extension(**times))

    assert (schedule.due_at, schedule.closes_at) == (due, closes)


def test_a_later_end_extends_the_last_step_of_late_credit() -> None:
    assert first(extension(closes="2026-12-09T12:00")).percent(at(8)) == 50
    assert first(extension(closes="2026-12-09T12:00"), policy=BARE).percent(at(8)) == 0


@pytest.mark.parametrize(
    ("target", "name", "holds"),
    [
        ("student", "ada", True),
        ("student", "g1", False),
        ("group", "g1", True),
        ("group", "ada", False),
        ("label", "evening", True),
        ("label", "morning", False),
    ],
)
def test_an_extension_is_for_a_student_a_group_or_a_label(target: str, name: str, *, holds: bool) -> None:
    schedules = schedules_of(POLICY, [extension(target=target, name=name, add_days=1)], ADA)

    assert [each.due_at for each in schedules] == ([at(5), at(4)] if holds else [at(4)])


def test_the_latest_extension_of_a_target_replaces_its_earlier_ones() -> None:
    by_mistake, right, of_group = (
        extension(1, add_days=30),
        extension(2, add_days=3),
        extension(3, "group", "g1", add_days=1),
    )
    found = schedules_of(POLICY, [of_group, right, by_mistake], ADA)

    assert [each.due_at for each in found] == [at(7), at(5), at(4)]
    assert [each.due_at for each in schedules_of(POLICY, [by_mistake, extension(4)], ADA)] == [at(4)]


def test_the_extensions_of_a_class_are_found_by_their_targets() -> None:
    of_class = [extension(n, "student", f"s{n}", add_days=1) for n in range(50)]
    own = [extension(60, "label", "evening", add_days=1), extension(61, add_days=30), extension(62, add_days=2)]
    latest = by_target([*own, *of_class])

    assert for_member(latest, ADA) == in_force([*of_class, *own], ADA) == [own[0], own[2]]
    assert for_member(latest, Member("eve")) == []


def test_the_end_of_a_student_is_the_last_of_all_with_its_grace() -> None:
    minute = timedelta(minutes=1)
    extended = schedules_of(
        POLICY, [extension(add_days=1), extension(2, "group", "g1", closes="2026-12-20T12:00")], ADA
    )

    assert last_end(schedules_of(POLICY, [], ADA)) == at(6) + minute
    assert last_end(extended) == at(20) + minute
    assert last_end(schedules_of(BARE, [], ADA)) == at(4)
    assert last_end(schedules_of(DAYS, [], ADA)) == at(6)
    assert last_end(schedules_of(Policy(), [extension(add_days=1)], ADA)) is None


@pytest.mark.parametrize(
    ("policy", "times", "reason"),
    [
        (POLICY, {"add_days": 1}, None),
        (POLICY, {"closes": "2026-12-09T12:00"}, None),
        (POLICY, {}, None),  # withdraws an earlier one
        (DAYS, {"closes": "2026-12-09T12:00"}, None),
        (Policy(), {"add_days": 1}, "the assignment has no due time"),
        (POLICY, {"due": "2026-12-04T12:00"}, "its times are not later than the assignment's"),
        (BARE, {"closes": "2026-12-09T12:00"}, "the assignment has no late credit, so that only a later due time"),
    ],
)
def test_an_extension_without_effect_is_explained(policy: Policy, times: dict[str, Any], reason: str | None) -> None:
    found = useless(policy, extension(**times))

    assert found is None if reason is None else found is not None and found.startswith(reason)


@pytest.mark.parametrize(
    "order",
    [
        {"target": "class", "name": "a"},
        {"target": "student", "name": ""},
        {"target": "student", "name": "a", "add_days": -1},
        {"target": "student", "name": "a", "add_days": 1001},
        {"target": "student", "name": "a", "due": "2026-12-04"},
        {"target": "student", "name": "a", "days": 1},
    ],
    ids=str,
)
def test_an_order_out_of_bounds_is_refused(order: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ExtensionOrder.model_validate(order)


def test_an_extension_over_a_daylight_saving_night_ends_at_the_same_time_of_day() -> None:
    policy = Policy.model_validate({"zone": "Europe/Berlin", "deadline": {"due": "2026-10-24T23:59"}})
    days, minutes = (
        first(extension(**times), policy=policy).due_at for times in ({"add_days": 1}, {"add_minutes": 1440})
    )

    assert days == datetime(2026, 10, 25, 22, 59, tzinfo=UTC)
    assert minutes == datetime(2026, 10, 25, 21, 59, tzinfo=UTC)


def test_an_assignment_never_closes_before_its_due_time() -> None:
    policy = Policy.model_validate(  # both in the hour that exists twice, by exact times
        {
            "zone": "Europe/Berlin",
            "deadline": {
                "due": "2026-10-25T02:10+02:00",
                "closes": "2026-10-25T02:30+02:00",
                "credit": [{"until": "2026-10-25T02:30+02:00", "percent": 50}],
            },
        }
    )
    schedule = first(extension(add_minutes=60), policy=policy)

    assert schedule.due_at == schedule.closes_at == datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
