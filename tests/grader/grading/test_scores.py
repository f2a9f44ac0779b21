"""Results files: the documents that count, and those that are refused before they can do harm."""

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadway.grader.grading.scores import MAX_SIZE, InvalidScoresError, parse


def parsed(document: Any) -> tuple[float | None, float | None]:
    scores = parse(json.dumps(document).encode())
    assert json.loads(scores.document) == document
    return scores.score, scores.max_score


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"score": 8.5}, (8.5, None)),
        ({"score": 8, "max_score": 10}, (8, 10)),
        ({"tests": [{"score": 1, "max_score": 2}, {"score": 2.5, "max_score": 3}]}, (3.5, 5)),
        ({"score": 1, "tests": [{"score": 3}, {"score": 2, "max_score": 3}]}, (1, None)),
        ({"tests": [{"score": 1}, {"status": "passed"}]}, (1, None)),
        ({"tests": [{"points": 1, "max_points": 2}]}, (1, 2)),
        ({"gradable": False, "message": "does not compile"}, (None, None)),
        ({"gradable": False, "score": 3, "format_errors": ["line 3"]}, (None, None)),
        ({"score": None, "message": "compilation errors", "output": "Example.java:5"}, (None, None)),
        ({"succeeded": False, "message": "compilation errors"}, (None, None)),
        ({"tests": [{"name": "compiles", "status": "failed"}]}, (None, None)),
        ({"tests": [{"score": 10, "max_score": 10}, {"name": "penalty", "score": -2}]}, (8, None)),
        ({"score": -5}, (-5, None)),
        ({"tests": [{"score": 12, "max_score": 10}]}, (12, 10)),
        ({"score": 5, "extra_data": {"seed": 12345678901234567890}}, (5, None)),
        ({"score": -0.0}, (0, None)),
        (
            {"score": 0.1, "output": "é \U0001f600 <script>", "extra_data": {"$where": 1, "a.b": 2, "__proto__": {}}},
            (0.1, None),
        ),
    ],
)
def test_a_valid_document_gives_scores(document: dict[str, Any], expected: tuple[float, float | None]) -> None:
    assert parsed(document) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no JSON"),
        ("{", "is no JSON"),
        ("[]", "should be a JSON object"),
        ("7", "should be a JSON object"),
        ("{}", "score: should be a number"),
        ('{"tests": []}', "score: should be a number"),
        ('{"score": "1e3"}', "score: should be a number"),
        ('{"score": true}', "score: should be a number"),
        ('{"score": null}', "score: should be a number"),
        ('{"message": ""}', "score: should be a number"),
        ('{"score": 1, "max_score": -1}', "max_score: should not be negative"),
        ('{"score": NaN}', "has NaN"),
        ('{"score": -Infinity}', "has -Infinity"),
        ('{"score": 1e999}', "too large"),
        ('{"score": 9223372036854775808}', "up to 2^53"),
        ('{"score": 1, "x": ' + "9" * 5000 + "}", "more than 1000 digits"),
        ('{"score": 1, "score": 2}', "same key twice"),
        ('{"tests": [{"score": 1e308}, {"score": 1e308}]}', "score: those of the tests add up"),
        ('{"score": 1, "tests": [{"max_score": 1e308}, {"max_score": 1e308}]}', "max_score: those of the tests add up"),
        ('{"score": 1, "tests": {}}', "tests: should be a list"),
        ('{"score": 1, "tests": [1]}', "tests: should be a list"),
        ('{"tests": [{"score": "5"}]}', "tests.0.score: should be a number"),
        ('{"score": 1, "tests": [' + ",".join(["{}"] * 10_001) + "]}", "tests: should be at most"),
        ('{"score": 1, "x": ' + "[" * 100 + "]" * 100 + "}", "nested deeper"),
        ('{"score": 1, "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested deeper"),
        ('{"score": 1, "x": "' + "x" * MAX_SIZE + '"}', "at most"),
        ('\ufeff\ufeff{"score": 1}', "is no JSON"),
    ],
)
def test_an_invalid_document_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidScoresError, match=reason.replace("^", r"\^")):
        parse(text.encode())


def test_a_byte_order_mark_is_ignored() -> None:
    assert parse(b'\xef\xbb\xbf{"score": 1}').score == 1


@pytest.mark.parametrize("data", ['{"score": 1}'.encode("utf-16"), b'{"score": 1, "x": "\xff"}'])
def test_encodings_other_than_utf_8_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidScoresError, match="should be UTF-8"):
        parse(data)


def test_half_characters_and_nuls_are_kept_as_escapes() -> None:
    document = parse(b'{"score": 1, "x": "\\ud800", "a\\u0000b": 1}').document
    document.encode("ascii")
    assert "\0" not in document


@given(st.binary(max_size=300))
def test_any_bytes_give_scores_or_are_refused(data: bytes) -> None:
    with contextlib.suppress(InvalidScoresError):
        assert parse(data).score >= 0


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


numbers = st.floats(allow_infinity=False, allow_nan=False) | st.integers(0, 2**53) | st.none()
tests = st.lists(st.dictionaries(st.sampled_from(["score", "points", "max_score", "max_points"]), numbers), max_size=4)


@given(
    st.dictionaries(st.sampled_from(["score", "tests", "max_score", "gradable", "x"]), values)
    | st.fixed_dictionaries({"tests": tests}, optional={"score": numbers, "max_score": numbers})
)
def test_any_document_gives_scores_or_is_refused(document: dict[str, Any]) -> None:
    try:
        scores = parse(json.dumps(document).encode())
    except InvalidScoresError:
        return
    assert scores.score is None or math.isfinite(scores.score)
    assert isinstance(json.loads(scores.document), dict)
