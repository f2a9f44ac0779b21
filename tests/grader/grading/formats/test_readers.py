"""Each format by its rules: the files that its own tools accept, and the words for those that nothing can read."""

import base64
import json
from decimal import Decimal
from typing import Any

import pytest

from broadway.domain.report import TRUNCATED, Format, Report, Status, Visibility
from broadway.grader.grading.formats.malformed import File
from broadway.grader.grading.formats.read import InvalidReportError, read
from broadway.grader.grading.formats.worth import Worth


def as_bytes(content: Any) -> bytes:
    if isinstance(content, bytes):
        return content
    return (content if isinstance(content, str) else json.dumps(content)).encode()


def of(name: str, *contents: Any, worth: Worth | None = None) -> Report:
    return read(name, [File(f"r{i}.json", as_bytes(each)) for i, each in enumerate(contents)], worth)


def problem(name: str, *contents: Any) -> str:
    with pytest.raises(InvalidReportError) as raised:
        of(name, *contents)
    return str(raised.value)


def points(report: Report) -> tuple[str | None, str | None]:
    return tuple(None if each is None else f"{each:f}" for each in (report.score, report.max))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"score": 10, "max_score": 10}, ("10", "10")),
        ({"score": -2.5}, ("-2.5", None)),
        ({"score": 12, "tests": [{"score": 3, "max_score": 10}]}, ("12", "10")),
        ({"tests": [{"score": 0.1}, {"score": 0.2}, {"score": -0.3}]}, ("0", None)),
        ({"tests": [{"score": 1, "max_score": 2}, {"status": "passed"}]}, ("1", "2")),
        ({"tests": [{"status": "failed"}]}, (None, None)),
        ({"score": None, "output": "checked"}, (None, None)),
        ({"score": 1, "execution_time": "0.01", "extra_data": {"seed": 10**400, "x": [1e300]}}, ("1", None)),
    ],
)
def test_gradescope_points(document: Any, expected: tuple[str | None, str | None]) -> None:
    assert points(of("gradescope", document)) == expected


def test_gradescope_texts_and_order() -> None:
    found = of(
        "gradescope",
        {
            "output": "x" * 200_000,
            "test_output_format": "md",
            "visibility": "after_published",
            "stdout_visibility": "visible",
            "tests": [
                {"number": "1.10", "name": "b", "score": 1, "output": "*", "name_format": "html"},
                {"number": "1.2", "name": "a", "score": 1, "output": "\u0000", "output_format": "ansi"},
                {"number": "2", "name": "a", "status": "failed", "visibility": "hidden", "tags": ["t"]},
            ],
        },
    )
    assert [test.key for test in found.tests] == ["a", "b", "a#2"]
    assert len(found.messages[0].body) == 100_000
    assert TRUNCATED in found.messages[0].body
    first, second, third = found.tests
    assert first.output is not None
    assert (first.output.body, first.output.format) == ("\N{REPLACEMENT CHARACTER}", Format.ANSI)
    assert second.output is not None
    assert (second.output.format, second.name.format) == (Format.MARKDOWN, Format.HTML)
    assert (third.status, third.visibility, third.tags) == (Status.FAILED, Visibility.HIDDEN, ["t"])
    assert (found.visibility, found.log_visibility) == (Visibility.AFTER_PUBLISHED, Visibility.VISIBLE)


def test_gradescope_replaces_bytes_that_are_no_text() -> None:
    found = of("gradescope", b'{"score": 1, "output": "\xff"}')
    assert found.messages[0].body == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "r0.json: line 1, column 1: should be JSON"),
        ("[]", "should be a JSON object"),
        ({}, "score: should be a number, here or in a test"),
        ('{"score": NaN}', "should be JSON, which has no NaN"),
        ({"score": "10"}, "score: should be a number"),
        ({"score": True}, "score: should be a number"),
        ({"score": 10**400}, "score: should be a number from -2^53 to 2^53"),
        ({"tests": [{"score": 1}, {"score": "x"}]}, "tests.1.score: should be a number"),
        ({"score": 1, "visibility": "seen"}, "visibility: should be one of visible, hidden, after_due_date"),
        ({"score": 1, "max_score": -1}, "max_score: should not be negative"),
        ('{"score": 1, "score": 2}', "the same key twice"),
    ],
)
def test_gradescope_refusals_name_the_field(content: Any, words: str) -> None:
    assert words in problem("gradescope", content)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"score": 0.25}, ("0.25", "1")),
        ({"score": 0.5, "max_points": 30}, ("15", "30")),
        ({"score": None}, ("0", "1")),
        ({"score": 1.2}, ("1.2", "1")),
        ({"gradable": False, "format_errors": ["Your code has a syntax error."]}, (None, None)),
        ({"gradable": False, "format_errors": "No main."}, (None, None)),
    ],
)
def test_prairielearn_points(document: Any, expected: tuple[str | None, str | None]) -> None:
    found = of("prairielearn", document)
    assert points(found) == expected
    assert found.gradable is ("gradable" not in document)
    assert bool(found.messages) is not found.gradable


