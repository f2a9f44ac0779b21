"""JSON in results files, decoded within bounds, with exact numbers."""

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from broadway.domain.report import MAX_EXTRA, storable
from broadway.grader.grading.formats.malformed import Fields, malformed

MAX_DEPTH = 32
MAX_DIGITS = 1000  # of a whole number that is kept as such


def decode(data: bytes, *, errors: str = "strict") -> Any:
    """Return the document in some bytes: UTF-8, with or without a byte order mark.

    Numbers are ``int`` or ``Decimal``. ``errors`` is the treatment of bytes that are no UTF-8.

    Raises:
        MalformedError: The bytes are no JSON, or beyond the bounds.
    """
    try:
        text = data.decode("utf-8-sig", errors)
    except UnicodeDecodeError:
        raise malformed("", "should be UTF-8") from None
    return decode_text(text)


def decode_text(text: str) -> Any:
    """Return the document in a text; see ``decode``.

    Raises:
        MalformedError: The text is no JSON, or beyond the bounds.
    """
    try:
        document = json.loads(
            text, parse_int=_integer, parse_float=_decimal, parse_constant=_constant, object_pairs_hook=_object
        )
    except RecursionError:
        raise malformed("", f"should not be nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        raise malformed(f"line {error.lineno}, column {error.colno}", "should be JSON") from None
    _check_depth(document)
    return document


def object_in(data: bytes, *, errors: str = "strict") -> Fields:
    """Return the object that is a whole file.

    Raises:
        MalformedError: The bytes are no JSON object, or beyond the bounds.
    """
    document = decode(data, errors=errors)
    if not isinstance(document, dict):
        raise malformed("", "should be a JSON object")
    return Fields(document)


def as_json(value: Any, where: str) -> str | None:
    """Return a part of a document as JSON text, or None; a number that a program may not read becomes text.

    Raises:
        MalformedError: The text would be longer than ``MAX_EXTRA``.
    """
    if value is None:
        return None
    text = storable(json.dumps(value, ensure_ascii=False, default=_plain, allow_nan=False))
    if len(text) > MAX_EXTRA:
        raise malformed(where, f"should have at most {MAX_EXTRA} characters")
    return text


def _plain(number: object) -> object:
    """Return a decimal number as a float if that is the same number, or as text."""
    assert isinstance(number, Decimal)  # noqa: S101 - all other values of a document are JSON's own
    text = repr(float(number)) if abs(number.adjusted()) < 300 else ""  # noqa: PLR2004 - the range of floats
    return float(text) if text and Decimal(text) == number else str(number)


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= MAX_DIGITS else Decimal(text)


def _decimal(text: str) -> Decimal | str:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of more than 18 digits
        return text


def _constant(name: str) -> Any:
    raise malformed("", f"should be JSON, which has no {name}")


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise malformed("", "should not have an object with the same key twice")
        found[key] = value
    return found


def _check_depth(document: Any) -> None:
    level = [document]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for each in level for inner in _containers(each)]
        if not level:
            return
    raise malformed("", f"should not be nested deeper than {MAX_DEPTH} levels")


def _containers(value: Any) -> Iterable[Any]:
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return (each for each in inside if isinstance(each, dict | list))
