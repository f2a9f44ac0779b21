"""Templates: every value is escaped, an unknown name is an error, and answers are compressed."""

import gzip
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.counts import plural
from broadway.domain.page_session import PageSession
from broadway.domain.report import shown
from broadway.domain.status_line import of_points
from broadway.ingest.ui import markup, statics, words

TEMPLATES = Path(__file__).parent / "templates"
_LEVEL = 5  # of compression
_WORTH = 1000  # bytes from which on compression pays
_KEY = "page_session"


@cache
def environment() -> Environment:
    """Return the environment of all templates."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=markup.clean,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals |= {"static": statics.address, "of_points": of_points, "query": urlencode}
    made.filters |= {
        "duration": words.duration,
        "exact": words.exact,
        "size": words.size,
        "number": words.number,
        "plural": plural,
        "points": lambda value: "\N{EN DASH}" if value is None else shown(value),
        "colored": markup.colored,
        "plain": markup.plain,
        "verbatim": markup.verbatim,
        "urlpath": lambda text: quote(str(text), safe="/"),
        "combine": lambda first, second: {**first, **second},
        "segment": lambda text: quote(str(text), safe=""),
    }
    return made


def rendered(name: str, /, **values: Any) -> str:
    """Return a template with values. ``ago`` in it is relative to this moment."""
    now = datetime.now(UTC)
    return environment().get_template(name).render(now=now, ago=lambda at: words.ago(at, now), **values)


def fragment(template: str, macro: str, /, *values: Any) -> str:
    """Return the HTML that a macro of a template makes of values; other templates take it as it is."""
    html: str = getattr(environment().get_template(template).module, macro)(*values)
    return html


def keep_session(request: Request, session: PageSession | None) -> None:
    """Keep the session of a request for its page."""
    setattr(request.state, _KEY, session)


def session_in(request: Request) -> PageSession | None:
    """Return the session of a request, or None."""
    found: PageSession | None = getattr(request.state, _KEY, None)
    return found


def page(request: Request, template: str, /, status: int = 200, **values: Any) -> Response:
    """Return a page: compressed, with an entity tag, never from a cache that others share."""
    body = rendered(template, session=session_in(request), here=request.url.path, **values).encode()
    return sent(request, body, status=status)


def not_kept(answer: Response) -> Response:
    """Let no browser keep a page, which shows a secret once."""
    answer.headers["Cache-Control"] = "no-store"
    del answer.headers["ETag"]
    return answer


def sent(request: Request, body: bytes, *, status: int = 200) -> Response:
    """Return HTML as a response; 304 if the browser has it."""
    tag = f'"{sha256(body).hexdigest()[:32]}"'
    headers = {"Cache-Control": "private, no-cache", "Vary": "Cookie, Accept-Encoding"}
    if status == 200:  # noqa: PLR2004
        headers["ETag"] = tag
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
    if len(body) >= _WORTH and statics.accepts_gzip(request):
        body = gzip.compress(body, _LEVEL, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(body, status, headers=headers, media_type="text/html; charset=utf-8")
