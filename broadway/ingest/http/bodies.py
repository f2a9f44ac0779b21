"""Reading request bodies: JSON that the store can hold, or a clear refusal before any change."""

import asyncio
import json
import math
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from broadway.domain.bounds import MAX_DEPTH, MAX_INT, MIN_INT
from broadway.ingest.http.answers import Refused

BODY_WITHIN = 120.0  # seconds
LARGE = 256 * 1024  # bytes; larger bodies are parsed in a thread, since they would block the event loop for too long
MAX_KEY = 255  # characters of an idempotency key

MALFORMED = "Input is malformed; could not decode JSON object."

Body = TypeVar("Body", bound=BaseModel)


class Nothing(BaseModel):
    """An empty object, or an empty body."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InvalidBodyError(ValueError):
    """The body is not JSON, or does not match the expected shape; the text names the field."""


class BodyTooSlowError(ValueError):
    """The body did not arrive before the server's timeout."""


class BodyTooLargeError(ValueError):
    """The body is larger than the server allows."""


async def read(request: Request, expected: type[Body], *, limit: int, optional: bool = False) -> Body:
    """Read a request's body, of ``limit`` bytes at most; one that is ``optional`` may be empty.

    Raises:
        BodyTooLargeError: The body has more than ``limit`` bytes; the rest is not read.
        BodyTooSlowError: The body did not arrive within ``BODY_WITHIN``.
        InvalidBodyError: As ``parse``.
    """
    body = await raw_body(request, limit=limit)
    if optional and not body:
        return check({}, expected)
    if len(body) < LARGE:
        return parse(body, expected)
    return await asyncio.to_thread(parse, body, expected)  # other requests are served meanwhile


async def raw_body(request: Request, *, limit: int) -> bytes:
    """Return a request's raw body.

    Raises:
        BodyTooLargeError: The body has more than ``limit`` bytes; the rest is not read.
        BodyTooSlowError: The body did not arrive within ``BODY_WITHIN``.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN):
            async for piece in request.stream():
                body += piece
                if len(body) > limit:
                    raise BodyTooLargeError(f"the request body is too large: {limit} bytes are allowed")
    except TimeoutError as error:
        raise BodyTooSlowError(f"the request body did not come within {BODY_WITHIN:g} s") from error
    return bytes(body)


def idempotency_key(request: Request) -> str | None:
    """Return the client's key, or None. RFC 8941 requires quotes around it, which few clients send.

    Raises:
        Refused: 400, the key is empty or too long.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    key = key.strip().removeprefix('"').removesuffix('"')
    if not 0 < len(key) <= MAX_KEY:
        raise Refused(400, f"Idempotency-Key: should have 1 to {MAX_KEY} characters")
    return key


def parse(raw: bytes, expected: type[Body]) -> Body:
    """Read a body as an instance of ``expected``.

    Raises:
        InvalidBodyError: The body does not match; the text has a line for each problem.
    """
    document = _decode(raw)
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
        raise InvalidBodyError(
            "\n".join(map(_readable, error.errors(include_url=False, include_input=False)))
        ) from error


def _decode(raw: bytes, errors: str = "strict") -> Any:
    try:
        # NaN and huge numbers pass here, so that the check in `_unstorable` can name their place.
        return json.loads(raw.decode("utf-8", errors), parse_int=_integer)
    except RecursionError as error:
        raise InvalidBodyError(f"the body: nested deeper than {MAX_DEPTH} levels") from error
    except ValueError as error:
        raise InvalidBodyError(MALFORMED) from error


def _integer(digits: str) -> int:
    """Return an integer; one that is too long to parse quickly becomes the smallest integer that is refused."""
    return int(digits) if len(digits) <= len(str(MIN_INT)) else MAX_INT + 1


def _readable(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "the body"
    return f"{where}: {problem['msg']}"


def _unstorable(document: Any) -> Iterator[str]:
    """Yield the problems that keep a document out of MongoDB, or clients from reading it back.

    Depth is one of them, so this does not recurse.
    """
    stack: list[tuple[str, int, Any]] = [("", 0, document)]
    while stack:
        path, depth, value = stack.pop()
        if depth > MAX_DEPTH:
            yield f"{_shorten(path)}: nested deeper than {MAX_DEPTH} levels"
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
    return f"{path}.{_shorten(key)}" if path else _shorten(key)


def _shorten(text: str) -> str:
    printable = text.encode("ascii", "backslashreplace").decode()
    return printable if len(printable) <= 200 else f"{printable[:200]}..."  # noqa: PLR2004 - about two lines
