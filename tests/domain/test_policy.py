"""Policies: refusals of rules that contradict each other, and the stored form."""

from typing import Any

import pytest
from pydantic import ValidationError

from broadway.domain.assignment_settings import AssignmentSettings
from broadway.domain.mistakes import mistakes
from broadway.domain.policy import Policy

DUE = "2026-12-04T23:59"
LATER, LAST = "2026-12-05T23:59", "2026-12-06T23:59"
FULL: dict[str, Any] = {
    "zone": "Europe/Berlin",
    "deadline": {
        "opens": "2026-11-20T08:00",
        "due": DUE,
        "closes": LAST,
        "grace_seconds": 300,
        "credit": [
            {"until": "2026-12-01T23:59", "percent": 110},
            {"until": LATER, "percent": "90.5"},
            {"until": LAST, "percent": 50},
        ],
    },
    "late_days": {"per_assignment": 2, "per_course": 5, "spend": "claimed"},
    "attempts": {
        "total": 20,
        "per_day": {"submissions": 5, "reset": "04:00"},
        "cooldown_seconds": 60,
        "past_limit": "penalty",
        "penalty_percent": 10,
    },
    "groups": {"max": 3},
    "counts": "best",
}


def test_a_policy_is_the_same_when_stored_and_read() -> None:
    settings = AssignmentSettings.model_validate({"points": 10, "policy": FULL})

    assert AssignmentSettings.model_validate(settings.model_dump(mode="json", exclude_unset=True)) == settings
    assert AssignmentSettings.model_validate_json(settings.model_dump_json()) == settings


def test_settings_of_earlier_versions_have_a_policy_without_rules() -> None:
    settings = AssignmentSettings.model_validate({"points": 10})

    assert settings.policy == Policy()
    assert "policy" not in settings.model_dump(mode="json", exclude_unset=True)


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        ({"zone": "Europe/Atlantis"}, "such as Europe/Berlin"),
        ({"deadline": {"closes": LAST}}, "deadline.due: expected, since deadline.closes is given"),
        ({"deadline": {"credit": [{"until": DUE, "percent": 100}]}}, "deadline.due: expected, since deadline.credit"),
        ({"deadline": {"opens": DUE, "due": DUE}}, "deadline.opens: expected a time before deadline.due"),
        ({"deadline": {"due": LATER, "closes": DUE}}, "deadline.closes: expected no time before"),
        ({"deadline": {"due": DUE, "closes": LATER}}, "deadline.closes: a later time than deadline.due needs"),
        ({"late_days": {"per_assignment": 1, "per_course": 1}}, "deadline.due: expected, since late_days is given"),
        ({"counts": "best_before_due"}, "deadline.due: expected, since counts is best_before_due"),
        ({"attempts": {"past_limit": "penalty"}}, "penalty_percent: expected together with"),
        ({"attempts": {"penalty_percent": 5}}, "penalty_percent: expected together with"),
        ({"attempts": {"past_limit": "penalty", "penalty_percent": 0}}, "greater than 0"),
        ({"attempts": {"total": 0}}, "greater than or equal to 1"),
        ({"attempts": {"per_day": {"submissions": 1, "reset": "24:00"}}}, "match pattern"),
        ({"deadline": {"due": DUE, "grace_seconds": 86401}}, "less than or equal to 86400"),
        ({"deadline": {"due": DUE, "credit": [{"until": DUE, "percent": 201}]}}, "less than or equal to 200"),
        ({"deadline": {"due": DUE, "credit": [{"until": DUE, "percent": "100.123"}]}}, "decimal place"),
        ({"groups": {"max": 1}}, "greater than or equal to 2"),
        ({"counts": "first"}, "latest"),
        ({"due": DUE}, "not permitted"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_rules_that_contradict_each_other_are_refused(policy: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        AssignmentSettings.model_validate({"policy": policy})

    assert problem in caught.value.errors()[0]["msg"]
    assert caught.value.errors()[0]["loc"][0] == "policy"


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([(LATER, 90), (LATER, 80)], "credit.1.until: expected a later time than in the step before"),
        ([(LATER, 80), (LAST, 90)], "credit.1.percent: expected no more than in the step before"),
        ([("2026-12-01T23:59", 90)], "credit.0.percent: expected at least 100 until deadline.due"),
        ([(LATER, 101)], "credit.0.percent: expected at most 100 after deadline.due"),
        ([("2026-12-07T23:59", 10)], "credit.0.until: expected no time after deadline.closes"),
    ],
)
def test_steps_of_credit_are_in_order(steps: list[tuple[str, int]], problem: str) -> None:
    credit = [{"until": until, "percent": percent} for until, percent in steps]
    with pytest.raises(ValidationError) as caught:
        Policy.model_validate(
            {"deadline": {"due": DUE, "closes": LAST, "credit": credit}, "late_days": FULL["late_days"]}
        )

    assert problem in caught.value.errors()[0]["msg"]


def test_times_with_and_without_an_offset_are_compared_by_the_zone() -> None:
    deadline = {"opens": "2026-12-04T22:58:59Z", "due": DUE}
    Policy.model_validate({"zone": "Europe/Berlin", "deadline": deadline})
    with pytest.raises(ValidationError, match=r"deadline\.opens"):
        Policy.model_validate({"zone": "Europe/Berlin", "deadline": {**deadline, "opens": "2026-12-04T22:59:00Z"}})


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ({"zone": "Berlin"}, "policy.zone: expected the name of a time zone, such as Europe/Berlin or UTC"),
        (
            {"attempts": {"per_day": {"submissions": 1, "reset": "4 am"}}},
            "policy.attempts.per_day.reset: should be a time of day from 00:00 to 23:59",
        ),
        ({"deadline": {"due": "2026-12-04"}}, "policy.deadline.due: expected a date and a time, such as"),
    ],
    ids=["zone", "time of day", "time"],
)
def test_a_refusal_is_a_sentence(policy: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        AssignmentSettings.model_validate({"policy": policy})

    assert mistakes(caught.value, AssignmentSettings)[0].startswith(sentence)
