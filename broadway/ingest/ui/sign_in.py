"""`/ui/sign-in`, `/s/…`, `/ui/sessions` and `/ui/sign-out`: signing in by a token or a personal link, and out again."""

import re

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.access import Kind, SecretPrefix, is_handed_out, is_secret, token_id
from broadway.domain.header_text import header_problem
from broadway.domain.page_session import PageSession
from broadway.ingest.commands.sign_in import Credential, SignedIn
from broadway.ingest.http.admission import LimitError
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import Access
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, nothing, takes
from broadway.ingest.http.visit import visit_of
from broadway.ingest.ui.endpoint import message, redirected, visitor
from broadway.ingest.ui.forms import form_of
from broadway.ingest.ui.security import (
    NEEDS_TLS,
    Channel,
    channel_of,
    demand_channel,
    give_cookie,
    take_cookie,
)
from broadway.ingest.ui.templating import keep_session, page, session_in
from broadway.runtime.metrics import Limit

PEOPLE = (Auth.COURSE, Auth.STUDENT, Auth.OPERATOR)
HOME = "/ui"
NOT_A_TOKEN = "This is no valid token: it may be mistyped, revoked or expired. Ask the person who gave it to you."  # noqa: S105
NO_LINK = "This link is not valid any more. Ask the course staff for a new one."

# A path of pages without empty parts, so that no browser takes it for the address of another host.
_PATH = re.compile(r"/ui(?:/[A-Za-z0-9_.%~@+-]+)*/?(?:\?[A-Za-z0-9_.%~@+=&-]*)?")
_MAX_PATH = 500


def safe_path(text: str) -> str:
    """Return a path of pages to go on to; any other text leads home."""
    return text if len(text) <= _MAX_PATH and _PATH.fullmatch(text) else HOME


@takes(Auth.ANYBODY)
async def show(request: Request, deps: Deps) -> Response:
    """Show the form for signing in."""
    return _form(request, deps, request.query_params.get("next", ""))


def _form(request: Request, deps: Deps, back: str, *, problem: str = "", status: int = 200) -> Response:
    is_open = channel_of(request) is Channel.OPEN
    return page(
        request,
        "sign_in.html",
        status=status,
        back=safe_path(back),
        problem=NEEDS_TLS if is_open else problem,
        is_possible=not is_open,
        openid=deps.openid.label if deps.openid else "",
    )


@takes(Auth.ANYBODY)
async def begin(request: Request, deps: Deps) -> Response:
    """Sign in with a token of a course, of a student or of an operator."""
    fields = await form_of(request)
    token, back = fields.get("token", "").strip(), fields.get("next", "")
    demand_channel(channel_of(request))
    address, failures = visit_of(request).address, visit_of(request).admission.sign_ins
    # Tokens that Broadway makes are too long to be guessed: a class behind one address signs in with them.
    is_guessable = bool(token) and not is_handed_out(token)
    if is_guessable and (seconds := failures.wait(address)):
        raise LimitError(Limit.FAILURES, 429, "too many wrong tokens from your address", seconds=seconds)
    access = await _access(deps, token)
    if access is None:
        if is_guessable:
            failures.take(address)
        return _form(request, deps, back, problem=NOT_A_TOKEN, status=422)
    signed_in = await deps.sign_in.begin(_credential(token, access))
    return await welcome(request, deps, signed_in, safe_path(back))


async def _access(deps: Deps, token: str) -> Access | None:
    if not token or header_problem(token):
        return None
    found = await deps.authenticator.people_of(token)
    return found[0] if found else None


def _credential(token: str, access: Access) -> Credential:
    origin = token_id(token) if is_handed_out(token) else ""
    courses = () if access.principal.kind is Kind.OPERATOR else tuple(course.id for course in access.courses)
    return Credential(access.principal, courses, "token", origin)


@takes(Auth.ANYBODY)
async def show_link(request: Request, _: Deps) -> Response:
    """Show a button that signs in: programs that follow links in mails do not press it."""
    is_open = channel_of(request) is Channel.OPEN
    token = request.path_params["token"]
    if not is_secret(token, SecretPrefix.LINK):
        return _private(message(request, 404, NO_LINK))
    return _private(
        page(request, "link.html", problem=NEEDS_TLS if is_open else "", is_possible=not is_open, token=token)
    )


@takes(Auth.ANYBODY)
async def follow_link(request: Request, deps: Deps) -> Response:
    """Sign in with a personal link."""
    demand_channel(channel_of(request))
    await form_of(request)
    signed_in = await deps.sign_in.by_link(request.path_params["token"])
    if signed_in is None:
        return _private(message(request, 404, NO_LINK))
    return _private(await welcome(request, deps, signed_in, HOME))


def _private(answer: Response) -> Response:
    answer.headers["Referrer-Policy"] = "no-referrer"
    answer.headers["Cache-Control"] = "no-store"
    return answer


async def welcome(request: Request, deps: Deps, signed_in: SignedIn, path: str) -> Response:
    """Give the cookie of a new session, and end the one before it in this browser."""
    if (earlier := session_in(request)) is not None:
        await deps.sign_in.end(earlier)
    answer = redirected(path)
    give_cookie(request, answer, signed_in.secret)
    return answer


@takes(*PEOPLE, before=nothing, operation="ui.signOut")
async def end(request: Request, deps: Deps) -> Response:
    """Sign out."""
    await deps.sign_in.end(visitor(request))
    keep_session(request, None)
    answer = redirected("/ui/sign-in")
    take_cookie(request, answer)
    return answer


@takes(*PEOPLE)
async def list_sessions(request: Request, deps: Deps) -> Response:
    """List the sessions that the visitor may end."""
    own = visitor(request)
    sessions = await deps.sign_in.listed(own)
    return page(request, "sessions.html", sessions=sessions, own=own, words=_words)


def _words(session: PageSession) -> str:
    return {Kind.OPERATOR: "operator", Kind.STUDENT: "student"}.get(session.kind, "staff")


@takes(*PEOPLE, before=nothing, operation="ui.endSession")
async def end_session(request: Request, deps: Deps) -> Response:
    """End a session."""
    own, identity = visitor(request), request.path_params["session"]
    if not await deps.sign_in.end_other(own, identity):
        raise Refused(404, "there is no such session, or it has ended")
    return redirected("/ui/sign-in" if identity == own.id else "/ui/sessions")
