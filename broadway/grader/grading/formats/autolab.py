"""Autolab's results: the last line that its autograder prints."""

from decimal import Decimal

from broadway.domain.keys_of_tests import Keys
from broadway.domain.report import MAX_BOARDS, Board, Report, ReportedTest, Source, Status, Text, Visibility
from broadway.grader.grading.formats.json_file import decode_text
from broadway.grader.grading.formats.malformed import Fields, MalformedError, malformed, points, sum_of

TAIL = 64 * 1024  # bytes of the output in which the last line is looked for


def read(data: bytes) -> Report:
    """Read the scores in the last line of some output; the student's feedback is the whole output.

    Raises:
        MalformedError: There is no such line, or it is not valid.
    """
    lines = data[-TAIL:].decode("utf-8", "replace").replace("\r", "\n").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if not last:
        raise malformed("the last line", "should be JSON with the scores; there is no output")
    try:
        document = decode_text(last)
    except MalformedError:
        raise malformed("the last line", 'should be JSON, such as {"scores": {"Correctness": 10}}') from None
    scores = document.get("scores") if isinstance(document, dict) else None
    if not isinstance(scores, dict) or not scores:
        raise malformed("scores", "should be an object with the score of one problem at least")
    fields, keys = Fields(scores, "scores"), Keys()
    tests = [_problem(fields, name, keys) for name in scores]
    return Report(
        source=Source.AUTOLAB,
        score=sum_of((test.score for test in tests), "scores"),
        log_visibility=Visibility.VISIBLE,
        tests=tests,
        boards=_boards(document),
    )


def _problem(scores: Fields, name: str, keys: Keys) -> ReportedTest:
    score = scores.number(name)
    if score is None:
        raise malformed(scores.place(name), "should be a number")
    return ReportedTest(key=keys.of([], name), name=Text(body=name), status=Status.INFO, score=score)


def _boards(document: dict[str, object]) -> list[Board]:
    """Return the values for the scoreboard, whose names the assignment has."""
    values = document.get("scoreboard")
    if values is None:
        return []
    if not isinstance(values, list):
        raise malformed("scoreboard", "should be a list")
    return [_board(index, value) for index, value in enumerate(values[:MAX_BOARDS])]


def _board(index: int, value: object) -> Board:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str | None):
        raise malformed(f"scoreboard.{index}", "should be a number or a text")
    shown = float(points(Decimal(value), f"scoreboard.{index}")) if isinstance(value, int | Decimal) else value
    return Board(name=str(index + 1), value=shown)
