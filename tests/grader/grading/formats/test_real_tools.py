"""Results files that real tools wrote: statuses, points and marks of reruns."""

from pathlib import Path

import pytest

from broadway.domain.report import Report, Status, Visibility
from broadway.grader.grading.formats.malformed import File
from broadway.grader.grading.formats.read import read

DATA = Path(__file__).parent / "data"
P, F, S, H = Status.PASSED, Status.FAILED, Status.SKIPPED, Status.PARTIAL


def report(name: str, *files: str) -> Report:
    return read(name, [File(f"out/{file}", (DATA / file).read_bytes()) for file in files])


def totals(found: Report) -> tuple[str, str]:
    return str(found.score), str(found.max)


def statuses(found: Report) -> list[tuple[str, Status, int, bool]]:
    return [(test.name.body, test.status, test.attempts, test.flaky) for test in found.tests]


def test_pytest_with_reruns_and_a_teardown_failure() -> None:
    found = report("junit", "pytest.xml")
    assert statuses(found) == [
        ("test_push[1]", P, 1, False),
        ("test_push[2]", P, 1, False),
        ("test_pop", F, 1, False),
        ("test_fails_and_its_teardown_fails", F, 2, False),
        ("test_with_broken_setup", F, 1, False),
        ("test_flaky", P, 2, False),
        ("test_always_fails", F, 2, True),
        ("test_skipped", S, 1, False),
        ("test_expected_failure", S, 1, False),
        ("test_unexpected_success", P, 1, False),
        ("test_control_characters", F, 1, False),
        ("test_several", F, 1, False),
    ]
    assert totals(found) == ("5", "13")  # the points of a repeated test count once
    assert found.tests[1].max == 2  # its property `points`
    assert "pop from empty list" in (found.tests[2].output.body if found.tests[2].output else "")


def test_gtest_with_disabled_tests_and_several_failures_of_one() -> None:
    found = report("junit", "gtest.xml")
    assert statuses(found) == [
        ("Push", P, 1, False),
        ("FailsTwice", F, 1, False),
        ("DISABLED_Later", S, 1, False),
        ("Skipped", S, 1, False),
        ("Throws", F, 1, False),
        ("IsEven/0", P, 1, False),
        ("IsEven/1", F, 1, False),
    ]
    assert totals(found) == ("3", "8")
    assert found.tests[0].key == "Stack/Push"


def test_catch2_with_sections() -> None:
    found = report("junit", "catch2.xml")
    assert [test.name.body for test in found.tests if test.status is P] == ["push", "sections/good"]
    assert totals(found) == ("2", "7")


def test_surefire_with_reruns_of_several_classes() -> None:
    found = report("junit", "surefire/TEST-QueueTest.xml", "surefire/TEST-StackTest.xml")
    assert sorted(statuses(found)) == [
        ("add", P, 1, False),
        ("assumed", S, 1, False),
        ("disabled", S, 1, False),
        ("flaky", P, 2, True),
        ("pop", F, 2, False),
        ("push", P, 1, False),
        ("raises", F, 2, False),
    ]
    assert totals(found) == ("3", "7")
    assert "java.class.path" not in found.stored()  # properties of a suite are the whole environment


def test_jest_with_a_suite_that_does_not_compile() -> None:
    found = report("junit", "jest.xml")
    assert [test.status for test in found.tests] == [P, F, S, P, F, F]
    assert totals(found) == ("2", "6")


def test_ctrf_of_pytest_marks_reruns() -> None:
    found = report("ctrf", "pytest-ctrf.json")
    assert ("test_stack.py::test_flaky", P, 2, True) in statuses(found)
    assert totals(found) == ("4", "12")


def test_ctrf_of_jest() -> None:
    found = report("ctrf", "jest-ctrf.json")
    assert [test.status for test in found.tests] == [P, F, S, F, F]
    assert found.tests[-1].group == ["stack.test.js > stack > nested"]
    assert found.messages[0].body.startswith("1 of the tests ended neither")


def test_gradescope_utils() -> None:
    found = report("gradescope", "gradescope-utils.json")
    tests = {test.name.body.split(" ")[0]: test for test in found.tests}
    assert totals(found) == ("23.2", "42")  # the maximum ignores tests without one
    assert (found.duration, found.log_visibility) == (0.0, Visibility.HIDDEN)
    assert (tests["test_extra"].score, tests["test_extra"].max) == (12, 10)
    assert (tests["test_penalty"].score, tests["test_penalty"].status) == (-1, F)
    assert tests["test_partial"].status is H
    assert (tests["test_without_weight"].score, tests["test_without_weight"].status) == (None, P)
    assert tests["test_hidden"].visibility is Visibility.HIDDEN
    assert tests["test_later"].visibility is Visibility.AFTER_DUE
    assert [(board.name, board.value, board.order) for board in found.boards] == [
        ("seconds", 0.5, "asc"),
        ("unset", None, "desc"),
    ]


@pytest.mark.parametrize(
    ("file", "expected", "points"),
    [("perl.tap", [P, F, S, S, P, F], ("2", "6")), ("node.tap", [P, F, S, S, F], ("1", "5"))],
)
def test_tap(file: str, expected: list[Status], points: tuple[str, str]) -> None:
    found = report("tap", file)
    assert [test.status for test in found.tests] == expected
    assert totals(found) == points
