"""The settings of an assignment as sentences."""

from typing import Any

import pytest

from broadway.domain.assignment_settings import AssignmentSettings
from broadway.domain.settings_words import sentences_of

POLICY: dict[str, Any] = {
    "zone": "Europe/Berlin",
    "deadline": {
        "opens": "2026-11-01T00:00",
        "due": "2026-11-20T23:59",
        "grace_seconds": 300,
        "credit": [{"until": "2026-11-25T23:59", "percent": 50}],
    },
    "late_days": {"per_assignment": 2, "per_course": 3},
    "attempts": {"total": 2, "past_limit": "penalty", "penalty_percent": 10},
    "groups": {"max": 2},
    "counts": "best",
}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "There is no due time."),
        ({}, "The latest submission counts."),
        ({}, "The reports say how many points there are."),
        ({"points": "10.5"}, "10.5 points are possible."),
        ({"policy": POLICY}, "Opens 1 Nov 2026, 00:00 CET."),
        ({"policy": POLICY}, "Due 20 Nov 2026, 23:59 CET, with 5 minutes of grace."),
        ({"policy": POLICY}, "Until 25 Nov 2026, 23:59 CET a submission gets 50 % of its points."),
        (
            {"policy": POLICY},
            "Late days: 2 for this assignment, 3 for the course; they are used by a late submission.",
        ),
        ({"policy": POLICY}, "At most 2 attempts; each further one loses 10 % more."),
        ({"policy": POLICY}, "Students hand in alone or in groups of at most 2."),
        ({"policy": POLICY}, "The best submission counts."),
        ({"quota": {"submissions": 1, "seconds": 3600}}, "At most 1 submission within 1 hour."),
        ({"starts": "with_roster"}, "A submission is graded by the next run for the roster."),
        ({"files": {"required": ["main.c"], "allowed": ["*.h"]}}, "Needed files: main.c."),
    ],
)
def test_a_setting_is_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    assert sentence in sentences_of(AssignmentSettings.model_validate(settings))
