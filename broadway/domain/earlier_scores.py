"""Scores that earlier versions stored, and those of a results file without a format, as reports. Pure.

Graders check such a file when they read it. Here any part that is not as expected is left out, since the document may
come from any grader; a visibility that is not known is hidden.
"""

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from itertools import count
from typing import Any

from broadway.domain.keys_of_tests import Keys
from broadway.domain.report import (
    LARGEST,
    MAX_TESTS,
    Format,
    Report,
    ReportedTest,
    Source,
    Status,
    Text,
    Visibility,
)
from broadway.domain.result import Scores

_VISIBILITIES = {
    "visible": Visibility.VISIBLE,
    "hidden": Visibility.HIDDEN,
    "after_due_date": Visibility.AFTER_DUE,
    "after_published": Visibility.AFTER_PUBLISHED,
}
_FORMATS = {"html": Format.HTML, "simple_format": Format.SIMPLE, "md": Format.MARKDOWN, "ansi": Format.ANSI}
_STATUSES = {"passed": Status.PASSED, "failed": Status.FAILED}


def report_of(scores: Scores) -> Report:
    """Return scores as a report, in the shape of Gradescope or PrairieLearn."""
    document = _document(scores.document)
    listed = [each for each in _list(document.get("tests")) if isinstance(each, dict)][:MAX_TESTS]
    is_fraction = _is_of_prairielearn(document, listed) and document.get("score") is not None
    score, keys = _number(scores.score), Keys()
    return Report(
        source=Source.PRAIRIELEARN if _is_of_prairielearn(document, listed) else Source.GRADESCOPE,
        score=score,
        max=Decimal(1) if is_fraction and score is not None else _number(scores.max_score),
        gradable=document.get("gradable") is not False,
        messages=_messages(document),
        visibility=_visibility(document.get("visibility")) or Visibility.VISIBLE,
        log_visibility=_visibility(document.get("stdout_visibility")) or Visibility.HIDDEN,
        tests=[_test(each, place, keys) for each, place in zip(listed, count(1), strict=False)],
    )


def _is_of_prairielearn(document: Mapping[str, Any], tests: list[dict[str, Any]]) -> bool:
    return "gradable" in document or "format_errors" in document or any("max_points" in test for test in tests)


def _document(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}", parse_float=Decimal, parse_int=Decimal, parse_constant=lambda _: None)
    except (ValueError, RecursionError, InvalidOperation):
        return {}
    return found if isinstance(found, dict) else {}


def _test(test: dict[str, Any], place: int, keys: Keys) -> ReportedTest:
    score, limit = (_number(test.get(key, test.get(other))) for key, other in _NUMBERS)
    name = _text(test.get("name")) or f"Test {place}"
    output = _text(test.get("output"))
    return ReportedTest(
        key=keys.of([], name),
        name=Text(body=name),
        number=_text(test.get("number")),
        status=_status(_STATUSES.get(str(test.get("status"))), score, limit),
        score=score,
        max=limit if limit is None or limit >= 0 else None,
        output=Text(body=output, format=_FORMATS.get(str(test.get("output_format")), Format.TEXT)) if output else None,
        message=Text(body=message) if (message := _text(test.get("message"))) else None,
        visibility=_visibility(test.get("visibility")),
    )


_NUMBERS = (("score", "points"), ("max_score", "max_points"))


def _status(named: Status | None, score: Decimal | None, limit: Decimal | None) -> Status:
    if named is not None or score is None or limit is None:
        return named or Status.INFO
    if 0 < score < limit:
        return Status.PARTIAL
    return Status.FAILED if score < limit else Status.PASSED


def _messages(document: Mapping[str, Any]) -> list[Text]:
    errors = document.get("format_errors")
    given = [*(_list(errors) if isinstance(errors, list) else [errors]), document.get("message")]
    found = [Text(body=text) for each in given if (text := _text(each))][:10]
    output = _text(document.get("output"))
    markup = _FORMATS.get(str(document.get("output_format")), Format.TEXT)
    return [*found, Text(body=output, format=markup)] if output else found


def _visibility(name: object) -> Visibility | None:
    return None if name is None else _VISIBILITIES.get(str(name), Visibility.HIDDEN)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str | None:
    if isinstance(value, Decimal):
        return str(value)[:100]
    return value if isinstance(value, str) and value else None


def _number(value: object) -> Decimal | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = Decimal(repr(value))
    if not isinstance(value, Decimal) or not value.is_finite() or value.copy_abs() > LARGEST:
        return None
    return value
