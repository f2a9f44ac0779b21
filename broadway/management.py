"""RabbitMQ's management API: the broker's present state, and operations that AMQP lacks, on users and policies."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import quote

import httpx2
from yarl import URL

from broadway.runtime.http_errors import UNSENT, why

TIMEOUT = 10  # seconds for one request


class ManagementError(Exception):
    """The management API refused a request or is unreachable; ``status`` is the answer's HTTP status, if any."""

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


def path(*parts: str) -> str:
    """Return a path of the API. Parts may contain any characters, such as ``/``, the name of a virtual host."""
    return "/api/" + "/".join(quote(part, safe="") for part in parts)


def virtual_host(amqp_url: str) -> str:
    """Return the virtual host that an AMQP address names."""
    return URL(amqp_url).path.removeprefix("/") or "/"


class Management:
    """The management API of one broker. Every call raises ManagementError if it is refused or gets no answer."""

    def __init__(self, http: httpx2.AsyncClient, *, where: str) -> None:
        self._http = http
        self._where = where

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        """Open a client for ``http(s)://user:password@host:port``.

        ``tls`` holds the trusted certificate authorities; without it the system's are trusted.
        """
        address = URL(url)
        where = str(address.with_user(None))
        auth = (address.user or "guest", address.password or "guest")
        async with httpx2.AsyncClient(base_url=where, auth=auth, timeout=TIMEOUT, verify=tls or True) as http:
            yield cls(http, where=where)

    async def get(self, *parts: str) -> Any:
        return (await self._ask("GET", *parts)).json()

    async def put(self, *parts: str, body: Any = None) -> None:
        await self._ask("PUT", *parts, body=body or {})

    async def post(self, *parts: str, body: Any = None) -> None:
        await self._ask("POST", *parts, body=body or {})

    async def delete(self, *parts: str) -> None:
        """Remove a resource; a missing resource is no error."""
        try:
            await self._ask("DELETE", *parts)
        except ManagementError as error:
            if error.status != httpx2.codes.NOT_FOUND:
                raise

    async def _ask(self, method: str, *parts: str, body: Any = None) -> httpx2.Response:
        request = f"{method} {path(*parts)} at {self._where}"
        try:
            response = await self._http.request(method, path(*parts), json=body)
        except UNSENT as error:
            raise ManagementError(f"{request}: {why(error)}; does the management plugin listen there?") from error
        if response.is_error:
            raise ManagementError(f"{request}: {response.status_code} {_reason(response)}", status=response.status_code)
        return response


def _reason(response: httpx2.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        return response.text[:200]
    return str(body.get("reason") or body.get("error") if isinstance(body, dict) else body)[:500]