def test_a_fraction_of_prairielearn_is_not_rounded_before_it_is_multiplied() -> None:
    assert of("prairielearn", {"score": 2 / 3, "max_points": 6}).score == 4


def test_prairielearn_tests_and_images() -> None:
    url = f"data:image/png;base64,{base64.b64encode(b'png').decode()}"
    found = of(
        "prairielearn",
        {
            "score": 1,
            "output": "\x1b[31mred",
            "images": [{"label": "Plot", "url": url}, url, {"url": "https://example.org/x.png"}],
            "tests": [
                {"name": "a", "points": 0.5, "max_points": 2, "message": "m", "output": "o", "images": [url]},
                {"name": "a", "points": 2, "max_points": 2},
                {"name": "b", "points": 0, "max_points": 0},
            ],
        },
    )
    assert [(test.key, test.status) for test in found.tests] == [
        ("a", Status.PARTIAL),
        ("a#2", Status.PASSED),
        ("b", Status.INFO),
    ]
    assert [image.label for image in found.images] == ["Plot", "Figure", "a: Figure"]
    assert found.messages[0].format is Format.ANSI


def test_prairielearn_shows_no_points_if_one_test_lacks_them() -> None:
    found = of("prairielearn", {"score": 1, "tests": [{"name": "a", "points": 1, "max_points": 1}, {"name": "b"}]})
    assert [test.score for test in found.tests] == [None, None]


@pytest.mark.parametrize(
    ("document", "words"),
    [({}, "score: should be a number from 0 to 1"), ({"score": "1"}, "score: should be a number"), ("x", "JSON")],
)
def test_prairielearn_refusals(document: Any, words: str) -> None:
    assert words in problem("prairielearn", document)


CASES = """<testsuites><testsuite name="s">
<testcase name="TestA" time="1,234.5"/><testcase name="TestA/one"><failure message="m">text</failure></testcase>
<testcase name="TestA/two"><properties><property name="points" value="3"/></properties></testcase>
<testcase name="half"><properties><property name="points">1.5</property><property name="max_points" value="2"/>
<property name="visibility" value="hidden"/></properties></testcase>
<testcase name="printed"><system-out>[[PROPERTY|points=5]]</system-out></testcase>
</testsuite></testsuites>"""


def test_junit_points_come_from_properties_a_map_or_are_one_each() -> None:
    found = of("junit", CASES, worth=Worth([("TestA/o*", Decimal(4)), ("*/one", Decimal(9))]))
    assert [(t.name.body, t.score, t.max) for t in found.tests] == [
        ("TestA", None, None),  # the sum of its subtests, which count
        ("TestA/one", 0, 4),
        ("TestA/two", 3, 3),
        ("half", Decimal("1.5"), 2),
        ("printed", 5, 5),
    ]
    assert found.tests[0].duration == 1234.5
    assert (found.tests[3].status, found.tests[3].visibility) == (Status.PARTIAL, Visibility.HIDDEN)


def test_brackets_in_patterns_stand_for_themselves() -> None:
    suite = '<testsuite><testcase name="push[1]"/><testcase name="push1"/></testsuite>'
    found = of("junit", suite, worth=Worth([("push[?]", Decimal(7))]))
    assert [test.max for test in found.tests] == [7, 1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("<testsuite/>", "testcase: there should be one at least"),
        ("<html><testcase name='a'/></html>", "html: should be testsuites or testsuite"),
        ("<testsuite>", "line 1: should be well-formed XML"),
        (CASES.replace('value="3"', 'value="three"'), "TestA/two, property points: should be a number"),
        (CASES.replace('value="hidden"', 'value="no"'), "half, property visibility: should be one of"),
    ],
)
def test_junit_refusals(content: str, words: str) -> None:
    assert words in problem("junit", content)


