"""Settings of assignments: bounds, and the files that an assignment expects."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from broadway.domain.assignment_settings import AssignmentSettings, FileRules
from broadway.domain.files import FileLimits, FileRefusedError


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"points": 0}, "points"),
        ({"points": -1}, "points"),
        ({"points": "NaN"}, "points"),
        ({"points": 1e9}, "points"),
        ({"points": "0.12345"}, "points"),
        ({"files": {"max_files": 0}}, "files.max_files"),
        ({"files": {"max_bytes": 2**40}}, "files.max_bytes"),
        ({"files": {"allowed": ["*"] * 101}}, "files.allowed"),
        ({"files": {"required": ["../x"]}}, "files.required.0"),
        ({"files": {"required": [""]}}, "files.required.0"),
        ({"starts": "tomorrow"}, "starts"),
        ({"deadline": "tomorrow"}, "deadline"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_setting_out_of_bounds_is_refused_by_name(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        AssignmentSettings.model_validate(settings)

    assert ".".join(map(str, caught.value.errors()[0]["loc"])) == field


def test_points_are_kept_as_they_are_written() -> None:
    settings = AssignmentSettings.model_validate({"points": "12.50"})

    assert settings.points == Decimal("12.5")
    assert AssignmentSettings.model_validate(settings.model_dump(mode="json")) == settings


def test_the_limits_of_files_are_those_of_one_submission() -> None:
    rules = FileRules(max_bytes=1, max_unpacked_bytes=2, max_files=3)

    assert rules.limits == FileLimits(upload=1, unpacked=2, files=3)


@pytest.mark.parametrize(
    "paths", [["main.c"], ["main.c", "util.h"], ["main.c", "src/deep/util.h"]], ids=["required", "flat", "deep"]
)
def test_expected_files_are_taken(paths: list[str]) -> None:
    FileRules(required=("main.c",), allowed=("*.h",)).check(paths)


@pytest.mark.parametrize(
    ("paths", "problem"),
    [
        ([], "there is no file in this submission"),
        (["Main.c"], "main.c is missing; the files are Main.c"),
        (["src/main.c"], "main.c is missing; the files are src/main.c"),
        (["main.c", "a.out", "core"], "a.out, core is not expected; expected main.c, *.h"),
    ],
    ids=["empty", "case", "directory", "foreign"],
)
def test_other_files_are_refused_by_name(paths: list[str], problem: str) -> None:
    with pytest.raises(FileRefusedError) as caught:
        FileRules(required=("main.c",), allowed=("*.h",)).check(paths)

    assert str(caught.value) == problem


def test_a_long_list_of_files_is_cut_in_a_refusal() -> None:
    with pytest.raises(FileRefusedError, match="f19 and 10 more is not expected"):
        FileRules(allowed=("*.c",)).check([f"f{number:02}" for number in range(30)])
