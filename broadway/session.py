"""Requests to a Broadway API: their answers are Broadway's, or an error has a sentence that says what answered."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import httpx2
from pydantic import BaseModel, ValidationError

from broadway.domain.header_text import header_problem
from broadway.messages.resources.ids import MIN_PREFIX
from broadway.runtime.http_errors import UNSENT, why
from broadway.runtime.tls import trust

TRIES = 4  # of one request
LONGEST_WAIT = 30.0  # seconds before one more try; a server that asks for more gets no more tries
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})  # with the same effect as one request
_LATER = (429, 503)
_BROKEN = 500  # and above: the server's own failures
_UNCHANGED = 304
_MISSING = (400, 404)  # v1 answers 400 for an unknown id
_LISTED = 10  # ids in an error
_SHOWN = 200  # characters of an unexpected answer

Answer = TypeVar("Answer")
Shape = TypeVar("Shape", bound=BaseModel)
Waiting = Callable[[float, str], None]


class ClientError(Exception):
    """The server refused a request or cannot be reached; the text has the reason, with advice."""

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status

    @property
    def may_pass(self) -> bool:
        """True if the same request may succeed later: the server is away, being replaced, or busy."""
        return self.status is None or self.status >= _BROKEN or self.status in _LATER


def silently(seconds: float, reason: str) -> None:
    """Wait for a busy server without a word."""


class Session:
    """A session with a server: requests with a token.

    A request that may be repeated is sent again if the server asks for that, a few times. ``waiting`` is called before
    each pause with its seconds and the reason; ``pause`` sleeps.

    Raises:
        ClientError: No header can carry the token.
    """

    def __init__(
        self,
        http: httpx2.Client,
        *,
        token: str,
        waiting: Waiting = silently,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        if problem := header_problem(token):
            raise ClientError(f"the token {problem}")
        self._http = http
        self._headers = {"Authorization": f"Bearer {token}"}
        self._waiting = waiting
        self._pause = pause

    def _request(
        self, method: str, path: str, body: dict[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Return the JSON object of an answer; an empty one of an answer without a body."""
        sent = {**self._headers, **(headers or {})}
        tries = TRIES if method in _REPEATABLE or "Idempotency-Key" in sent else 1
        return self._read(self._repeated(lambda: self._send(method, path, sent, json=body), tries))

    def _changed(self, path: str, tag: str | None) -> tuple[dict[str, Any] | None, str | None]:
        """Return a resource with its entity tag; None with the same tag if the resource still has that."""
        headers = {**self._headers, **({"If-None-Match": tag} if tag else {})}
        response = self._repeated(lambda: self._send("GET", path, headers), TRIES)
        if response.status_code == _UNCHANGED:
            return None, tag
        return self._read(response), response.headers.get("etag")

    def _repeated(self, send: Callable[[], httpx2.Response], tries: int) -> httpx2.Response:
        """Return the answer to a request, which is sent again while the server asks for that."""
        while True:
            response = send()
            tries -= 1
            seconds = _wait(response) if tries and response.status_code in _LATER else None
            if seconds is None:
                return response
            self._waiting(seconds, _refusal(response))
            self._pause(seconds)

    def whoami(self) -> dict[str, Any]:
        """Return the principal of the token: its kind, name and course."""
        return self._with("kind", self._request("GET", "/api/v2/whoami"))

    def _pages(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield all items of a list, page by page."""
        parameters = {key: value for key, value in query.items() if value is not None}
        while True:
            page = self._request("GET", f"{path}?{urlencode(parameters)}" if parameters else path)
            yield from self._list(page, "items")
            if self._part(page, "next") is None:
                return
            parameters["after"] = page["next"]

    def _send(self, method: str, path: str, headers: Mapping[str, str], **body: Any) -> httpx2.Response:
        try:
            return self._http.request(method, path, headers=headers, **body)
        except UNSENT as error:
            raise ClientError(f"no server at {self._where}: {why(error)}; is it up, and --server right?") from error

    def _read(self, response: httpx2.Response) -> dict[str, Any]:
        if response.is_redirect:
            target = response.headers.get("location", "another address")[:_SHOWN]
            raise ClientError(
                f"the server at {self._where} redirects to {target}; if Broadway is there, give that address: --server",
                status=response.status_code,
            )
        if response.is_error:
            raise ClientError(_refusal(response), status=response.status_code)
        if not response.content:
            return {}
        try:
            answer = response.json()
        except ValueError as error:
            raise self._foreign(_kind(response)) from error
        if not isinstance(answer, dict):
            raise self._foreign("JSON that is no object")
        return answer

    def _foreign(self, found: str) -> ClientError:
        return ClientError(
            f"the server at {self._where} is no Broadway API: it answered with {found}; is --server right, and is "
            "there a proxy or a login page before it?"
        )

    def _by_id(self, identity: str, ask: Callable[[str], Answer], candidates: Callable[[], list[str]]) -> Answer:
        """Ask about an object by its id, or by the beginning of its id if that fits no other one.

        ``ask`` gets the id as a part of a path. ``candidates`` are ids of existing objects, which are only asked for if
        there is no object with that id.

        Raises:
            ClientError: As for every request; or several ids begin so, which the text lists.
        """
        try:
            return ask(segment(identity))
        except ClientError as error:
            if error.status not in _MISSING or len(identity) < MIN_PREFIX:
                raise
            found = self._beginning_with(identity, candidates)
            if not found:
                raise
        if len(found) > 1:
            raise ClientError(f"several ids begin with {identity}; give more of it: {', '.join(found[:_LISTED])}")
        return ask(segment(found[0]))

    def _beginning_with(self, prefix: str, candidates: Callable[[], list[str]]) -> list[str]:
        try:
            return sorted({each for each in candidates() if each.startswith(prefix)})
        except ClientError:  # such as that of an older server, which has no such list
            return []

    def _as(self, shape: type[Shape], answer: Any) -> Shape:
        """Return an answer, or a part of one, as a resource."""
        try:
            return shape.model_validate(answer)
        except ValidationError as error:
            raise self._foreign("JSON of another shape") from error

    def _part(self, answer: dict[str, Any], *names: str) -> Any:
        """Return the part of an answer below the keys ``names``."""
        part: Any = answer
        for name in names:
            if not isinstance(part, dict) or name not in part:
                raise self._foreign("JSON of another shape")
            part = part[name]
        return part

    def _with(self, name: str, answer: dict[str, Any]) -> dict[str, Any]:
        """Return an answer that has the key ``name``."""
        self._part(answer, name)
        return answer

    def _list(self, answer: dict[str, Any], *names: str) -> list[dict[str, Any]]:
        """Return the objects in the list below the keys ``names``."""
        part = self._part(answer, *names)
        if not isinstance(part, list) or not all(isinstance(each, dict) for each in part):
            raise self._foreign("JSON of another shape")
        return part

    @property
    def address(self) -> str:
        """The server's address as it was given, without a slash at its end."""
        return str(self._http.base_url).rstrip("/")

    @property
    def _where(self) -> str:
        """The server's address without a user and a password."""
        address = self._http.base_url
        return str(address.copy_with(userinfo=b"") if address.userinfo else address)


@contextmanager
def opened(server: str, ca_file: Path | None) -> Iterator[httpx2.Client]:
    """Open an HTTP client of the server at an address, which has connected to nothing yet.

    Raises:
        ClientError: The address is not valid.
    """
    try:
        http = httpx2.Client(base_url=server.rstrip("/"), timeout=30, verify=trust(ca_file))
    except UNSENT as error:
        raise ClientError(f"--server: {why(error)}") from error
    with http:
        yield http


def segment(text: str) -> str:
    """Return a text as one part of a path, so that an id cannot lead to another resource.

    Raises:
        ClientError: The text is empty or a way to another directory.
    """
    if text in ("", ".", ".."):
        raise ClientError(f"{text!r} is no id or name")
    return quote(text, safe="")


def _wait(response: httpx2.Response) -> float | None:
    """Return the seconds after which a server wants to be asked again; None if it does not say, or far too late."""
    value = response.headers.get("retry-after", "").strip()
    try:
        seconds = float(value) if value.isdecimal() else _until(value)
    except ValueError:
        return None
    return seconds if seconds <= LONGEST_WAIT else None


def _until(date: str) -> float:
    then = parsedate_to_datetime(date)
    return max(0.0, ((then if then.tzinfo else then.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())


def _kind(response: httpx2.Response) -> str:
    kind = response.headers.get("content-type", "").partition(";")[0].strip()[:_SHOWN]
    return {"text/html": "a web page (HTML)", "": "bytes of no declared type"}.get(kind, f"{kind} that is no JSON")


def _refusal(response: httpx2.Response) -> str:
    """Return the server's message, from any of its envelopes; the status of an answer that has none."""
    status = f"status {response.status_code} {response.reason_phrase}".rstrip()
    try:
        body = response.json()
    except ValueError:
        return f"{status}, from a server that is no Broadway API or a proxy before it; is --server right?"
    if not isinstance(body, dict):
        return status
    data = body.get("data")
    message = data.get("message") if isinstance(data, dict) else data
    return str(message or body.get("detail") or body.get("message") or status)
