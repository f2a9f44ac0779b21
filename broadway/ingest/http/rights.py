"""The credentials that a route takes, declared beside its handler, and checked before the handler runs."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from broadway.domain.access import Kind

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])

Before = Callable[..., Awaitable[Any]]


class Load(StrEnum):
    """The share of the reads that a request belongs to; other requests have none and go first."""

    SMALL = "small"
    LARGE = "large"
    SHARED = "shared"  # large, but read once for all who ask meanwhile: the read has its turn, not each request


class Auth(StrEnum):
    """A credential that a route may take. The values name the security schemes of the OpenAPI document."""

    COURSE = "courseToken"
    QUERY = "queryToken"
    STUDENT = "studentToken"
    OPERATOR = "operatorToken"
    JOIN = "joinToken"
    GRADER = "graderSecret"
    METRICS = "metricsToken"
    SIGNATURE = "signature"
    ANYBODY = "anybody"


KINDS = {
    Auth.COURSE: Kind.COURSE,
    Auth.QUERY: Kind.QUERY,
    Auth.STUDENT: Kind.STUDENT,
    Auth.OPERATOR: Kind.OPERATOR,
    Auth.JOIN: Kind.JOIN,
    Auth.GRADER: Kind.GRADER,
    Auth.METRICS: Kind.METRICS,
}
STAFF = (Auth.COURSE,)
READERS = (Auth.COURSE, Auth.QUERY)
ALL_TOKENS = tuple(KINDS)
FOR_GRADERS = frozenset({Auth.JOIN, Auth.GRADER})
_OF_READS = frozenset({Auth.COURSE, Auth.QUERY, Auth.STUDENT, Auth.OPERATOR, Auth.METRICS})
PEOPLE = frozenset({Kind.COURSE, Kind.QUERY, Kind.STUDENT, Kind.OPERATOR})
UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
OPEN = frozenset({Auth.SIGNATURE, Auth.ANYBODY})  # the endpoint demands no token


async def nothing(*_: Any) -> None:
    """Return no state: the action has none before it, or too much for the audit log."""


async def unchanged(*_: Any) -> None:
    """Return no state: the form only has too many fields for an address; it changes nothing and leaves no record."""


@dataclass(frozen=True, slots=True)
class Rights:
    """The credentials that a handler takes.

    ``recent``: the course may be one second behind the store, which is faster. ``before`` returns the state that an
    unsafe request is about to change, for the audit log; a handler of unsafe requests of people must have one.
    ``operation`` is the handler's id in the OpenAPI document of its interface. ``load`` is that of the handler's reads.
    """

    auth: tuple[Auth, ...]
    recent: bool = False
    before: Before | None = None
    operation: str = ""
    load: Load = Load.SMALL

    @property
    def kinds(self) -> frozenset[Kind]:
        """Return the kinds of principals that the handler takes."""
        return frozenset(KINDS[each] for each in self.auth if each in KINDS)

    def load_of(self, method: str) -> Load | None:
        """Return the load of a read; None for requests that go first: changes, and all that graders ask for."""
        return self.load if method not in UNSAFE and not _OF_READS.isdisjoint(self.auth) else None

    @property
    def is_open(self) -> bool:
        """Return whether requests need no token: anyone may make them, or the handler checks a signature."""
        return not OPEN.isdisjoint(self.auth)


_KEY = "__broadway_rights__"


class Declared(Protocol):
    """A decorator that returns the handler itself."""

    def __call__(self, handler: HandlerT, /) -> HandlerT:
        """Return the handler."""


def takes(
    *auth: Auth, recent: bool = False, before: Before | None = None, operation: str = "", load: Load = Load.SMALL
) -> Declared:
    """Declare the credentials that a handler takes, any of which admits a request."""

    def declare(handler: HandlerT) -> HandlerT:
        setattr(handler, _KEY, Rights(auth, recent, before, operation, load))
        return handler

    return declare


def rights_of(handler: Callable[..., Any]) -> Rights:
    """Return the declared rights of a handler.

    Raises:
        TypeError: The handler declares none.
    """
    rights = getattr(handler, _KEY, None)
    if rights is None:
        raise TypeError(f"{handler.__module__}.{handler.__qualname__}: declare its credentials with `takes`")
    found: Rights = rights
    return found
