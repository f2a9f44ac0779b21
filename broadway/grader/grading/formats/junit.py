"""JUnit's XML, in the dialects of pytest, GoogleTest, Catch2, Surefire, Jest and others."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from broadway.domain.keys_of_tests import Keys
from broadway.domain.report import (
    MAX_COUNT,
    MAX_GROUPS,
    MAX_TAGS,
    MAX_TESTS,
    Location,
    Report,
    ReportedTest,
    Source,
    Status,
    Text,
    Visibility,
)
from broadway.grader.grading.formats.gradescope import VISIBILITIES
from broadway.grader.grading.formats.malformed import File, decimal_of, malformed, points, sum_of
from broadway.grader.grading.formats.worth import Worth
from broadway.grader.grading.formats.xml_tree import Element, parse

_SUITES = ("testsuites", "testsuite")
_NOT_RUN = {"notrun", "suppressed", "skipped", "disabled", "ignored"}
_ORDER = (Status.FAILED, Status.SKIPPED, Status.PASSED)  # the worst first
_FLAKY, _RERUN = ("flakyFailure", "flakyError"), ("rerunFailure", "rerunError")
_PROPERTY = re.compile(r"\[\[PROPERTY\|([^=\]\n]{1,200})=([^\]\n]{0,1000})\]\]")
_LONGEST_TAG = 200  # characters
_TIME_LIMIT = 1_000_000_000  # seconds

Identity = tuple[tuple[str, ...], str]  # of a test: its groups and its name


@dataclass(slots=True)
class _Case:
    """The testcases of one name: the first one, and those that repeat it."""

    group: tuple[str, ...]
    name: str
    status: Status
    element: Element
    properties: dict[str, str]
    attempts: int
    flaky: bool
    outputs: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, ...]:
        """The names by which the config's patterns may mean the test."""
        return (self.name, "/".join([*self.group[-1:], self.name]), "/".join([*self.group, self.name]))

    def merge(self, other: "_Case") -> None:
        """Add a repetition: a teardown that failed, or a rerun. The worst status counts."""
        self.flaky = self.flaky or other.flaky or other.status is not self.status
        self.status = min(self.status, other.status, key=_ORDER.index)
        self.attempts = min(MAX_COUNT, self.attempts + other.attempts)
        self.properties |= other.properties
        self.outputs += other.outputs
        self.messages += other.messages


def read(files: Sequence[File], worth: Worth) -> Report:
    """Read one or more files as one report.

    Raises:
        MalformedError: A file is not valid, or there is no test.
    """
    cases: dict[Identity, _Case] = {}
    duration = 0.0
    for file in files:
        try:
            root = parse(file.data)
            duration += _collect(root, cases)
        except ValueError as error:
            if len(files) == 1:
                raise
            raise malformed("", f"{file.path}: {error}") from None
    if not cases:
        raise malformed("testcase", "there should be one at least")
    keys = Keys()
    parents = _parents(cases)
    tests = [_test(case, keys, worth, is_counted=identity not in parents) for identity, case in cases.items()]
    return Report(
        source=Source.JUNIT,
        score=sum_of((test.score for test in tests), "points") or Decimal(0),
        max=sum_of((test.max for test in tests), "points") or Decimal(0),
        tests=tests,
        duration=min(duration, _TIME_LIMIT),
    )


def _collect(root: Element, cases: dict[Identity, _Case]) -> float:
    """Add the testcases of a file; return its duration in seconds."""
    if root.name not in _SUITES:
        raise malformed(root.name[:100], "should be testsuites or testsuite")
    for group, element in _elements(root, ()):
        case = _case(group, element)
        known = cases.setdefault((case.group, case.name), case)
        if known is not case:
            known.merge(case)
        if len(cases) > MAX_TESTS:
            raise malformed("testcase", f"there should be at most {MAX_TESTS}")
    own = _seconds(root)
    return own if own is not None else sum(_seconds(suite) or 0.0 for suite in root.named("testsuite"))


def _elements(suite: Element, group: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Element]]:
    """Yield the testcases of a suite and of the suites inside it, with the names of their suites."""
    for child in suite.children:
        if child.name == "testcase":
            yield group, child
        elif child.name == "testsuite":
            name = child.attributes.get("name", "")
            yield from _elements(child, (*group, name) if name else group)