def test_junit_refusals_name_the_file_of_several() -> None:
    assert "2 files: r1.json: line 1: should be well-formed XML" in problem("junit", CASES, "<testsuite")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_junit_in_other_encodings(encoding: str) -> None:
    text = (
        f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?><testsuite><testcase name="ü"/></testsuite>'
    )
    assert of("junit", text.encode(encoding)).tests[0].name.body == "ü"


def test_junit_with_characters_that_xml_cannot_have() -> None:
    found = of(
        "junit", b'<testsuite><testcase name="a"><failure>\x1b[31m &#x1b; &#0; \x00</failure></testcase></testsuite>'
    )
    assert found.tests[0].output is not None
    assert found.tests[0].output.body == "�[31m � � �"


def test_ctrf_points_are_in_extra() -> None:
    tests = [
        {"name": "a", "status": "passed", "duration": 1500, "extra": {"broadway.points": 2}},
        {"name": "b", "status": "pending", "duration": 0, "extra": {"broadway.max_points": 3}},
        {"name": "c", "status": "failed", "duration": 0, "suite": ["s"], "extra": {"broadway.visibility": "hidden"}},
    ]
    found = of("ctrf", {"reportFormat": "CTRF", "specVersion": "1.0.0", "results": {"tests": tests}})
    assert points(found) == ("2", "6")
    assert [test.duration for test in found.tests] == [1.5, 0, 0]
    assert found.tests[2].visibility is Visibility.HIDDEN


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "results: is missing"),
        ({"reportFormat": "X"}, "reportFormat: should be CTRF"),
        ({"results": {"tests": []}}, "results.tests: should have one test at least"),
        ({"results": {"tests": [{"name": "a", "status": "ok"}]}}, "results.tests.0.status: should be one of passed"),
    ],
)
def test_ctrf_refusals(document: Any, words: str) -> None:
    assert words in problem("ctrf", document)


def test_classroom_adds_up_its_runners() -> None:
    first = {"version": 1, "status": "pass", "max_score": 5, "tests": [{"name": "a", "status": "pass", "score": 5}]}
    second = {"version": 1, "status": "error", "max_score": 3, "tests": []}
    third = {"version": 1, "status": "pass", "max_score": 0, "tests": [{"name": "i", "status": "pass", "score": 9}]}
    found = of("classroom", base64.b64encode(as_bytes(first)), second, third)
    assert points(found) == ("5", "8")
    assert [message.body for message in found.messages] == ["r1: ended with an error"]


def test_autolab_reads_the_last_line() -> None:
    found = of("autolab", 'building...\r\n{"scores": {"A": 10, "B": -2.5}, "scoreboard": [10, "x", null]}\n\n')
    assert points(found) == ("7.5", None)
    assert [(board.name, board.value) for board in found.boards] == [("1", 10.0), ("2", "x"), ("3", None)]
    assert found.log_visibility is Visibility.VISIBLE


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "there is no output"),
        ("make: error", "the last line: should be JSON, such as"),
        ('{"scores": {}}', "scores: should be an object with the score of one problem"),
        ('{"scores": {"A": "1"}}', "scores.A: should be a number"),
        ('{"scores": {"\\ud800": "1"}}', "scores.\N{REPLACEMENT CHARACTER}: should be a number"),
        ("x" * 70_000, "the last line: should be JSON"),
    ],
)
def test_autolab_refusals(content: str, words: str) -> None:
    assert words in problem("autolab", content)


def test_tap_fails_the_tests_that_are_missing() -> None:
    found = of(
        "tap", "TAP version 14\n1..4\nok 1 - a # SKIP no\nnot ok 2 b\n  ---\n  why: x\n  ...\nBail out! disk full\n"
    )
    assert [test.status for test in found.tests] == [Status.SKIPPED, Status.FAILED, Status.FAILED, Status.FAILED]
    assert found.messages[0].body == "The tests were given up: disk full"
    assert found.tests[1].output is not None
    assert "why: x" in found.tests[1].output.body


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("ok 1\n", "the plan: should be a line such as 1..3"),
        ("1..100000\n", "the plan: should be of at most 10000 tests"),
    ],
)
def test_tap_refusals(content: str, words: str) -> None:
    assert words in problem("tap", content)
