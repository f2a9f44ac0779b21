"""Connections to an engine's socket for the SDK's calls, without the work that its HTTP library does for each call."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from docker.transport.unixconn import UnixHTTPConnectionPool
from requests import Response
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool, Timeout

_OPTIONS = frozenset({"params", "data", "headers", "timeout", "stream", "allow_redirects"})


class Connections:
    """A pool of connections to one socket, which are used again for any call.

    The SDK's library merges settings, cookies and hooks, and prepares a request, for each call, which takes as long as
    the call itself; and it keeps a pool for each URL, so that it connects anew for each container.
    """

    def __init__(self, socket: str, *, headers: Mapping[str, str], timeout: int, number: int) -> None:
        """Keep up to ``number`` connections, once they have been made; ``headers`` are those of every call."""
        self._headers = dict(headers)
        self._pool: HTTPConnectionPool = UnixHTTPConnectionPool("", socket, timeout, maxsize=number)

    @staticmethod
    def takes(options: Mapping[str, Any]) -> bool:
        """Return True if a call needs nothing else than this class does, such as the upload of a file."""
        given = {name for name, value in options.items() if value is not None}
        return given <= _OPTIONS and isinstance(options.get("data"), str | None)

    def request(
        self,
        method: str,
        url: str,
        *,
        timeout: float,
        params: Mapping[str, Any] | None = None,
        data: str | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        **_: Any,
    ) -> Response:
        """Make a call as ``requests.Session.request`` does.

        Raises:
            HTTPError: Of urllib3: the engine does not answer, or not in time.
        """
        query = urlencode({name: value for name, value in (params or {}).items() if value is not None}, doseq=True)
        raw = self._pool.urlopen(
            method,
            urlsplit(url).path + (f"?{query}" if query else ""),
            body=data.encode() if data is not None else None,
            headers={**self._headers, **(headers or {})},
            timeout=Timeout(connect=timeout, read=timeout),
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
        )
        response = Response()
        response.status_code, response.reason = raw.status, raw.reason or ""
        response.headers = CaseInsensitiveDict(raw.headers)
        response.raw, response.url, response.encoding = raw, url, "utf-8"
        if not stream:
            response.content  # noqa: B018 - reads it, and gives the connection back
        return response

    def close(self) -> None:
        """Close the connections that no call uses."""
        self._pool.close()
