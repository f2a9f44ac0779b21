"""A request's client: its address, its token, and the memory and disk that the request holds."""

import re
from dataclasses import dataclass
from typing import Any, Self

from starlette.requests import HTTPConnection, Request

from broadway.ingest.http.admission import ClientLimits, Held

_BEARER = re.compile(r"[ \t]*bearer +([^ ]+)[ \t]*", re.IGNORECASE)
_KEY = "visit"


@dataclass(slots=True)
class Visit:
    """One request's share of the limits on clients."""

    admission: ClientLimits
    address: str
    is_proxied: bool
    token: str | None
    memory: Held
    spool: Held
    place: Held  # among the requests that came through proxies

    @classmethod
    def of(cls, connection: HTTPConnection, admission: ClientLimits) -> Self:
        """Return a request's visit, which holds nothing yet."""
        peer = connection.client.host if connection.client else ""
        address = admission.client_of(peer, connection.headers.getlist("x-forwarded-for"))
        found = _BEARER.fullmatch(connection.headers.get("authorization", ""))
        visit = cls(
            admission=admission,
            address=address,
            is_proxied=admission.is_proxy(peer),
            token=found[1] if found else None,
            memory=Held(admission.memory, address),
            spool=Held(admission.spool, address),
            place=Held(admission.proxied, address),
        )
        setattr(connection.state, _KEY, visit)
        return visit

    def begin(self, *, is_free: bool) -> None:
        """Return if the request is within the limits; no rate applies to a request that ``is_free``.

        Raises:
            LimitError: It exceeds one.
        """
        if self.is_proxied:
            self.place.take(1)
        if not is_free:
            self.admission.check(self.address, self.token)

    def note_valid(self) -> None:
        """Remember that the request's token is valid."""
        if self.token is not None:
            self.admission.note_valid(self.token)

    def note_failure(self, course: str) -> None:
        """Count the request's token as wrong for the course in its path, if it has one."""
        if self.token is not None:
            self.admission.note_failure(self.address, self.token, course)

    def end(self) -> None:
        """Release all that the request holds."""
        for held in (self.memory, self.spool, self.place):
            held.end()


async def until_gone(request: Request) -> None:
    """Return as soon as a request's client has disconnected; the request's body is discarded."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def visit_of(connection: HTTPConnection) -> Visit:
    """Return the visit of a request that the middleware has let in."""
    visit: Any = getattr(connection.state, _KEY)
    assert isinstance(visit, Visit)  # noqa: S101 - for the type checker
    return visit
