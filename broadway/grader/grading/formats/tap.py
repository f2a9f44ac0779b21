"""TAP, the Test Anything Protocol, in versions 12 to 14."""

import re
from dataclasses import dataclass, field

from broadway.domain.keys_of_tests import Keys
from broadway.domain.report import MAX_MESSAGES, MAX_TESTS, Report, ReportedTest, Source, Status, Text
from broadway.grader.grading.formats.malformed import malformed, sum_of
from broadway.grader.grading.formats.worth import Worth

_VERSIONS = range(12, 15)
_VERSION = re.compile(r"TAP version ([0-9]{1,9})\s*")
_PLAN = re.compile(r"1\.\.([0-9]{1,9})\s*(?:#\s*(.*))?")
_TEST = re.compile(r"(not )?ok\b(?:\s+([0-9]{1,9}))?(?:\s*-)?\s*(.*)")
_DIRECTIVE = re.compile(r"(?<!\\)#\s*(skip|todo)\b\S*\s*(.*)", re.IGNORECASE)
_BAIL = re.compile(r"Bail out!\s*(.*)", re.IGNORECASE)


@dataclass(slots=True)
class _Point:
    """A test point, with the lines that belong to it."""

    number: int
    name: str
    status: Status
    reason: str
    lines: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Stream:
    """The parts of a stream that have been read."""

    points: list[_Point] = field(default_factory=list)
    planned: int | None = None
    messages: list[str] = field(default_factory=list)
    is_over: bool = False
    last: int = 0


def read(data: bytes, worth: Worth) -> Report:
    """Read a stream. Tests of the plan that are missing have failed; a failed *TODO* counts as skipped.

    Raises:
        MalformedError: The stream is not valid, or has no plan.
    """
    stream = _Stream()
    for line in data.decode("utf-8-sig", "replace").replace("\r\n", "\n").split("\n"):
        if not stream.is_over:
            _take(stream, line.rstrip("\r"))
    if stream.planned is None:
        raise malformed("the plan", "should be a line such as 1..3; the stream may have ended too early")
    _add_missing(stream, stream.planned)
    keys = Keys()
    tests = [_test(point, keys, worth) for point in stream.points]
    return Report(
        source=Source.TAP,
        score=sum_of((test.score for test in tests), "points"),
        max=sum_of((test.max for test in tests), "points"),
        messages=[Text(body=message) for message in stream.messages[:MAX_MESSAGES]],
        tests=tests,
    )


def _take(stream: _Stream, line: str) -> None:
    """Read one line. Indented lines are subtests and YAML blocks, which belong to a test."""
    if line.startswith((" ", "\t")):
        if stream.points:
            stream.points[-1].lines.append(line)
    elif matched := _TEST.fullmatch(line):
        _add_point(stream, matched)
    elif matched := _PLAN.fullmatch(line):
        _plan(stream, int(matched[1]), matched[2] or "")
    elif matched := _BAIL.fullmatch(line):
        stream.is_over = True
        stream.messages.append(f"The tests were given up: {matched[1]}" if matched[1] else "The tests were given up.")
    elif (matched := _VERSION.fullmatch(line)) and int(matched[1]) not in _VERSIONS:
        raise malformed("the version", "should be 12, 13 or 14")
    elif line.startswith("#") and stream.points:
        stream.points[-1].lines.append(line)


def _plan(stream: _Stream, planned: int, comment: str) -> None:
    if stream.planned is not None:
        raise malformed("the plan", "should be given once")
    if planned > MAX_TESTS:
        raise malformed("the plan", f"should be of at most {MAX_TESTS} tests")
    stream.planned = planned
    if planned == 0 and comment:
        stream.messages.append(comment)


def _add_point(stream: _Stream, matched: re.Match[str]) -> None:
    if len(stream.points) == MAX_TESTS:
        raise malformed("the tests", f"should be at most {MAX_TESTS}")
    directive = _DIRECTIVE.search(matched[3])
    description = matched[3][: directive.start()] if directive else matched[3]
    stream.last = int(matched[2]) if matched[2] else stream.last + 1
    status = Status.FAILED if matched[1] else Status.PASSED
    if directive and (directive[1].lower() == "skip" or status is Status.FAILED):
        status = Status.SKIPPED
    name = description.strip().replace("\\#", "#") or f"Test {stream.last}"
    stream.points.append(_Point(stream.last, name, status, directive[2] if directive else ""))


def _add_missing(stream: _Stream, planned: int) -> None:
    """Add the tests of the plan that have no line."""
    seen = {point.number for point in stream.points}
    missing = [number for number in range(1, planned + 1) if number not in seen]
    stream.points += [_Point(number, f"Test {number}", Status.FAILED, "did not run") for number in missing]
    beyond = sorted(number for number in seen if not 1 <= number <= planned)
    if beyond:
        stream.messages.append(f"test {beyond[0]} is not in the plan, 1..{planned}")
    stream.points.sort(key=lambda point: point.number)


def _test(point: _Point, keys: Keys, worth: Worth) -> ReportedTest:
    score, limit = worth.scored(point.status, (point.name,), None, None)
    output = "\n".join(point.lines).strip("\n")
    return ReportedTest(
        key=keys.of([], point.name),
        name=Text(body=point.name),
        number=str(point.number),
        status=point.status,
        score=score,
        max=limit,
        output=Text(body=output) if output else None,
        message=Text(body=point.reason) if point.reason else None,
    )
