"""Reading JSON from outside: documents that the store can hold, or a clear refusal that names the field."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from broadway.domain.bounds import MAX_DEPTH, MAX_INT, MIN_INT
from broadway.domain.mistakes import mistakes

MALFORMED = "Input is malformed; could not decode JSON object."
MAX_MISTAKES = 20  # in a refusal

Body = TypeVar("Body", bound=BaseModel)


class InvalidBodyError(ValueError):
    """A text is not JSON, or does not match the expected shape; the error's text names the field."""


def parse(raw: bytes, expected: type[Body], *, unique: bool = False) -> Body:
    """Read a body as an instance of ``expected``; with ``unique`` no object may have a key twice.

    Raises:
        InvalidBodyError: The body does not match; the text has a line for each problem.
    """
    document = _decode(raw, unique=unique)
    problem = next(_unstorable(document), None)
    if problem:
        raise InvalidBodyError(problem)
    return check(document, expected)


def parse_part(raw: bytes, expected: type[Body]) -> Body:
    """Read the keys of a body that ``expected`` has, and check only those: a sender may add any others.

    Raises:
        InvalidBodyError: The body is not JSON, or one of those keys does not match.
    """
    read_keys = check(_decode(raw, errors="surrogateescape"), expected)
    problem = next(_unstorable(read_keys.model_dump(mode="python")), None)
    if problem:
        raise InvalidBodyError(problem)
    return read_keys


def check(document: Any, expected: type[Body]) -> Body:
    """Validate decoded JSON as an instance of ``expected``.

    Raises:
        InvalidBodyError: The document does not match; the text has a line for each problem.
    """
    try:
        return expected.model_validate(document)
    except ValidationError as error:
        raise InvalidBodyError("\n".join(mistakes(error, expected, whole="the body")[:MAX_MISTAKES])) from error


def _decode(raw: bytes, *, errors: str = "strict", unique: bool = False) -> Any:
    try:
        # NaN and huge numbers pass here, so that the check in `_unstorable` can name their place.
        text = raw.decode("utf-8", errors)
        return json.loads(text, parse_int=_integer, object_pairs_hook=_object if unique else None)
    except InvalidBodyError:
        raise
    except RecursionError as error:
        raise InvalidBodyError(f"the body: nested deeper than {MAX_DEPTH} levels") from error
    except ValueError as error:
        raise InvalidBodyError(MALFORMED) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; two readers of an object with equal keys may take different values."""
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise InvalidBodyError(f"{shorten(twice)}: the key stands twice in one object")
    return found


def _integer(digits: str) -> int:
    """Return an integer; one that is too long to parse quickly becomes the smallest integer that is refused."""
    return int(digits) if len(digits) <= len(str(MIN_INT)) else MAX_INT + 1


def _unstorable(document: Any) -> Iterator[str]:
    """Yield the problems that keep a document out of MongoDB, or clients from reading it back.

    Depth is one of them, so this does not recurse.
    """
    stack: list[tuple[str, int, Any]] = [("", 0, document)]
    while stack:
        path, depth, value = stack.pop()
        if depth > MAX_DEPTH:
            yield f"{shorten(path)}: nested deeper than {MAX_DEPTH} levels"
            return
        if isinstance(value, dict):
            yield from (f"{_join(path, key)}: {why}" for key in value if (why := _bad_key(key)))
            stack += [(_join(path, key), depth + 1, item) for key, item in value.items()]
        elif isinstance(value, list):
            stack += [(_join(path, str(index)), depth + 1, item) for index, item in enumerate(value)]
        elif why := _bad_scalar(value):
            yield f"{path or 'the body'}: {why}"


def _bad_key(key: str) -> str | None:
    if key.startswith("$"):
        return "a key must not start with '$'"
    if "." in key or "\x00" in key:
        return "a key must not contain '.' or NUL"
    return _bad_scalar(key)


def _bad_scalar(value: Any) -> str | None:
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        return "half of a surrogate pair is not text"
    if isinstance(value, int) and not MIN_INT <= value <= MAX_INT:
        return "an integer must fit 64 bits"
    if isinstance(value, float) and not math.isfinite(value):
        return "a number must be finite"
    return None


def _join(path: str, key: str) -> str:
    return f"{path}.{shorten(key)}" if path else shorten(key)


def shorten(text: str) -> str:
    """Return a text as ASCII, of about two lines at most."""
    printable = text.encode("ascii", "backslashreplace").decode()
    return printable if len(printable) <= 200 else f"{printable[:200]}..."  # noqa: PLR2004 - about two lines
