"""Reading request bodies: JSON that the store can hold, or a clear refusal before any change."""

import asyncio
import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from email.message import Message
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from broadway.domain.bounds import MAX_DEPTH, MAX_INT, MIN_INT
from broadway.domain.mistakes import mistakes
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.visit import visit_of

BODY_WITHIN = 120.0  # seconds
LARGE = 256 * 1024  # bytes; larger bodies are parsed in a thread, since they would block the event loop for too long
MAX_MISTAKES = 20  # in an answer
MAX_KEY = 255  # characters of an idempotency key

_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})

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


class UnsupportedBodyError(ValueError):
    """The body has an encoding or a charset that the server does not read."""


async def read(request: Request, expected: type[Body], *, limit: int, optional: bool = False) -> Body:
    """Read a request's body, of ``limit`` bytes at most; one that is ``optional`` may be empty.

    v1 ignores the body's encoding and charset, and takes the last of equal keys, as the original does.

    Raises:
        UnsupportedBodyError: As ``check_encoding``, except in v1.
        BodyTooLargeError: The body has more than ``limit`` bytes; the rest is not read.
        BodyTooSlowError: The body did not arrive within ``BODY_WITHIN``.
        InvalidBodyError: As ``parse``.
    """
    is_v1 = request.url.path.startswith("/api/v1/")
    if not is_v1:
        check_encoding(request)
    body = await raw_body(request, limit=limit)
    request.state.given = body  # for the audit log
    if optional and not body:
        return check({}, expected)
    read_it = partial(parse, body, expected, unique=not is_v1)
    return read_it() if len(body) < LARGE else await asyncio.to_thread(read_it)  # others are served meanwhile


def check_encoding(request: Request) -> None:
    """Return if a request's body is plain UTF-8 by its headers.

    Raises:
        UnsupportedBodyError: It is compressed, or in another charset.
    """
    _check_coding(request)
    media_type = Message()
    media_type["content-type"] = request.headers.get("content-type", "")
    charset = str(media_type.get_param("charset", "utf-8")).lower()
    if charset not in _CHARSETS:
        raise UnsupportedBodyError(f"Content-Type: the charset {_shorten(charset)} is not read: send UTF-8")


def _check_coding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedBodyError(f"Content-Encoding: {_shorten(encoding)}: send the body as it is, without encoding")


async def read_file(request: Request, *, limit: int) -> bytes:
    """Return a file that is a request's body, of ``limit`` bytes at most, in whatever charset.

    Raises:
        UnsupportedBodyError: It is compressed, or a part of a form.
        BodyTooLargeError: As for ``raw_body``, and so are other errors.
    """
    _check_coding(request)
    if request.headers.get("content-type", "").strip().lower().startswith("multipart/"):
        raise UnsupportedBodyError("Content-Type: expected the file itself as the body, not a form")
    body = await raw_body(request, limit=limit)
    request.state.given = body  # for the audit log
    return body


def given_body(request: Request) -> bytes:
    """Return the body that the handler has read, or an empty one."""
    body: bytes = getattr(request.state, "given", b"")
    return body


async def raw_body(request: Request, *, limit: int) -> bytes:
    """Return a request's raw body.

    Raises:
        BodyTooLargeError: The body has more than ``limit`` bytes; the rest is not read.
        BodyTooSlowError: The body did not arrive within ``BODY_WITHIN``.
        LimitError: The memory for bodies is used up.
    """
    body, visit = bytearray(), visit_of(request)
    async for piece in pieces(request, limit=limit):
        visit.memory.take(len(piece))
        body += piece
    return bytes(body)


async def pieces(request: Request, *, limit: int, pace: float = math.inf) -> AsyncIterator[bytes]:
    """Yield the pieces of a request's body as they arrive.

    Args:
        request: The request.
        limit: The most bytes of the body.
        pace: Bytes that have a second more to arrive, for bodies that slow connections need longer to send.

    Raises:
        BodyTooLargeError: The body has more than ``limit`` bytes; the rest is not read.
        BodyTooSlowError: The body did not arrive within ``BODY_WITHIN``, besides what ``pace`` adds.
    """
    size, begun = 0, asyncio.get_running_loop().time()
    stream = aiter(request.stream())
    while True:
        within = BODY_WITHIN + size / pace
        try:
            async with asyncio.timeout_at(begun + within):
                piece = await anext(stream, None)
        except TimeoutError as error:
            raise BodyTooSlowError(f"the request body did not come within {within:.0f} s") from error
        if piece is None:
            return
        size += len(piece)
        if size > limit:
            raise BodyTooLargeError(f"the request body is too large: {limit} bytes are allowed")
        yield piece


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
        raise InvalidBodyError(f"{_shorten(twice)}: the key stands twice in one object")
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
