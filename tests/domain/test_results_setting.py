"""The setting ``results`` of a stage: as posted, and refused by name."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from broadway.domain.assignment import AssignmentConfig, Stage
from broadway.domain.mistakes import mistakes
from broadway.domain.results_setting import ResultsSetting


def stage(results: Any, **more: Any) -> dict[str, Any]:
    return {"image": "a", "results": results, **more}


def points(pattern: str, value: float) -> list[dict[str, Any]]:
    return [{"tests": pattern, "points": value}]


def mistake(*stages: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as raised:
        AssignmentConfig.model_validate({"student_pipeline": list(stages)})
    return mistakes(raised.value, AssignmentConfig)[0].removeprefix("student_pipeline")


@pytest.mark.parametrize(
    "results",
    [
        "out/results.json",
        {"format": "gradescope", "path": "results.json"},
        {
            "format": "junit",
            "path": "target/surefire-reports/TEST-*.xml",
            "points": [{"tests": "com.example.*", "points": 2}],
        },
        {"format": "autolab"},
        {"format": "tap", "path": "out.tap"},
        None,
    ],
)
def test_a_setting_is_returned_as_posted(results: Any) -> None:
    config = {"student_pipeline": [stage(results)]}
    posted = AssignmentConfig.model_validate(config).as_posted()["student_pipeline"]
    assert repr(posted) == repr(config["student_pipeline"])


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ("../r.json", ".0.results: should be a path below /job"),
        (7, ".0.results: should be text"),
        ({"format": "xml", "path": "r"}, ".0.results.format: should be 'gradescope', 'prairielearn', 'junit'"),
        ({"format": "junit", "file": "r"}, ".0.results.file: no such key; there are format, path, points"),
        ({"path": "r"}, ".0.results.format: is missing"),
        ({"format": "junit"}, ".0.results: path: is missing; only results of autolab and tap"),
        ({"format": "junit", "path": "/etc/x"}, ".0.results.path: should be a path below /job"),
        ({"format": "ctrf", "path": "*.json"}, ".0.results: path: only results of junit and classroom"),
        (
            {"format": "gradescope", "path": "r", "points": points("a", 1)},
            ".0.results: points: results of gradescope have",
        ),
        ({"format": "tap", "points": points("a", -1)}, ".0.results.points.0.points: should be 0 or more"),
        ({"format": "tap", "points": points("a", float("nan"))}, ".0.results.points.0.points: should be"),
        ({"format": "tap", "points": points("a", True)}, ".0.results.points.0.points"),
        ({"format": "tap", "points": points("", 1)}, ".0.results.points.0.tests: should have 1 or more characters"),
        ({"format": "tap", "points": {"a": 1}}, ".0.results.points: should be a list"),
        ({"format": "tap", "points": points("a", 1) * 101}, ".0.results.points: should have at most 100"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(results: Any, words: str) -> None:
    assert words in mistake(stage(results))


def test_only_a_trusted_stage_has_results() -> None:
    assert "only a trusted stage" in mistake(stage({"format": "tap"}, untrusted=True))


@pytest.mark.parametrize(
    ("path", "is_apart"),
    [("out/*.xml", False), ("*/a.xml", False), ("*.xml", True), ("other/*.xml", True), ("out", False)],
)
def test_results_are_not_where_untrusted_stages_write(path: str, *, is_apart: bool) -> None:
    stages = [{"image": "a", "untrusted": True, "write": ["out"]}, stage({"format": "junit", "path": path})]
    if is_apart:
        assert AssignmentConfig.model_validate({"student_pipeline": stages})
    else:
        assert mistake(*stages) == f": results, write: {path} and out overlap"


def test_points_are_exact() -> None:
    results = Stage.model_validate(
        stage({"format": "tap", "points": [*points("a", 0.1), *points("b", 3), *points("a", 9)]})
    ).results
    assert isinstance(results, ResultsSetting)
    assert results.worth == (("a", Decimal("0.1")), ("b", Decimal(3)), ("a", Decimal(9)))
