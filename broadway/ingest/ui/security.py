"""The rules that browsers keep for pages: headers, cookies, and the origin of changes."""

from enum import Enum
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broadway.ingest.http.answers import Refused
from broadway.ingest.http.visit import visit_of

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
ATTEMPT = "-openid"  # behind the name of the session's cookie
ATTEMPT_SECONDS = 900
LINKS = "/s/"  # the beginning of personal links
FOREIGN = "this form was sent from another site; open the page here and send it again"
NEEDS_TLS = (
    "Signing in needs HTTPS, except on the machine itself. Start the API with --tls-cert and --tls-key, or behind a "
    "proxy with HTTPS that --trusted-proxies names and that sends X-Forwarded-Proto. Until then, open a tunnel, "
    "ssh -L 1470:localhost:1470 HOST, and go to http://localhost:1470/ui."
)


class Channel(Enum):
    """The way of a request: over TLS, from this machine, or open to its network."""

    SECURE = "__Host-broadway"
    LOCAL = "broadway"
    OPEN = ""


def is_page(path: str) -> bool:
    """Return whether a path belongs to the pages."""
    return path == "/ui" or path.startswith(("/ui/", LINKS))


class PageHeaders:
    """Middleware that gives all answers of pages, refusals too, their headers, and never those of the API."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_page(scope["path"]):
            await self._app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                del headers["Access-Control-Allow-Origin"]
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, sealed)


def channel_of(request: Request) -> Channel:
    """Return the way on which a request came. The word of a proxy counts only if it is a trusted one."""
    forwarded = request.headers.get("x-forwarded-proto", "").strip().lower()
    if request.url.scheme == "https" or (visit_of(request).is_proxied and forwarded == "https"):
        return Channel.SECURE
    peer = request.client.host if request.client else ""
    is_local = _is_loopback(peer) and _is_loopback(_host_name(request)) and not forwarded
    return Channel.LOCAL if is_local else Channel.OPEN


def origin_of(request: Request) -> str:
    """Return the beginning of this server's addresses, as the browser has reached it."""
    scheme = "https" if channel_of(request) is Channel.SECURE else "http"
    return f"{scheme}://{request.url.netloc}"


def _host_name(request: Request) -> str:
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def secret_of(request: Request) -> str:
    """Return the secret in the cookie of a request's channel; empty without one."""
    name = channel_of(request).value
    return request.cookies.get(name, "") if name else ""


def give_cookie(request: Request, answer: Response, secret: str) -> None:
    """Set the cookie of a new session, until the browser is closed or the session ends.

    Raises:
        Refused: 403, the cookie would cross the network as plain text.
    """
    channel = channel_of(request)
    demand_channel(channel)
    answer.set_cookie(channel.value, secret, path="/", secure=channel is Channel.SECURE, httponly=True, samesite="lax")


def attempt_in(request: Request) -> str:
    """Return the secret of a sign-in at a provider that this browser has begun; empty without one."""
    name = channel_of(request).value
    return request.cookies.get(f"{name}{ATTEMPT}", "") if name else ""


def give_attempt(request: Request, answer: Response, secret: str) -> None:
    """Keep the secret of a sign-in at a provider in the browser, for the time that signing in takes.

    Raises:
        Refused: 403, it would cross the network as plain text.
    """
    channel = channel_of(request)
    demand_channel(channel)
    # "lax": the provider sends the browser back, from another site.
    answer.set_cookie(
        f"{channel.value}{ATTEMPT}",
        secret,
        max_age=ATTEMPT_SECONDS,
        path="/",
        secure=channel is Channel.SECURE,
        httponly=True,
        samesite="lax",
    )


def take_attempt(request: Request, answer: Response) -> None:
    """Remove the secret of a sign-in at a provider: it is good for one answer."""
    channel = channel_of(request)
    if channel is not Channel.OPEN:
        name, is_secure = f"{channel.value}{ATTEMPT}", channel is Channel.SECURE
        answer.delete_cookie(name, path="/", secure=is_secure, httponly=True, samesite="lax")


def demand_channel(channel: Channel) -> None:
    """Return if a cookie may be sent.

    Raises:
        Refused: 403, it would cross the network as plain text.
    """
    if channel is Channel.OPEN:
        raise Refused(403, NEEDS_TLS)


def take_cookie(request: Request, answer: Response) -> None:
    """Remove the cookie."""
    channel = channel_of(request)
    if channel is not Channel.OPEN:
        answer.delete_cookie(channel.value, path="/", secure=channel is Channel.SECURE, httponly=True, samesite="lax")


def demand_own_origin(request: Request) -> None:
    """Return if a form comes from a page of this server: by what the browser says about it, not by a token in it.

    Raises:
        Refused: 403.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        if site not in ("same-origin", "none"):
            raise Refused(403, FOREIGN)
        return
    try:
        origin = urlsplit(request.headers.get("origin", "")).netloc
    except ValueError:
        origin = ""
    if not origin or origin != request.headers.get("host"):
        raise Refused(403, FOREIGN)
