"""Graders, join tokens, courses, pools and dead letters, for operators."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Self

from broadway.messages.resources.access import JoinTokenRequest
from broadway.messages.resources.base import MAX_PAGE
from broadway.messages.resources.courses import CourseRequest, CourseView
from broadway.messages.resources.graders import GraderView
from broadway.messages.resources.retention import PassView, RetentionView
from broadway.session import Session, Waiting, opened, segment, silently

MAX_COURSES = 10_000


class GraderDescription(GraderView):
    """One grader, for operators. An older server sends no runtime, and knows no secrets of graders.

    ``state`` is its actual state (online, paused, draining, drained, gone or revoked), ``wanted`` the ordered one.
    """

    runtime: str = ""
    has_secret: bool = False


class Operator(Session):
    """A client for operators: graders, join tokens, courses, pools and dead letters.

    Args:
        http: A client with the server's address.
        token: The operators' token.
    """

    @classmethod
    @contextmanager
    def connect(
        cls, server: str, *, token: str, ca_file: Path | None = None, waiting: Waiting = silently
    ) -> Iterator[Self]:
        """Connect to the server at an address such as ``http://127.0.0.1:1470``; the rest as for ``Client``."""
        with opened(server, ca_file) as http:
            yield cls(http, token=token, waiting=waiting)

    def graders(self) -> list[GraderDescription]:
        """Return every grader that ever joined.

        Raises:
            ClientError: The server refuses the request or cannot be reached. Every method may raise it.
        """
        answer = self._request("GET", "/api/v2/graders")
        return [self._as(GraderDescription, each) for each in self._list(answer, "graders")]

    def grader(self, grader_id: str) -> GraderDescription:
        return self._as(GraderDescription, self._request("GET", f"/api/v2/graders/{segment(grader_id)}"))

    def order(self, grader_id: str, verb: str, **parameters: Any) -> GraderDescription:
        """Order a grader to ``pause``, ``resume`` or ``drain``; ``revoke`` or ``readmit`` it; change its ``slots``.

        ``forget-secret`` lets it make a new secret at its next join.
        """
        return self._as(
            GraderDescription, self._request("POST", f"/api/v2/graders/{segment(grader_id)}/{verb}", parameters)
        )

    def forget(self, grader_id: str) -> None:
        """Forget a grader that is gone, with its standing order and its secret."""
        self._request("POST", f"/api/v2/graders/{segment(grader_id)}/forget")

    def make_join_token(
        self, *, pools: list[str] | None, uses: int | None, valid_for: int | None, name: str = ""
    ) -> dict[str, Any]:
        """Make a join token; None stands for no limit, ``valid_for`` is in seconds. ``token`` has the secret."""
        about = JoinTokenRequest.model_construct(name=name, pools=pools, uses=uses, valid_for=valid_for)
        return self._with("token", self._request("POST", "/api/v2/join-tokens", about.model_dump()))

    def join_tokens(self) -> list[dict[str, Any]]:
        """Return the join tokens, latest first."""
        return self._list(self._request("GET", "/api/v2/join-tokens"), "tokens")

    def revoke_join_token(self, identity: str) -> None:
        self._request("DELETE", f"/api/v2/join-tokens/{identity}")

    def courses(self, *, limit: int = MAX_COURSES) -> list[CourseView]:
        """Return all courses, by id."""
        found = islice(self._pages("/api/v2/courses", limit=min(limit, MAX_PAGE)), limit)
        return [self._as(CourseView, each) for each in found]

    def add_course(self, course: CourseRequest) -> CourseView:
        """Add a course; its tokens are made after it, with `Client.add_token`."""
        return self._as(CourseView, self._request("POST", "/api/v2/courses", course.model_dump()))

    def pools(self, *, target: float | None = None) -> list[dict[str, Any]]:
        """Return the pools of courses, of graders, and of settings, by name, with their loads.

        ``target`` are the seconds within which waiting jobs should start, for ``suggested_slots``. An older server
        sends no loads, and knows no ``target``.
        """
        return self._list(self._request("GET", f"/api/v2/pools{_target(target)}"), "pools")

    def pool(self, pool: str, *, target: float | None = None) -> dict[str, Any]:
        """Return a pool with its load; the rest as for `pools`."""
        return self._with("id", self._request("GET", f"/api/v2/pools/{segment(pool)}{_target(target)}"))

    def set_pool(self, pool: str, *, original_graders: bool) -> dict[str, Any]:
        """Let a pool admit graders without secrets, or refuse them."""
        return self._request("PUT", f"/api/v2/pools/{pool}", {"original_graders": original_graders})

    def retention(self) -> RetentionView:
        """Return the retention of things without a course."""
        return self._as(RetentionView, self._request("GET", "/api/v2/retention"))

    def run_retention(self, *, dry_run: bool = False) -> PassView:
        """Order a pass over things without a course, which the server makes in the background."""
        return self._as(PassView, self._request("POST", "/api/v2/retention/passes", {"dry_run": dry_run}))

    def audit(
        self,
        *,
        course: str | None = None,
        name: str | None = None,
        operation: str | None = None,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """Return the latest records of the audit log, latest first."""
        query = {"course": course, "name": name, "operation": operation, "limit": min(limit, MAX_PAGE)}
        return list(islice(self._pages("/api/v2/audit", **query), limit))

    def dead_letters(self, *, limit: int = MAX_PAGE) -> list[dict[str, Any]]:
        """Return the latest dead letters, latest first."""
        return self._list(self._request("GET", f"/api/v2/dead-letters?limit={limit}"), "items")

    def dead_letter(self, letter: str) -> dict[str, Any]:
        return self._by_id(letter, lambda each: self._request("GET", f"/api/v2/dead-letters/{each}"), self._letters)

    def _letters(self) -> list[str]:
        return [str(each.get("id")) for each in self.dead_letters()]

    def retry(self, letter: str) -> dict[str, Any]:
        """Run the jobs again that ended by a dead letter; ``jobs``, ``unchanged`` and ``refused`` are the result."""
        return self._by_id(
            letter, lambda each: self._request("POST", f"/api/v2/dead-letters/{each}/retry"), self._letters
        )

    def discard(self, letter: str) -> None:
        """Discard a dead letter."""
        self._by_id(letter, lambda each: self._request("DELETE", f"/api/v2/dead-letters/{each}"), self._letters)


def _target(seconds: float | None) -> str:
    return "" if seconds is None else f"?target={seconds:g}"
