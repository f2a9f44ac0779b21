"""One attempt to deliver a callback: the request, and its answer within bounds of time and size."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx2

from broadway.domain.callback import CallbackEvent
from broadway.domain.callback_addresses import AddressRules, EndpointError
from broadway.domain.callback_delivery import KEPT_BODY, LONGEST_WAIT, Answer, Endpoint
from broadway.domain.callback_payload import body_of, headers_of
from broadway.notifier.transport import IS_PUBLIC, GuardedTransport, Resolve

WITHIN = 15.0  # seconds for an attempt
CONNECT = 5.0  # seconds for a connection
MAX_ANSWER = 64 * 1024  # bytes of an answer that are read
MAX_ERROR = 300  # characters


@dataclass(frozen=True, slots=True)
class Attempts:
    """Sends callbacks."""

    rules: AddressRules
    tls: ssl.SSLContext
    clock: Callable[[], datetime]
    resolve: Resolve
    within: float = WITHIN

    @asynccontextmanager
    async def to_one_endpoint(self) -> AsyncIterator[httpx2.AsyncClient]:
        """Open a client for one endpoint; it neither follows redirections nor reads proxies from the environment."""
        transport = GuardedTransport(self.rules, tls=self.tls, resolve=self.resolve)
        timeout = httpx2.Timeout(self.within, connect=CONNECT)
        async with httpx2.AsyncClient(
            transport=transport, timeout=timeout, follow_redirects=False, trust_env=False
        ) as client:
            yield client

    async def send(self, client: httpx2.AsyncClient, endpoint: Endpoint, event: CallbackEvent) -> Answer:
        """Send a callback and return the answer; any failure is an answer, too."""
        at, begun = self.clock(), time.monotonic()
        try:
            self.rules.check_url(endpoint.url)
            async with asyncio.timeout(self.within):
                status, headers, body = await self._post(client, endpoint, event, at)
        except TimeoutError:
            return _failed(at, begun, f"no answer within {self.within:g} s")
        except (EndpointError, httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            return _failed(at, begun, _reason(error))
        wait = _retry_after(headers.get("retry-after"), at)
        return Answer(at, status, body=body, seconds=_since(begun), retry_after=wait)

    async def _post(
        self, client: httpx2.AsyncClient, endpoint: Endpoint, event: CallbackEvent, at: datetime
    ) -> tuple[int, httpx2.Headers, str]:
        content = body_of(event, endpoint.format)
        headers = headers_of(event, endpoint, content, at)
        async with client.stream("POST", endpoint.url, content=content, headers=headers) as response:
            # The answer of a host inside this network is not for the staff of a course.
            kept = await _beginning(response) if response.extensions.get(IS_PUBLIC) else ""
            return response.status_code, response.headers, kept


async def _beginning(response: httpx2.Response) -> str:
    """Return the first characters of an answer's body; read no more than ``MAX_ANSWER``. The status counts anyway."""
    kept, read = b"", 0
    with suppress(httpx2.HTTPError, OSError):
        async for piece in response.aiter_raw():
            kept = (kept + piece)[:KEPT_BODY]
            read += len(piece)
            if read >= MAX_ANSWER:
                break
    return kept.decode(errors="replace").replace("\0", "\ufffd")


def _failed(at: datetime, begun: float, reason: str) -> Answer:
    return Answer(at, None, error=reason[:MAX_ERROR], seconds=_since(begun))


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 3)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _retry_after(text: str | None, now: datetime) -> timedelta | None:
    """Return the time in a header ``Retry-After``, in seconds or as a date; None without a usable one."""
    if not text:
        return None
    try:
        if text.isdecimal():
            return min(timedelta(seconds=int(text[:9])), LONGEST_WAIT)
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return min(max((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now, timedelta()), LONGEST_WAIT)
