"""`/ui/openid` and `/ui/roles`: signing in through an OpenID Connect provider, and changing between roles."""

from secrets import token_urlsafe

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from broadway.domain.openid import Attempt, PersonError
from broadway.ingest.commands.openid import (
    NoMemberError,
    OpenIdSignIn,
    ProviderUnavailableError,
    SignInRefusedError,
)
from broadway.ingest.http.admission import LimitError
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, nothing, takes
from broadway.ingest.http.visit import visit_of
from broadway.ingest.ui.endpoint import NOTHING_HERE, message, visitor
from broadway.ingest.ui.forms import form_of, number_in
from broadway.ingest.ui.security import attempt_in, channel_of, demand_channel, give_attempt, take_attempt
from broadway.ingest.ui.sign_in import HOME, PEOPLE, safe_path, welcome
from broadway.ingest.ui.templating import page
from broadway.runtime.metrics import Limit

log = structlog.get_logger(__name__)

MAX_COOKIE = 1000  # characters
MAX_PARAMETER = 4096  # characters
DOWN = (
    "The sign-in service does not answer as it should. It is not part of this server, and your password is not the "
    "reason. Try again in a minute, or sign in with a token or a personal link. Operators find the cause in the log."
)
OTHER_BROWSER = (
    "This sign-in was not begun in this browser, or more than 15 minutes ago. Nothing has changed: sign in again, and "
    "allow cookies of this site."
)
DENIED = "The sign-in was cancelled, or the sign-in service does not admit you to this server. Sign in again."
NO_MEMBER = (
    "The sign-in service knows you as {name}, but no course here has {name} in a roster, and you are in no course's "
    "staff. Students: ask the course staff to add {name} to the roster. Staff: ask the operators to add you."
)


def _openid(deps: Deps) -> OpenIdSignIn:
    if deps.openid is None:
        raise Refused(404, NOTHING_HERE)
    return deps.openid


@takes(Auth.ANYBODY)
async def begin(request: Request, deps: Deps) -> Response:
    """Send the browser to the provider, with values that follow from a secret in a cookie."""
    openid = _openid(deps)
    demand_channel(channel_of(request))
    _demand_rate(request)
    secret = token_urlsafe(32)
    try:
        address = await openid.address(secret)
    except ProviderUnavailableError as error:
        return _down(request, error)
    answer = RedirectResponse(address, 303, headers={"Cache-Control": "no-store"})
    give_attempt(request, answer, f"{secret}.{safe_path(request.query_params.get('next', ''))}")
    return answer


@takes(Auth.ANYBODY)
async def finish(request: Request, deps: Deps) -> Response:
    """Begin the session of the person whom the provider names."""
    openid = _openid(deps)
    demand_channel(channel_of(request))
    _demand_rate(request)
    secret, _, back = attempt_in(request)[:MAX_COOKIE].partition(".")
    given = {name: request.query_params.get(name, "")[:MAX_PARAMETER] for name in ("state", "error")}
    if not secret or not Attempt.of(secret).has_state(given["state"]):
        answer = message(request, 400, OTHER_BROWSER)
    elif given["error"]:
        log.info("sign-in not finished", reason=given["error"][:100])
        answer = message(request, 403, DENIED)
    else:
        answer = await _finished(request, deps, openid, secret, back)
    take_attempt(request, answer)
    return answer


async def _finished(request: Request, deps: Deps, openid: OpenIdSignIn, secret: str, back: str) -> Response:
    code, issuer = request.query_params.get("code", ""), request.query_params.get("iss", "")
    try:
        signed_in = await openid.finish(code, secret, issuer=issuer)
    except ProviderUnavailableError as error:
        _count(request)
        return _down(request, error)
    except SignInRefusedError as error:
        _count(request)
        log.warning("sign-in refused", reason=str(error))
        return message(request, 403, f"{error}.")
    except PersonError as error:
        return message(request, 403, f"You cannot sign in with this account: {error}. Ask the operators if it should.")
    except NoMemberError as error:
        return message(request, 403, NO_MEMBER.format(name=error))
    has_choice = bool(signed_in.session.roles) and safe_path(back) == HOME
    return await welcome(request, deps, signed_in, "/ui/roles" if has_choice else safe_path(back))


def _demand_rate(request: Request) -> None:
    visit = visit_of(request)
    if seconds := visit.admission.exchanges.wait(visit.address):
        raise LimitError(Limit.FAILURES, 429, "too many refused sign-ins from your address", seconds=seconds)


def _count(request: Request) -> None:
    visit = visit_of(request)
    visit.admission.exchanges.take(visit.address)


def _down(request: Request, error: ProviderUnavailableError) -> Response:
    log.warning("sign-in service not usable", reason=str(error))
    answer = message(request, 503, DOWN)
    answer.headers["Retry-After"] = "5"
    return answer


@takes(*PEOPLE)
async def list_roles(request: Request, _: Deps) -> Response:
    """List the roles of the visitor."""
    return page(request, "roles.html", own=visitor(request))


@takes(*PEOPLE, before=nothing, operation="ui.changeRole")
async def change_role(request: Request, deps: Deps) -> Response:
    """Go on in another role, with a session of its own."""
    openid, place = _openid(deps), number_in((await form_of(request)).get("role", ""))
    changed = await openid.change(visitor(request), place) if place is not None else None
    if changed is None:
        raise Refused(409, "you have this role no longer; sign in again to see the present ones")
    return await welcome(request, deps, changed, HOME)
