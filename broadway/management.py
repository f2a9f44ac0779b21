"""RabbitMQ's management API: what the broker really has, and what AMQP has no words for, such as users and policies."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import quote

import httpx2
from yarl import URL

TIMEOUT = 10  # seconds for one request


class ManagementError(Exception):
    """The management API refuses a request or cannot be reached; ``status`` is its answer's, if there was one."""

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


def path(*parts: str) -> str:
    """A path of the API; a part may hold anything, such as the ``/`` that is a virtual host's name."""
    return "/api/" + "/".join(quote(part, safe="") for part in parts)


def virtual_host(amqp_url: str) -> str:
    """The virtual host that an AMQP address names."""
    return URL(amqp_url).path.removeprefix("/") or "/"


class Management:
    """The management API of one broker. Every call raises ManagementError when it is refused or not answered."""

    def __init__(self, http: httpx2.AsyncClient, *, where: str) -> None:
        self._http = http
        self._where = where

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        """A client for ``http(s)://user:password@host:port``; ``tls`` says whom to trust, if not the system's."""
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
        """Remove something; that it is not there is no error."""
        try:
            await self._ask("DELETE", *parts)
        except ManagementError as error:
            if error.status != httpx2.codes.NOT_FOUND:
                raise

    async def _ask(self, method: str, *parts: str, body: Any = None) -> httpx2.Response:
        what = f"{method} {path(*parts)} at {self._where}"
        try:
            response = await self._http.request(method, path(*parts), json=body)
        except httpx2.TransportError as error:
            raise ManagementError(f"{what}: {error!r}; does the management plugin listen there?") from error
        if response.is_error:
            raise ManagementError(f"{what}: {response.status_code} {_why(response)}", status=response.status_code)
        return response


def _why(response: httpx2.Response) -> str:
    try:
        said = response.json()
    except ValueError:
        return response.text[:200]
    return str(said.get("reason") or said.get("error") if isinstance(said, dict) else said)[:500]
