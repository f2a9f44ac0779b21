"""Joining a cluster: the API tells a grader where the broker is."""

import asyncio
import os

import httpx2
import structlog
from pydantic import BaseModel, ValidationError

from broadway.service import StartError
from broadway.settings import GraderSettings

log = structlog.get_logger(__name__)

TIMEOUT = 10  # seconds for one request
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between attempts

_REFUSALS = range(400, 500)


class Membership(BaseModel):
    """What the API says to a grader that joins."""

    heartbeat_interval: int
    amqp_url: str


async def join(settings: GraderSettings) -> Membership:
    """Register, waiting for an API that is not there yet; with ``--amqp-url`` nobody is asked.

    Raises:
        StartError: The API refuses this grader, or what answers is no Broadway API.
    """
    if settings.amqp_url:
        return Membership(heartbeat_interval=settings.heartbeat_interval, amqp_url=settings.amqp_url.get_secret_value())
    pause = FIRST_PAUSE
    async with httpx2.AsyncClient(base_url=settings.api_host.rstrip("/"), timeout=TIMEOUT) as client:
        while True:
            try:
                return _read(await _ask(client, settings), settings.api_host)
            except httpx2.TransportError as error:
                log.warning("waiting for the API", api=settings.api_host, reason=str(error))
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)


async def _ask(client: httpx2.AsyncClient, settings: GraderSettings) -> httpx2.Response:
    return await client.post(
        f"/api/v2/graders/{settings.grader_id}",
        headers={"Authorization": f"Bearer {settings.token.get_secret_value()}"},
        json={"hostname": os.uname().nodename},
    )


def _read(response: httpx2.Response, api: str) -> Membership:
    if response.status_code == httpx2.codes.UNAUTHORIZED:
        raise StartError(f"the API at {api} refuses this token: is it the cluster token?")
    if response.status_code in _REFUSALS:
        raise StartError(f"the API at {api} refuses this grader: {response.status_code} {response.text[:200]}")
    if response.is_error:
        raise httpx2.TransportError(f"status {response.status_code}")
    try:
        return Membership.model_validate_json(response.content)
    except ValidationError as error:
        raise StartError(f"what answers at {api} is no Broadway API") from error
