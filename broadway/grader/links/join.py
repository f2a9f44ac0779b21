"""Joining a cluster: the API learns the grader's secret, and gives it the broker's address, if there is one for it."""

import asyncio
import hashlib
from urllib.parse import urlsplit

import httpx2
import structlog
from pydantic import ValidationError

from broadway.grader.links.identity import own_secret
from broadway.grader.links.protocol import AGENT, hostname
from broadway.messages.events import GraderOrder
from broadway.messages.http import IDENTITY_HEADER, PROVES_HEADER
from broadway.messages.resources.graders import JoinRequest, JoinView
from broadway.runtime import supervision
from broadway.runtime.http_errors import UNSENT, why
from broadway.runtime.tls import distrust
from broadway.service import StartError
from broadway.settings.grader import GraderSettings
from broadway.settings.masking import masked

log = structlog.get_logger(__name__)

TIMEOUT = 10  # seconds for one request
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between attempts

_WRONG_TOKEN = "invalid token"  # noqa: S105 - the API's text
_REFUSALS = range(400, 500)
_FINAL = (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN)  # refusals of a token, or of a grader


class Membership(JoinView):
    """The API's answer to a grader that joins; without ``amqp_url`` the grader must poll.

    ``own_user`` is True if the address contains a broker user of this grader's own, with the permissions of a grader
    only. ``order`` is the state that the operator wants. ``extended`` is False for the original's API, which has no
    join request. ``has_api`` is False if the API could not be reached: this grader gets no files of submissions then.
    """

    own_user: bool = False
    order: GraderOrder | None = None  # type: ignore[assignment]
    extended: bool = True
    has_api: bool = True


async def join(settings: GraderSettings) -> Membership:
    """Join through the API, waiting while it is unavailable.

    A grader with ``--amqp-url`` has the broker's address already: it joins if the API answers, and goes on without.

    Raises:
        StartError: The API refuses this grader, is not a Broadway API, or has a certificate that is not trusted; or
            the grader's secret cannot be stored.
    """
    if settings.amqp_url:
        return await _join_if_possible(settings, settings.amqp_url.get_secret_value())
    pause = FIRST_PAUSE
    async with _joining_client(settings) as client:
        while True:
            try:
                return _read(await _ask(client, settings))
            except UNSENT as error:
                demand_trust(settings.api_host, error)
                log.warning("waiting for the API", api=masked(settings.api_host), reason=why(error))
                supervision.status(f"waiting for the API at {masked(settings.api_host)}: {why(error)}")
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)


def deployment_at(address: str) -> str:
    """Return a name for the deployment whose broker or API has an address, for graders that get no id of it.

    Equal names mean one address. A broker's address includes the virtual host, which only one deployment uses.
    """
    parts = urlsplit(address)
    where = f"{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{'broker' if parts.scheme.startswith('amqp') else 'api'}-{hashlib.sha256(where.encode()).hexdigest()[:16]}"


async def _join_if_possible(settings: GraderSettings, amqp_url: str) -> Membership:
    """Join with an own address of the broker: a refusal ends the grader, any other failure only has it revocable later.

    Raises:
        StartError: The API refuses the token, or this grader.
    """
    own = {"amqp_url": amqp_url, "own_user": False, "extended": True}
    async with _joining_client(settings) as client:
        try:
            answer = await _ask(client, settings, broker="false")
            if answer.is_success or answer.status_code in _FINAL:
                return _read(answer).model_copy(update=own)
            reason = f"status {answer.status_code}"
        except httpx2.TransportError as error:
            reason = str(error) or type(error).__name__
    log.warning("not joined, but --amqp-url leads to the broker", api=settings.api_host, reason=reason)
    log.warning("jobs with files of submissions go to other graders: those come from the API", api=settings.api_host)
    # Graders are upgraded after the control plane, so that it understands what they send.
    understood = {"batches": True, "cancelled_logs": True}
    alone = {"heartbeat_interval": settings.heartbeat_interval, "has_api": False, **understood}
    return Membership.model_validate({**alone, **own})


def _joining_client(settings: GraderSettings) -> httpx2.AsyncClient:
    client = http_client(settings, settings.token.get_secret_value())
    client.headers[IDENTITY_HEADER] = own_secret(settings.work_dir, settings.grader_id)
    client.headers[PROVES_HEADER] = "1"
    return client


async def _ask(client: httpx2.AsyncClient, settings: GraderSettings, **query: str) -> httpx2.Response:
    request = JoinRequest.model_construct(hostname=hostname(), pool=settings.pool, slots=settings.slots)
    return await client.post(f"/api/v2/graders/{settings.grader_id}", json=request.model_dump(), params=query)


def http_client(settings: GraderSettings, credential: str) -> httpx2.AsyncClient:
    """Return an HTTP client of the API with one of this grader's credentials."""
    address = settings.api_host
    return httpx2.AsyncClient(
        base_url=f"http{address.removeprefix('ws')}" if address.startswith("ws") else address,
        timeout=TIMEOUT,
        verify=settings.tls,
        headers={"Authorization": f"Bearer {credential}", "User-Agent": AGENT},
    )


def credential_of(settings: GraderSettings, membership: Membership) -> str:
    """Return the token that the grader's requests need: its own secret, or the token that it was started with."""
    if membership.own_secret:
        return own_secret(settings.work_dir, settings.grader_id)
    return settings.token.get_secret_value()


def demand_trust(api: str, error: Exception) -> None:
    """End the grader if an error is due to an untrusted certificate: waiting would not help.

    Raises:
        StartError: The API's certificate is not trusted.
    """
    if reason := distrust(error):
        raise StartError(
            f"the certificate of the API at {api} is not trusted: {reason}; is --ca-file right?"
        ) from error


def refused_token(api: str, reason: str = "") -> StartError:
    """Return the error with which a grader ends that is refused; a wrong token needs no ``reason``."""
    if reason and reason != _WRONG_TOKEN:
        return StartError(f"the API at {api} refuses this grader: {reason}")
    return StartError(f"the API at {api} refuses this token: is it the cluster token, or a valid join token?")


def taken(grader_id: str) -> str:
    """Return the reason with which a grader ends whose id belongs to another living process."""
    return f"another process grades as {grader_id}: give each grader of the cluster an id of its own"


def _read(response: httpx2.Response) -> Membership:
    api = f"{response.url.scheme}://{response.url.netloc.decode()}"
    if response.status_code == httpx2.codes.UNAUTHORIZED:
        raise refused_token(api)
    if response.status_code == httpx2.codes.NOT_FOUND:
        return Membership(heartbeat_interval=0, amqp_url=None, extended=False)
    if response.status_code in _REFUSALS:
        raise StartError(f"the API at {api} refuses this grader: {response.status_code} {_why(response)}")
    if response.is_error:
        raise httpx2.TransportError(f"status {response.status_code}")
    try:
        return Membership.model_validate_json(response.content)
    except ValidationError as error:
        raise StartError(f"the server at {api} is not a Broadway API") from error


def _why(response: httpx2.Response) -> str:
    """Return the detail of a problem document, or the beginning of any other answer."""
    try:
        return str(response.json()["detail"])
    except (ValueError, TypeError, KeyError):
        return response.text[:200]