def _case(suites: tuple[str, ...], element: Element) -> _Case:
    name = element.attributes.get("name", "")
    classname = element.attributes.get("classname", "")
    is_new = classname and classname != name and classname not in suites
    printed = [text for each in element.named("system-out", "system-err") if (text := each.text.strip("\n"))]
    properties = _properties(element, printed)
    problems = list(element.named("error", "failure", "skipped"))
    outputs = [text for each in problems if (text := each.text.strip("\n"))]
    flaky = sum(1 for _ in element.named(*_FLAKY))
    return _Case(
        group=((*suites, classname) if is_new else suites)[:MAX_GROUPS],
        name=name or "(without a name)",
        status=_status(element),
        element=element,
        properties=properties,
        attempts=1 + flaky + sum(1 for _ in element.named(*_RERUN)),
        flaky=flaky > 0,
        outputs=outputs + printed,
        messages=[message for each in problems if (message := each.attributes.get("message", ""))],
    )


def _status(element: Element) -> Status:
    names = {child.name for child in element.children}
    if names & {"error", "failure"}:
        return Status.FAILED
    attributes = {element.attributes.get(key, "").lower() for key in ("status", "result")}
    return Status.SKIPPED if "skipped" in names or attributes & _NOT_RUN else Status.PASSED


def _properties(element: Element, printed: Sequence[str]) -> dict[str, str]:
    """Return a testcase's properties, from elements and from the lines that tools without them print."""
    found = {name: value for text in printed for name, value in _PROPERTY.findall(text)}
    for holder in element.named("properties"):
        for each in holder.named("property"):
            value = each.attributes.get("value")
            found[each.attributes.get("name", "")] = each.text.strip() if value is None else value
    return found


def _parents(cases: dict[Identity, _Case]) -> set[Identity]:
    """Return the tests that only sum up other tests, as in ``TestX`` beside ``TestX/case``.

    A parent that failed though all tests below it passed has failed by itself, and counts.
    """
    failed_below: dict[Identity, bool] = {}
    for (group, name), case in cases.items():
        parts = name.split("/")
        for depth in range(1, min(len(parts), MAX_GROUPS)):
            parent = (group, "/".join(parts[:depth]))
            if parent in cases:
                failed_below[parent] = failed_below.get(parent, False) or case.status is Status.FAILED
    return {
        identity
        for identity, has_failed in failed_below.items()
        if has_failed or cases[identity].status is not Status.FAILED
    }


def _test(case: _Case, keys: Keys, worth: Worth, *, is_counted: bool) -> ReportedTest:
    own = {key: _points(case, key) for key in ("points", "max_points")}
    score = limit = None
    if is_counted:
        score, limit = worth.scored(case.status, case.names, own["points"], own["max_points"])
    message, output = "\n".join(case.messages), "\n".join(case.outputs)
    return ReportedTest(
        key=keys.of(case.group, case.name),
        name=Text(body=case.name),
        group=list(case.group),
        status=Status.PARTIAL if score and limit and 0 < score < limit else case.status,
        score=score,
        max=limit,
        output=Text(body=output) if output else None,
        message=Text(body=message) if message else None,
        visibility=_visibility(case),
        tags=_tags(case.properties),
        duration=_seconds(case.element),
        flaky=case.flaky,
        attempts=min(MAX_COUNT, case.attempts),
        location=_location(case.element),
    )


def _points(case: _Case, key: str) -> Decimal | None:
    text = case.properties.get(key)
    if text is None:
        return None
    value = decimal_of(text)
    if value is None:
        raise malformed(f"{case.name}, property {key}", "should be a number")
    if value < 0 and (key == "max_points" or "max_points" not in case.properties):
        raise malformed(f"{case.name}, property {key}", "should not be negative")
    return points(value, f"{case.name}, property {key}")


def _visibility(case: _Case) -> Visibility | None:
    name = case.properties.get("visibility")
    if name is not None and name not in VISIBILITIES:
        raise malformed(f"{case.name}, property visibility", f"should be one of {', '.join(VISIBILITIES)}")
    return None if name is None else VISIBILITIES[name]


def _tags(properties: dict[str, str]) -> list[str]:
    kept = {name: value for name, value in properties.items() if name not in ("points", "max_points", "visibility")}
    return [f"{name}={value}"[:_LONGEST_TAG] for name, value in list(kept.items())[:MAX_TAGS]]


def _seconds(element: Element) -> float | None:
    """Return the duration of a suite or a test, as in ``1,234.5``; None without a valid one."""
    value = decimal_of(element.attributes.get("time", "").replace(",", ""))
    return float(value) if value is not None and 0 <= value <= _TIME_LIMIT else None


def _location(element: Element) -> Location | None:
    file, line = element.attributes.get("file"), element.attributes.get("line", "")
    if not file:
        return None
    number = int(line) if re.fullmatch(r"[0-9]{1,15}", line) else None
    return Location(file=file, line=number)
