"""Small forms: their fields, as browsers send them without script."""

from urllib.parse import parse_qs

from starlette.requests import Request

from broadway.ingest.http.answers import Refused
from broadway.ingest.http.bodies import raw_body

MAX_FORM = 16 * 1024  # bytes
MAX_FIELDS = 50


async def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a small form.

    Raises:
        Refused: 400, the form is malformed.
        BodyTooLargeError: It is too large.
    """
    body = await raw_body(request, limit=MAX_FORM)
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise Refused(400, "the form is malformed") from error
    return {name: values[-1] for name, values in fields.items()}
