"""The results of GitHub Classroom's runners: JSON, or its Base64 form, one file per runner."""

import base64
import binascii
import re
from collections.abc import Sequence
from decimal import Decimal

from broadway.domain.keys_of_tests import Keys
from broadway.domain.report import Location, Report, ReportedTest, Source, Status, Text
from broadway.grader.grading.formats.json_file import object_in
from broadway.grader.grading.formats.malformed import Fields, File, malformed, sum_of

_STATUSES = {"pass": Status.PASSED, "fail": Status.FAILED, "error": Status.FAILED}
_TIME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s)")
_BASE64 = re.compile(rb"[A-Za-z0-9+/=\s]+")


def read(files: Sequence[File]) -> Report:
    """Read the results of one or more runners. A runner whose maximum is 0 gives no points.

    Raises:
        MalformedError: A file is not valid.
    """
    keys = Keys()
    tests: list[ReportedTest] = []
    messages: list[Text] = []
    limits: list[Decimal | None] = []
    for file in files:
        try:
            runner = object_in(_plain(file.data))
            limits.append(_add(runner, file.stem, keys, tests, messages))
        except ValueError as error:
            if len(files) == 1:
                raise
            raise malformed("", f"{file.path}: {error}") from None
    return Report(
        source=Source.CLASSROOM,
        score=sum_of((test.score for test in tests), "tests") or Decimal(0),
        max=sum_of(limits, "max_score"),
        messages=messages,
        tests=tests,
    )


def _plain(data: bytes) -> bytes:
    """Return the JSON in a file, which may be its Base64 form."""
    if not _BASE64.fullmatch(data):
        return data
    try:
        return base64.b64decode(data)
    except binascii.Error:
        raise malformed("", "should be JSON, or its Base64 form") from None


def _add(runner: Fields, name: str, keys: Keys, tests: list[ReportedTest], messages: list[Text]) -> Decimal | None:
    """Add the tests of a runner, and return its maximum."""
    status = runner.choice("status", _STATUSES)
    if status is None:
        raise malformed("status", f"should be one of {', '.join(_STATUSES)}")
    limit = runner.number("max_score")
    if limit is not None and limit < 0:
        raise malformed("max_score", "should not be negative")
    listed = runner.objects("tests")
    if runner.values["status"] == "error":
        messages.append(Text(body=runner.text("message") or f"{name}: ended with an error"))
    tests += [_test(each, name, keys, counts=limit != 0) for each in listed]
    return limit


def _test(test: Fields, runner: str, keys: Keys, *, counts: bool) -> ReportedTest:
    name = test.text("name") or runner
    status = test.choice("status", _STATUSES)
    if status is None:
        raise malformed(test.place("status"), f"should be one of {', '.join(_STATUSES)}")
    message, line = test.text("message"), test.number("line_no")
    return ReportedTest(
        key=keys.of([runner], name),
        name=Text(body=name),
        group=[runner],
        status=status,
        score=test.number("score") if counts else None,
        message=Text(body=message) if message else None,
        duration=_seconds(test),
        location=Location(file=runner, line=int(line)) if line is not None and line > 0 else None,
    )


def _seconds(test: Fields) -> float | None:
    """Return a duration, as in ``5ms``; None without a valid one."""
    matched = _TIME.fullmatch(test.text("execution_time", is_number_allowed=True) or "")
    return float(matched[1]) / (1000 if matched[2] == "ms" else 1) if matched else None
