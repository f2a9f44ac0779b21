"""The envelopes of responses: JSend for v1, as the original's clients expect, and problem details for v2."""

from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse, Response

V1_JSON = "application/json; charset=UTF-8"
CORS = {"Access-Control-Allow-Origin": "*"}
PREFLIGHT = {
    **CORS,
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
}


class Refused(Exception):  # noqa: N818 - an answer, not a failure
    """A refusal of a request; the client gets the message, and the seconds after which to try again."""

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}


def success(data: Any = None) -> Response:
    return _json(200, {"status": "success", "data": data})


def refused(status: int, message: str) -> Response:
    return _json(status, {"status": "fail", "data": {"message": message}})


def invalid_body(text: str, status: int = 400) -> Response:
    """Answer a body that cannot be read; here ``data`` is a plain string."""
    return _json(status, {"status": "fail", "data": text})


def failure(status: int, headers: dict[str, str] | None = None) -> Response:
    """Answer a request that failed unexpectedly, or that no handler serves."""
    phrase = HTTPStatus(status).phrase
    return _json(status, {"status": "error", "message": phrase, "code": status}, headers)


def problem(status: int, detail: str) -> Response:
    """Return problem details (RFC 9457), for v2."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body, status, headers=CORS, media_type="application/problem+json")


def _json(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(body, status, headers={**CORS, **(headers or {})}, media_type=V1_JSON)
