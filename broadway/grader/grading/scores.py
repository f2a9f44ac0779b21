"""The results file of a trusted stage, in Gradescope's or PrairieLearn's shape, parsed strictly.

Any text in it may come from a student. The document is stored as one opaque text beside the few numbers that Broadway
interprets, so that no key, number or nesting in it can harm a database or a reader.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from broadway.domain.result import Scores

MAX_SIZE = 1024 * 1024  # bytes
MAX_DEPTH = 32
MAX_TESTS = 10_000
MAX_DIGITS = 1000  # of a whole number that Broadway does not interpret, such as a seed
LARGEST = 2**53  # of a score; larger whole numbers are not exact in every program
MAX_REFUSED = 64 * 1024  # characters of a refused file that are kept for the course staff
_FOR_STUDENTS = ("message", "output", "format_errors", "gradable")  # a file without a score has one of them


class InvalidScoresError(ValueError):
    """Not a valid results file; the text gives the reason without quoting the file.

    ``beginning`` is the beginning of the file, for the course staff.
    """

    beginning: str | None = None


def parse(data: bytes) -> Scores:
    """Read a results file.

    Raises:
        InvalidScoresError: The bytes are not a valid results file.
    """
    try:
        return _parse(data)
    except InvalidScoresError as error:
        error.beginning = beginning_of(data)
        raise


def beginning_of(data: bytes) -> str:
    """Return the beginning of a refused file as text, for the course staff."""
    return data[: 4 * MAX_REFUSED].decode("utf-8", "replace")[:MAX_REFUSED]


def _parse(data: bytes) -> Scores:
    document = _decode(data)
    if not isinstance(document, dict):
        raise InvalidScoresError("should be a JSON object")
    _check_depth(document)
    tests = _tests(document)
    score = None if document.get("gradable") is False else _score(document, tests)
    limits = [_number(test, "max_score", f"tests.{index}.max_score", "max_points") for index, test in enumerate(tests)]
    max_score = _number(document, "max_score", "max_score")
    if max_score is None and limits and None not in limits:
        max_score = _sum("max_score", limits)
    return Scores(score, max_score, json.dumps(document, ensure_ascii=True, allow_nan=False))


def _score(document: Mapping[str, Any], tests: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the score of a file, or the sum of its tests' scores; None if the file only has words for the student."""
    score = _number(document, "score", "score")
    if score is not None:
        return score
    scored = [_number(test, "score", f"tests.{index}.score", "points") for index, test in enumerate(tests)]
    if any(each is not None for each in scored):
        return _sum("score", scored)
    if tests or any(document.get(key) not in (None, "", []) for key in _FOR_STUDENTS):
        return None
    raise InvalidScoresError("score: should be a number, here or in a test; or there should be a message or an output")


def _decode(data: bytes) -> Any:
    if len(data) > MAX_SIZE:
        raise InvalidScoresError(f"should have at most {MAX_SIZE} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidScoresError("should be UTF-8") from None
    try:
        return json.loads(
            text, parse_int=_integer, parse_float=_float, parse_constant=_constant, object_pairs_hook=_object
        )
    except RecursionError:
        raise InvalidScoresError(f"is nested deeper than {MAX_DEPTH}") from None
    except json.JSONDecodeError as error:
        raise InvalidScoresError(f"is no JSON: line {error.lineno}, column {error.colno}") from None


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise InvalidScoresError(f"has a number of more than {MAX_DIGITS} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InvalidScoresError("has a number that is too large")
    return value


def _constant(name: str) -> float:
    raise InvalidScoresError(f"has {name}, which is no JSON")


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidScoresError("has an object with the same key twice")
        found[key] = value
    return found


def _check_depth(document: Any) -> None:
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [child for each in level for child in _children(each)]
        if not level:
            return
    raise InvalidScoresError(f"is nested deeper than {MAX_DEPTH}")


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [each for each in value.values() if isinstance(each, dict | list)]
    return [each for each in value if isinstance(each, dict | list)]


def _tests(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    tests = document.get("tests")
    if tests is None:
        return []
    if not isinstance(tests, list) or not all(isinstance(test, dict) for test in tests):
        raise InvalidScoresError("tests: should be a list of objects")
    if len(tests) > MAX_TESTS:
        raise InvalidScoresError(f"tests: should be at most {MAX_TESTS}")
    return tests


def _sum(key: str, values: Iterable[float | None]) -> float:
    """Return the sum of the tests' numbers, without those that are missing."""
    try:
        return math.fsum(value for value in values if value is not None)
    except OverflowError:
        raise InvalidScoresError(f"{key}: those of the tests add up to a number that is too large") from None


def _number(holder: Mapping[str, Any], key: str, where: str, other: str | None = None) -> float | None:
    value = holder.get(key)
    if value is None and other:
        value = holder.get(other)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidScoresError(f"{where}: should be a number")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise InvalidScoresError(f"{where}: should be a number up to 2^53")
    if value < 0 and key == "max_score":
        raise InvalidScoresError(f"{where}: should not be negative")
    return float(value) + 0.0  # no negative zero
