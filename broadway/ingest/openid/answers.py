"""Requests to the provider: bounded in time, size and number."""

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

from broadway.ingest.commands.openid import ProviderUnavailableError
from broadway.runtime.http_errors import UNSENT, why

TIMEOUT = 5.0  # seconds of one request, with all of its answer
MAX_ANSWER = 512 * 1024  # bytes
MOST_AT_ONCE = 20  # requests


@dataclass(frozen=True, slots=True)
class Answered:
    """A provider's answer: its status and its JSON object."""

    status: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Requests:
    """A client of the provider. It follows no redirects and takes no proxy from the environment."""

    tls: ssl.SSLContext
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_AT_ONCE))

    async def get(self, url: str, *, bearer: str = "") -> Answered:
        """Return the answer to GET.

        Raises:
            ProviderUnavailableError: There is no answer in time, or no JSON object of a bounded size.
        """
        return await self._ask("GET", url, headers={"Authorization": f"Bearer {bearer}"} if bearer else {})

    async def post(self, url: str, form: Mapping[str, str], *, login: tuple[str, str] | None) -> Answered:
        """Return the answer to a form.

        Raises:
            ProviderUnavailableError: There is no answer in time, or no JSON object of a bounded size.
        """
        return await self._ask("POST", url, data=dict(form), auth=login)

    async def _ask(self, method: str, url: str, **more: Any) -> Answered:
        try:
            async with asyncio.timeout(TIMEOUT), self._places:
                return await self._answer(method, url, **more)
        except TimeoutError as error:
            raise ProviderUnavailableError(f"{url}: no answer within {TIMEOUT:.0f} s") from error
        except UNSENT as error:
            raise ProviderUnavailableError(f"{url}: {why(error)}") from error

    async def _answer(self, method: str, url: str, **more: Any) -> Answered:
        """Return an answer.

        A connection is made for each: sign-ins are rare, and one that a provider has closed meanwhile would fail.
        """
        more["headers"] = {"Accept": "application/json", **more.get("headers", {})}
        async with (
            httpx2.AsyncClient(verify=self.tls, timeout=TIMEOUT, trust_env=False, follow_redirects=False) as http,
            http.stream(method, url, **more) as answer,
        ):
            body = bytearray()
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MAX_ANSWER:
                    raise ProviderUnavailableError(f"{url}: an answer of more than {MAX_ANSWER} bytes")
        return Answered(answer.status_code, _object(url, bytes(body)))


def _object(url: str, body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProviderUnavailableError(f"{url}: the answer is no JSON") from error
    if not isinstance(found, dict):
        raise ProviderUnavailableError(f"{url}: the answer is no JSON object")
    return found
