"""The patterns with which stages declare artifacts."""

from typing import Any

import pytest
from pydantic import ValidationError

from broadway.domain.artifacts import MAX_PATTERNS, matches, may_match
from broadway.domain.assignment import Stage


@pytest.mark.parametrize(
    ("pattern", "path", "is_match"),
    [
        ("out/*.png", "out/a.png", True),
        ("out/*.png", "out/b/a.png", False),
        ("out/*.png", "out/a.PNG", False),
        ("*/report.?ml", "x/report.xml", True),
        ("*", "a", True),
        ("*", "a/b", False),
        ("a", "a", True),
    ],
)
def test_a_pattern_matches_name_by_name(pattern: str, path: str, is_match: bool) -> None:
    names = path.split("/")
    assert matches([pattern], names) is is_match
    assert not may_match([pattern], names), "nothing below a match of these is wanted"


def test_only_directories_that_may_hold_matches_are_searched() -> None:
    assert may_match(["a/*/c"], [])
    assert may_match(["a/*/c"], ["a"])
    assert may_match(["a/*/c"], ["a", "b"])
    assert not may_match(["a/*/c"], ["b"])


@pytest.mark.parametrize(
    "more",
    [
        {"artifacts": ["/etc/*"]},
        {"artifacts": ["../*"]},
        {"artifacts": ["a//b"]},
        {"artifacts": ["**/*.png"]},
        {"artifacts": ["a[bc]"]},
        {"artifacts": ["-rf"]},
        {"artifacts": ["/".join("abcdefghi")]},
        {"artifacts": ["a"] * (MAX_PATTERNS + 1)},
        {"artifacts": ["a"], "untrusted": True},
    ],
    ids=str,
)
def test_other_patterns_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Stage.model_validate({"image": "x", **more})
