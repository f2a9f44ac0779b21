"""Scores of earlier versions, shown as reports."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadway.domain.earlier_scores import report_of
from broadway.domain.report import Source, Status, Visibility
from broadway.domain.result import Scores

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("score", "max_score", "tests", "output", "message", "gradable", "format_errors", "visibility", "name", "status")


def scores(document: Any, score: float | None = None, most: float | None = None) -> Scores:
    return Scores(score, most, json.dumps(document))


def test_gradescopes_shape() -> None:
    tests = [
        {"name": "a", "score": 0.1, "max_score": 1, "number": "1.2", "visibility": "hidden", "output": "o"},
        {"name": "a", "status": "failed"},
        {"score": 2, "max_score": 2, "visibility": "later"},
    ]
    found = report_of(scores({"tests": tests, "output": "all", "visibility": "after_published"}, 2.1, 3))
    assert (found.source, found.score, found.max) == (Source.GRADESCOPE, Decimal("2.1"), 3)
    assert [(test.key, test.status) for test in found.tests] == [
        ("a", Status.PARTIAL),
        ("a#2", Status.FAILED),
        ("Test 3", Status.PASSED),
    ]
    assert [test.visibility for test in found.tests] == [Visibility.HIDDEN, None, Visibility.HIDDEN]
    assert (found.visibility, found.messages[0].body) == (Visibility.AFTER_PUBLISHED, "all")


def test_prairielearns_shape_has_a_fraction() -> None:
    found = report_of(scores({"score": 0.5, "tests": [{"points": 1, "max_points": 2}]}, 0.5, 2))
    assert (found.source, found.score, found.max) == (Source.PRAIRIELEARN, Decimal("0.5"), 1)
    refused = report_of(scores({"gradable": False, "format_errors": ["no main"]}))
    assert (refused.gradable, refused.score, refused.messages[0].body) == (False, None, "no main")


@pytest.mark.parametrize("document", [None, "", "[", "[1]", "[" * 100_000, '{"tests": [NaN, 1e99999999999999999999]}'])
def test_scores_without_a_readable_document(document: str | None) -> None:
    assert report_of(Scores(1.0, 2.0, document)).score == 1


@given(
    st.dictionaries(
        st.sampled_from(KEYS), JSON | st.lists(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5), max_size=3)
    )
)
def test_no_document_is_an_error(document: dict[str, Any]) -> None:
    report_of(scores(document, 1.0))
