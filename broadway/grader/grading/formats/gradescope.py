"""Gradescope's ``results.json``, read as that system's own harness reads it."""

from decimal import Decimal
from itertools import count

from broadway.domain.keys_of_tests import Keys
from broadway.domain.report import (
    MAX_BOARDS,
    MAX_TAGS,
    Board,
    Format,
    Report,
    ReportedTest,
    Source,
    Status,
    Text,
    Visibility,
)
from broadway.grader.grading.formats.json_file import as_json, object_in
from broadway.grader.grading.formats.malformed import Fields, malformed, seconds, sum_of
from broadway.grader.grading.formats.naming import natural

VISIBILITIES = {
    "visible": Visibility.VISIBLE,
    "hidden": Visibility.HIDDEN,
    "after_due_date": Visibility.AFTER_DUE,
    "after_published": Visibility.AFTER_PUBLISHED,
}
_FORMATS = {
    "text": Format.TEXT,
    "html": Format.HTML,
    "simple_format": Format.SIMPLE,
    "md": Format.MARKDOWN,
    "ansi": Format.ANSI,
}
_STATUSES = {"passed": Status.PASSED, "failed": Status.FAILED}


def read(data: bytes) -> Report:
    """Read a ``results.json``.

    Bytes that are no UTF-8 are replaced, as by the harness. Without a score of its own, a file has the sum of its
    tests'; its maximum is the sum of those tests' that have one.

    Raises:
        MalformedError: The file is not valid.
    """
    file = object_in(data, errors="replace")
    listed = file.objects("tests")
    name_format = file.choice("test_name_format", _FORMATS) or Format.TEXT
    output_format = file.choice("test_output_format", _FORMATS) or Format.TEXT
    keys = Keys()
    tests = [
        _test(each, place, keys, name_format, output_format) for each, place in zip(listed, count(1), strict=False)
    ]
    ordered = sorted(zip(tests, count(1), strict=False), key=lambda one: natural(one[0].number or str(one[1])))
    output = _text(file, "output", file.choice("output_format", _FORMATS) or Format.SIMPLE)
    score = file.number("score")
    if score is None:
        score = sum_of((test.score for test in tests), "score")
    if score is None and not tests and output is None and "score" not in file.values:
        raise malformed("score", "should be a number, here or in a test")
    return Report(
        source=Source.GRADESCOPE,
        score=score,
        max=_maximum(file, tests),
        messages=[output] if output else [],
        visibility=file.choice("visibility", VISIBILITIES) or Visibility.VISIBLE,
        log_visibility=file.choice("stdout_visibility", VISIBILITIES) or Visibility.HIDDEN,
        tests=[test for test, _ in ordered],
        boards=[_board(each) for each in file.objects("leaderboard", most=MAX_BOARDS)],
        duration=seconds(file.number("execution_time", is_text_allowed=True), "execution_time"),
        extra=as_json(file.values.get("extra_data"), "extra_data"),
    )


def _maximum(file: Fields, tests: list[ReportedTest]) -> Decimal | None:
    own = _limit(file)
    return own if own is not None else sum_of((test.max for test in tests), "max_score")


def _limit(holder: Fields) -> Decimal | None:
    value = holder.number("max_score")
    if value is not None and value < 0:
        raise malformed(holder.place("max_score"), "should not be negative")
    return value


def _test(test: Fields, place: int, keys: Keys, name_format: Format, output_format: Format) -> ReportedTest:
    number = test.text("number", is_number_allowed=True)
    name = test.text("name") or f"Test {number or place}"
    score, limit = test.number("score"), _limit(test)
    return ReportedTest(
        key=keys.of([], name),
        number=number,
        name=Text(body=name, format=test.choice("name_format", _FORMATS) or name_format),
        status=_status(test.choice("status", _STATUSES), score, limit),
        score=score,
        max=limit,
        output=_text(test, "output", test.choice("output_format", _FORMATS) or output_format),
        visibility=test.choice("visibility", VISIBILITIES),
        tags=test.texts("tags", most=MAX_TAGS),
        extra=as_json(test.values.get("extra_data"), test.place("extra_data")),
    )


def _status(named: Status | None, score: Decimal | None, limit: Decimal | None) -> Status:
    """Return the status that a test names, or the one that follows from its points."""
    if named is Status.PASSED:
        return named
    if score is None or limit is None:
        return named or (Status.FAILED if score is not None and score < 0 else Status.INFO)
    if 0 < score < limit:
        return Status.PARTIAL
    return named or (Status.FAILED if score < limit else Status.PASSED)


def _text(holder: Fields, key: str, markup: Format) -> Text | None:
    body = holder.text(key)
    return Text(body=body, format=markup) if body else None


def _board(entry: Fields) -> Board:
    value = entry.values.get("value")
    is_number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    return Board(
        name=entry.text("name") or "",
        value=number if is_number and (number := entry.number("value")) is not None else entry.text("value"),
        order=entry.choice("order", {"asc": "asc", "desc": "desc"}) or "desc",
    )
