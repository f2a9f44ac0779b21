"""CTRF, the common test report format in JSON."""

from decimal import Decimal

from broadway.domain.keys_of_tests import Keys
from broadway.domain.report import (
    MAX_COUNT,
    MAX_GROUPS,
    MAX_TAGS,
    Location,
    Report,
    ReportedTest,
    Source,
    Status,
    Text,
)
from broadway.grader.grading.formats.gradescope import VISIBILITIES
from broadway.grader.grading.formats.json_file import as_json, object_in
from broadway.grader.grading.formats.malformed import Fields, malformed, seconds, sum_of
from broadway.grader.grading.formats.worth import Worth

_STATUSES = {
    "passed": Status.PASSED,
    "failed": Status.FAILED,
    "skipped": Status.SKIPPED,
    "pending": Status.SKIPPED,
    "other": Status.FAILED,
}
_THOUSAND = Decimal(1000)
_MOST_LINES = 10_000  # of a test's output


def read(data: bytes, worth: Worth) -> Report:
    """Read a report. Points are in a test's ``extra``, as ``broadway.points`` and ``broadway.max_points``.

    Raises:
        MalformedError: The file is not valid, or has no test.
    """
    file = object_in(data)
    if file.values.get("reportFormat", "CTRF") != "CTRF":
        raise malformed("reportFormat", "should be CTRF")
    results = file.object("results")
    if results is None:
        raise malformed("results", "is missing")
    listed = results.objects("tests")
    if not listed:
        raise malformed("results.tests", "should have one test at least")
    keys = Keys()
    tests = [_test(each, keys, worth) for each in listed]
    others = sum(each.values.get("status") == "other" for each in listed)
    note = f"{others} of the tests ended neither as passed nor as failed; they count as failed"
    return Report(
        source=Source.CTRF,
        score=sum_of((test.score for test in tests), "results.tests"),
        max=sum_of((test.max for test in tests), "results.tests"),
        messages=[Text(body=note)] if others else [],
        tests=tests,
        duration=_duration(results),
        extra=as_json(file.values.get("extra"), "extra"),
    )


def _duration(results: Fields) -> float | None:
    summary = results.object("summary")
    start, stop = (summary.number(key) if summary else None for key in ("start", "stop"))
    return float((stop - start) / _THOUSAND) if start is not None and stop is not None and stop >= start else None


def _test(test: Fields, keys: Keys, worth: Worth) -> ReportedTest:
    name, status = test.text("name"), test.choice("status", _STATUSES)
    if not name:
        raise malformed(test.place("name"), "should be a text")
    if status is None:
        raise malformed(test.place("status"), f"should be one of {', '.join(_STATUSES)}")
    group = _group(test)
    extra = test.object("extra") or Fields({}, test.place("extra"))
    own, most = extra.number("broadway.points"), extra.number("broadway.max_points")
    if most is not None and most < 0:
        raise malformed(extra.place("broadway.max_points"), "should not be negative")
    names = (name, "/".join([*group[-1:], name]), "/".join([*group, name]))
    score, limit = worth.scored(status, names, own, most)
    output, message = _output(test), test.text("message")
    milliseconds = test.number("duration")
    return ReportedTest(
        key=keys.of(group, name),
        name=Text(body=name),
        group=group,
        status=Status.PARTIAL if 0 < score < limit else status,
        score=score,
        max=limit,
        output=Text(body=output) if output else None,
        message=Text(body=message) if message else None,
        visibility=extra.choice("broadway.visibility", VISIBILITIES),
        tags=test.texts("tags", most=MAX_TAGS),
        duration=seconds(None if milliseconds is None else milliseconds / _THOUSAND, test.place("duration")),
        flaky=test.flag("flaky", default=False),
        attempts=_attempts(test),
        location=_location(test),
        extra=as_json(test.values.get("extra"), extra.where),
    )


def _group(test: Fields) -> list[str]:
    """Return the suites of a test; earlier versions of the format have one text."""
    suite = test.values.get("suite")
    if isinstance(suite, str):
        return [suite] if suite else []
    return test.texts("suite", most=MAX_GROUPS)


def _output(test: Fields) -> str:
    lines = [*test.texts("stdout", most=_MOST_LINES), *test.texts("stderr", most=_MOST_LINES)]
    return "\n".join(each for each in (test.text("trace"), "\n".join(lines)) if each)


def _attempts(test: Fields) -> int:
    retries = test.number("retries") or Decimal(0)
    return int(max(Decimal(0), min(retries, Decimal(MAX_COUNT - 1)))) + 1


def _location(test: Fields) -> Location | None:
    file, line = test.text("filePath"), test.number("line")
    return Location(file=file, line=int(line) if line is not None and line >= 0 else None) if file else None
