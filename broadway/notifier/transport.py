"""An HTTP transport that reaches only permitted addresses.

A name is looked up once, all its addresses are checked, and the connection goes to the checked address: a name server
that answers differently the second time is not asked a second time. TLS still verifies the name.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence

import httpx2

from broadway.domain.callback_addresses import (
    DEFAULT_PORTS,
    Address,
    AddressRules,
    EndpointError,
    is_public,
    literal_address,
)

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

IS_PUBLIC = "broadway_is_public"  # extension of an answer: its address is public


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name.

    Raises:
        OSError: The name has no address, or the name server does not answer.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Lookups:
    """Looks names up, a few at a time.

    A lookup occupies one of four threads of the event loop until the name server answers, even if its caller has gone.
    Names of courses must not take all of them from the process's own connections.
    """

    def __init__(self, resolve: Resolve = resolve, *, at_once: int = 2) -> None:
        self._resolve = resolve
        self._free = asyncio.Semaphore(at_once)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a name.

        Raises:
            OSError: The name has no address, or the name server does not answer.
        """
        await self._free.acquire()
        lookup = asyncio.ensure_future(self._resolve(host, port))
        lookup.add_done_callback(self._end)
        return await asyncio.shield(lookup)

    def _end(self, lookup: "asyncio.Future[Sequence[str]]") -> None:
        self._free.release()
        if not lookup.cancelled():
            lookup.exception()  # its caller may have gone


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Sends requests to permitted addresses. Connections are pooled by address, so it must serve one endpoint only."""

    def __init__(self, rules: AddressRules, *, tls: ssl.SSLContext, resolve: Resolve) -> None:
        self._rules = rules
        self._resolve = resolve
        limits = httpx2.Limits(max_connections=8, max_keepalive_connections=4)
        self._inner = httpx2.AsyncHTTPTransport(verify=tls, trust_env=False, retries=0, limits=limits)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request to a checked address of its host.

        Raises:
            EndpointError: The host has no permitted address, or the port is not allowed.
            httpx2.TransportError: The host does not answer.
        """
        host = request.url.raw_host.decode("ascii")
        address = await self.check(host, request.url.port or DEFAULT_PORTS[request.url.scheme])
        pinned = httpx2.Request(
            request.method,
            request.url.copy_with(host=str(address)),
            headers=request.headers,  # with the name as Host
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": host},
        )
        response = await self._inner.handle_async_request(pinned)
        response.extensions[IS_PUBLIC] = is_public(address)
        return response

    async def check(self, host: str, port: int) -> Address:
        """Return the address of a host, after one lookup.

        Raises:
            EndpointError: The host has no permitted address, or the port is not allowed.
        """
        if port not in self._rules.ports:
            raise EndpointError(f"port {port} is not allowed")
        return self._rules.check_addresses(await self._look_up(host, port))

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _look_up(self, host: str, port: int) -> Sequence[str]:
        if literal_address(host):
            return [host]
        try:
            return await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise EndpointError(
                f"{host[:100]}: {getattr(error, 'strerror', None) or 'the name has no address'}"
            ) from error
