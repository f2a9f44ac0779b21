"""Answers that many readers share: serialized once, with an entity tag, and 304 for clients that have them already."""

import hashlib
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.progress import RunProgress
from broadway.ingest.http.answers import CORS
from broadway.ingest.reads.progress import SharedProgress

CONDITION = {"If-None-Match": "the `ETag` of an earlier answer: without a change since then the answer is 304"}
MAX_TAGS = 16  # of a request's If-None-Match; further ones are not compared


def answered_from(
    request: Request, shared: SharedProgress, name: str, render: Callable[[RunProgress], bytes], *, media_type: str
) -> Response:
    """Answer with a form of a run's progress, named ``name``, which all who share the read get.

    Its tag is a strong one, as the original's was: equal tags stand for equal bytes.
    """
    form = shared.form(name, render)
    tag = f'"{form.digest}"'
    headers = {**CORS, "ETag": tag}
    if _has(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    return Response(form.body, headers=headers, media_type=media_type)


def unchanged(request: Request, answer: Response) -> Response:
    """Return an answer with the tag of its bytes, or 304 if the client has these bytes already."""
    tag = f'"{hashlib.sha256(bytes(answer.body)).hexdigest()[:32]}"'
    headers = {**CORS, "ETag": tag}
    if _has(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    answer.headers["ETag"] = tag
    return answer


def _has(condition: str, tag: str) -> bool:
    """Return whether If-None-Match names a tag; the comparison is the weak one, as RFC 9110 demands here."""
    if condition.strip() == "*":
        return True
    return tag in [each.strip().removeprefix("W/") for each in condition.split(",", MAX_TAGS)[:MAX_TAGS]]
