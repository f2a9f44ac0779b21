"""Small forms: their fields, as browsers send them without script."""

from urllib.parse import parse_qs

from starlette.requests import Request

from broadway.ingest.http.answers import Refused
from broadway.ingest.http.bodies import raw_body

MAX_FORM = 16 * 1024  # bytes
MAX_FIELDS = 50
MAX_DIGITS = 9


def number_in(text: str) -> int | None:
    """Return the whole number that a text is, of at most nine digits; None for any other text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS else None


async def form_of(request: Request, *, limit: int = MAX_FORM) -> dict[str, str]:
    """Return the fields of a small form; of a repeated one the last value.

    Raises:
        Refused: 400, the form is malformed.
        BodyTooLargeError: It is too large.
    """
    return {name: values[-1] for name, values in (await lists_of(request, limit=limit)).items()}


async def lists_of(request: Request, *, limit: int = MAX_FORM, most: int = MAX_FIELDS) -> dict[str, list[str]]:
    """Return all values of the fields of a form that has at most ``most`` values.

    Raises:
        Refused: 400, the form is malformed, or has too many values.
        BodyTooLargeError: It is too large.
    """
    body = await raw_body(request, limit=limit)
    try:
        return parse_qs(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=most)
    except ValueError as error:
        raise Refused(400, "the form is malformed") from error
