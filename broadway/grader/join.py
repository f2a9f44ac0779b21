"""Joining a cluster: the API tells a grader how to reach the broker, if it may and can."""

import asyncio

import httpx2
import structlog
from pydantic import BaseModel, ValidationError

from broadway.grader.v1 import AGENT, hostname
from broadway.service import StartError
from broadway.settings import GraderSettings

log = structlog.get_logger(__name__)

TIMEOUT = 10  # seconds for one request
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between attempts

_REFUSALS = range(400, 500)


class Membership(BaseModel):
    """What the API says to a grader that joins; without ``amqp_url`` it is to poll.

    ``extended`` is False for an API of the original, which knows nothing of joining.
    """

    heartbeat_interval: int
    amqp_url: str | None
    extended: bool = True


async def join(settings: GraderSettings) -> Membership:
    """Ask to join, waiting for an API that is not there yet; with ``--amqp-url`` nobody is asked.

    Raises:
        StartError: The API refuses this grader, or what answers is no Broadway API.
    """
    if settings.amqp_url:
        return Membership(heartbeat_interval=settings.heartbeat_interval, amqp_url=settings.amqp_url.get_secret_value())
    pause = FIRST_PAUSE
    async with http_client(settings) as client:
        while True:
            try:
                return _read(await client.post(f"/api/v2/graders/{settings.grader_id}", json={"hostname": hostname()}))
            except httpx2.TransportError as error:
                log.warning("waiting for the API", api=settings.api_host, reason=str(error))
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)


def http_client(settings: GraderSettings) -> httpx2.AsyncClient:
    """A client of the API with this grader's credentials."""
    return httpx2.AsyncClient(
        base_url=settings.api_host,
        timeout=TIMEOUT,
        headers={"Authorization": f"Bearer {settings.token.get_secret_value()}", "User-Agent": AGENT},
    )


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
        raise StartError(f"the API at {api} refuses this grader: {response.status_code} {response.text[:200]}")
    if response.is_error:
        raise httpx2.TransportError(f"status {response.status_code}")
    try:
        return Membership.model_validate_json(response.content)
    except ValidationError as error:
        raise StartError(f"what answers at {api} is no Broadway API") from error
