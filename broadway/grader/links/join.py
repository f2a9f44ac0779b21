"""Joining a cluster: the API tells a grader how to reach the broker, if it may and can."""

import asyncio

import httpx2
import structlog
from pydantic import ValidationError

from broadway.grader.links.protocol import AGENT, hostname
from broadway.messages.events import GraderOrder
from broadway.messages.resources.graders import JoinRequest, JoinView
from broadway.runtime.tls import distrust
from broadway.service import StartError
from broadway.settings.programs import GraderSettings

log = structlog.get_logger(__name__)

TIMEOUT = 10  # seconds for one request
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between attempts

_REFUSALS = range(400, 500)


class Membership(JoinView):
    """The API's answer to a grader that joins; without ``amqp_url`` the grader has to poll.

    ``own_user`` tells that the address has a login of this grader alone, which may do no more than a grader needs.
    ``order`` is the state that its operator wants. ``extended`` is False for an API of the original, which knows
    nothing of joining.
    """

    own_user: bool = False
    order: GraderOrder | None = None  # type: ignore[assignment]
    extended: bool = True


async def join(settings: GraderSettings) -> Membership:
    """Ask to join, waiting for an API that is not there yet; with ``--amqp-url`` nobody is asked.

    Raises:
        StartError: The API refuses this grader, or what answers is no Broadway API, or not the one that is meant.
    """
    if settings.amqp_url:
        return Membership(heartbeat_interval=settings.heartbeat_interval, amqp_url=settings.amqp_url.get_secret_value())
    pause = FIRST_PAUSE
    request = JoinRequest.model_construct(hostname=hostname(), pool=settings.pool, slots=settings.slots)
    async with http_client(settings) as client:
        while True:
            try:
                return _read(await client.post(f"/api/v2/graders/{settings.grader_id}", json=request.model_dump()))
            except httpx2.TransportError as error:
                demand_trust(settings.api_host, error)
                log.warning("waiting for the API", api=settings.api_host, reason=str(error))
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)


def http_client(settings: GraderSettings) -> httpx2.AsyncClient:
    """A client of the API with this grader's credentials."""
    return httpx2.AsyncClient(
        base_url=settings.api_host,
        timeout=TIMEOUT,
        verify=settings.tls,
        headers={"Authorization": f"Bearer {settings.token.get_secret_value()}", "User-Agent": AGENT},
    )


def demand_trust(api: str, error: Exception) -> None:
    """End a grader whose API cannot show that it is the one: to wait would not help, and to go on would be wrong.

    Raises:
        StartError: That is what is behind the error.
    """
    if reason := distrust(error):
        raise StartError(
            f"the certificate of the API at {api} is not trusted: {reason}; is --ca-file right?"
        ) from error


def refused_token(api: str) -> StartError:
    """What a grader with a wrong token ends with."""
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
        raise StartError(f"what answers at {api} is no Broadway API") from error


def _why(response: httpx2.Response) -> str:
    """What a problem document says, or whatever else the answer is."""
    try:
        return str(response.json()["detail"])
    except (ValueError, TypeError, KeyError):
        return response.text[:200]
