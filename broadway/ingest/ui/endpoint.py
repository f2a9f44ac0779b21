"""Routes of pages: each admits sessions of some kinds, and answers refusals with a page that says what to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.datastructures import URL
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from broadway.domain.access import ANYONE, Kind
from broadway.domain.page_session import PageSession
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auditing import audited
from broadway.ingest.http.auth import Access, grant
from broadway.ingest.http.deps import Deps, Handler
from broadway.ingest.http.errors import RETRY_AFTER, answer_to, detail_of
from broadway.ingest.http.places import in_place
from broadway.ingest.http.rights import PEOPLE, UNSAFE, Load, Rights, rights_of, unchanged
from broadway.ingest.ui.refused_forms import RefusedForm
from broadway.ingest.ui.security import LINKS, demand_own_origin, secret_of
from broadway.ingest.ui.templating import keep_session, page, session_in

NOTHING_HERE = "there is no such page, or it is not yours"
SIGN_IN = "/ui/sign-in"
_WORDS = {
    400: "Not accepted",
    403: "Not allowed",
    404: "Nothing here",
    405: "Not possible here",
    409: "Not possible now",
    413: "Too large",
    422: "Not accepted",
    429: "Too many requests",
    500: "Something failed on our side",
    503: "Not available right now",
}


class NotSignedIn(Exception):  # noqa: N818 - an answer, not a failure
    """The request has no valid session of a kind that the page admits."""


def page_route(deps: Deps, path: str, handlers: Mapping[str, Handler]) -> Route:
    """Return a route of a page with a handler for each method; that of GET also answers HEAD.

    Raises:
        TypeError: A handler does not declare the sessions that it admits, or an unsafe one no state before.
    """
    known = {**handlers, **({"HEAD": handlers["GET"]} if "GET" in handlers else {})}
    rights = {method: _checked(method, handler) for method, handler in known.items()}
    return Route(path, _Page(deps, known, rights), methods=None)


def _checked(method: str, handler: Handler) -> Rights:
    rights = rights_of(handler)
    if method in UNSAFE and rights.before is None and not PEOPLE.isdisjoint(rights.kinds):
        raise TypeError(f"{handler.__module__}.{handler.__qualname__}: declare the state before it, or `nothing`")
    return rights


class _Page:
    """Answers requests of all methods to one path."""

    def __init__(self, deps: Deps, handlers: Mapping[str, Handler], rights: Mapping[str, Rights]) -> None:
        self._endpoint = _Endpoint(deps, handlers, rights)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive, send)
        response = await self._endpoint.answer(request)
        await response(scope, receive, send)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    deps: Deps
    handlers: Mapping[str, Handler]
    rights: Mapping[str, Rights]

    async def answer(self, request: Request) -> Response:
        keep_session(request, None)
        try:
            return await self._answer(request)
        except NotSignedIn:
            return sign_in_first(request)
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - every error becomes a page, as the application's handlers decide
            return await refusal(request, error)

    async def _answer(self, request: Request) -> Response:
        handler = self.handlers.get(request.method)
        if handler is None:
            raise Refused(405, f"this address takes {', '.join(self.handlers)}")
        if self.deps.health.is_unavailable("store"):
            return unavailable(request)
        if request.method in UNSAFE:
            demand_own_origin(request)
        rights = self.rights[request.method]
        answered = await in_place(
            request, self.deps, rights.load_of(request.method), lambda: self._admitted(request, handler, rights)
        )
        return answered or unavailable(request)

    async def _admitted(self, request: Request, handler: Handler, rights: Rights) -> Response:
        """Answer a request whose session is of a kind that the page admits, and of the course in its path.

        Raises:
            NotSignedIn: There is no session.
            Refused: 404 for a session that may not see the page; or the handler's refusal.
        """
        # A shared read has no turn of its own, and sessions are not shared.
        turn = Load.SMALL if rights.load is Load.SHARED else Load.SHARED
        async with self.deps.shares.turn(turn):
            session = await self.deps.sign_in.find(secret_of(request))
        keep_session(request, session)
        if rights.is_open:
            grant(request, Access(ANYONE))
            return await handler(request, self.deps)
        if session is None:
            raise NotSignedIn
        if session.kind not in rights.kinds:
            raise Refused(404, NOTHING_HERE)
        grant(request, await self._access(request, session))
        if request.method in UNSAFE and rights.before is not unchanged:
            return await audited(request, self.deps, handler, rights)
        return await handler(request, self.deps)

    async def _access(self, request: Request, session: PageSession) -> Access:
        wanted = request.path_params.get("course")
        if wanted is None:
            return Access(session.principal())
        # A page of a course that takes operators takes them for every course.
        is_admitted = session.kind is Kind.OPERATOR or session.admits_to(wanted)
        course = await self.deps.authenticator.recent_courses.get(wanted) if is_admitted else None
        if course is None:
            raise Refused(404, NOTHING_HERE)
        return Access(session.principal(course.id), (course,))


def visitor(request: Request) -> PageSession:
    """Return the session of an admitted request."""
    session = session_in(request)
    assert session is not None  # noqa: S101 - the page admits sessions only
    return session


def sign_in_first(request: Request) -> Response:
    """Lead to the form for signing in, and back to the page after it."""
    url = request.url
    wanted = f"{url.path}?{url.query}" if url.query else url.path
    back = f"?next={quote(wanted, safe='')}" if request.method in ("GET", "HEAD") and url.path != "/ui" else ""
    return RedirectResponse(f"{SIGN_IN}{back}", 303, headers={"Cache-Control": "no-store"})


def unavailable(request: Request) -> Response:
    """Say that the store is unavailable."""
    text = "The store is unavailable. Submissions that were accepted are safe, and this page works again by itself."
    answer = message(request, 503, text)
    answer.headers["Retry-After"] = RETRY_AFTER
    return answer


async def refusal(request: Request, error: Exception) -> Response:
    """Return a page for an error: its status and its words are those that the API would answer."""
    if isinstance(error, RefusedForm):
        return error.answer
    masked = Request({**request.scope, "path": LINKS}) if request.url.path.startswith(LINKS) else request
    answer = await answer_to(masked, error)
    detail = detail_of(answer)
    shown = message(request, answer.status_code, f"{detail[:1].upper()}{detail[1:]}")
    if again := answer.headers.get("retry-after"):
        shown.headers["Retry-After"] = again
    return shown


def message(request: Request, status: int, text: str) -> Response:
    """Return a page with one message."""
    title = _WORDS.get(status, HTTPStatus(status).phrase)
    back = _page_before(request) if request.method in UNSAFE else ""
    answer = page(request, "message.html", status=status, title=title, text=text, status_code=status, back=back)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _page_before(request: Request) -> str:
    """Return the path of the page that has sent a form; empty if it is unknown."""
    try:
        before = urlsplit(request.headers.get("referer", ""))
    except ValueError:
        return ""
    is_own = before.netloc == request.headers.get("host") and before.path.startswith("/ui/")
    return f"{before.path}?{before.query}" if is_own and before.query else before.path if is_own else ""


def redirected(path: str) -> Response:
    """Lead a browser to another page after a form, with GET."""
    return RedirectResponse(str(URL(path)), 303, headers={"Cache-Control": "no-store"})
