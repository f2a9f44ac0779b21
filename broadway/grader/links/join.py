"""Joining a cluster: the API gives a grader the address of the broker, if there is one for it."""

import asyncio

import httpx2
import structlog
from pydantic import ValidationError

from broadway.grader.links.protocol import AGENT, hostname
from broadway.messages.events import GraderOrder
from broadway.messages.resources.graders import JoinRequest, JoinView
from broadway.runtime.http_errors import UNSENT, why
from broadway.runtime.tls import distrust
from broadway.service import StartError
from broadway.settings.masking import masked
from broadway.settings.programs import GraderSettings

log = structlog.get_logger(__name__)

TIMEOUT = 10  # seconds for one request
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between attempts

_REFUSALS = range(400, 500)


class Membership(JoinView):
    """The API's answer to a grader that joins; without ``amqp_url`` the grader must poll.

    ``own_user`` is True if the address contains a broker user of this grader's own, with the permissions of a grader
    only. ``order`` is the state that the operator wants. ``extended`` is False for the original's API, which has no
    join request.
    """

    own_user: bool = False
    order: GraderOrder | None = None  # type: ignore[assignment]
    extended: bool = True


async def join(settings: GraderSettings) -> Membership:
    """Join through the API, waiting while it is unavailable; with ``--amqp-url``, return without a request.

    Raises:
        StartError: The API refuses this grader, is not a Broadway API, or has a certificate that is not trusted.
    """
    if settings.amqp_url:
        return Membership(heartbeat_interval=settings.heartbeat_interval, amqp_url=settings.amqp_url.get_secret_value())
    pause = FIRST_PAUSE
    request = JoinRequest.model_construct(hostname=hostname(), pool=settings.pool, slots=settings.slots)
    async with http_client(settings) as client:
        while True:
            try:
                return _read(await client.post(f"/api/v2/graders/{settings.grader_id}", json=request.model_dump()))
            except UNSENT as error:
                demand_trust(settings.api_host, error)
                log.warning("waiting for the API", api=masked(settings.api_host), reason=why(error))
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)


def http_client(settings: GraderSettings) -> httpx2.AsyncClient:
    """Return an HTTP client of the API with this grader's credentials."""
    return httpx2.AsyncClient(
        base_url=settings.api_host,
        timeout=TIMEOUT,
        verify=settings.tls,
        headers={"Authorization": f"Bearer {settings.token.get_secret_value()}", "User-Agent": AGENT},
    )


def demand_trust(api: str, error: Exception) -> None:
    """End the grader if an error is due to an untrusted certificate: waiting would not help.

    Raises:
        StartError: The API's certificate is not trusted.
    """
    if reason := distrust(error):
        raise StartError(
            f"the certificate of the API at {api} is not trusted: {reason}; is --ca-file right?"
        ) from error


def refused_token(api: str) -> StartError:
    """Return the error with which a grader with a wrong token ends."""
    return StartError(f"the API at {api} refuses this token: is it the cluster token?")


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
