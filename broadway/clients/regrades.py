"""Regrades: start, follow, compare, refresh, publish and discard them."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from secrets import token_hex

from broadway.clients.changes import changes
from broadway.clients.course import CourseSession
from broadway.domain.regrade_terms import Category, Publish
from broadway.messages.resources.base import MAX_PAGE
from broadway.messages.resources.regrades import (
    RegradePublish,
    RegradeRow,
    RegradeStart,
    RegradeSummary,
    RegradeView,
)
from broadway.session import segment


class Regrades(CourseSession):
    """Regrades of assignments."""

    def start_regrade(self, assignment: str, order: RegradeStart, *, key: str | None = None) -> RegradeView:
        """Grade submissions again with the assignment's present config, beside all that students see.

        Calls with the same ``key``, which the caller chooses, start one regrade.
        """
        path = self._path(f"assignments/{segment(assignment)}/regrades")
        body = order.model_dump(mode="json", exclude_unset=True)
        return self._as(RegradeView, self._request("POST", path, body, {"Idempotency-Key": key or token_hex(16)}))

    def regrades(self, assignment: str, *, limit: int = 50) -> list[RegradeSummary]:
        """Return the regrades of an assignment, latest first."""
        pages = self._items(f"assignments/{segment(assignment)}/regrades", limit=min(limit, MAX_PAGE))
        return [self._as(RegradeSummary, item) for item in islice(pages, limit)]

    def regrade(self, identity: str) -> RegradeView:
        """Return a regrade with the difference that it makes."""
        return self._as(RegradeView, self._request("GET", self._regrade(identity)))

    def watch_regrade(self, identity: str, *, within: float = math.inf) -> Iterator[RegradeView]:
        """Yield a regrade, and again after each change, until its jobs have ended or ``within`` seconds end."""
        tag: str | None = None

        def look() -> RegradeView | None:
            nonlocal tag
            answer, tag = self._changed(self._regrade(identity), tag)
            return None if answer is None else self._as(RegradeView, answer)

        yield from changes(look, lambda each: each.is_over, within=within, pause=self._pause, waiting=self._waiting)

    def regrade_rows(
        self, identity: str, *, category: Category | None = None, limit: int = 1_000_000
    ) -> Iterator[RegradeRow]:
        """Yield the students of a regrade, the worst category first; only those of a category if it is given."""
        query = {"category": category.value if category else None, "limit": min(limit, MAX_PAGE)}
        for item in islice(self._items(f"regrades/{segment(identity)}/rows", **query), limit):
            yield self._as(RegradeRow, item)

    def refresh_regrade(self, identity: str) -> RegradeView:
        """Grade those students again who have changed, or with whose submissions the infrastructure failed."""
        return self._as(RegradeView, self._request("POST", f"{self._regrade(identity)}/refresh"))

    def publish_regrade(
        self,
        identity: str,
        publish: Publish,
        *,
        note: str,
        students: Sequence[str] = (),
        keep_old: bool = False,
        key: str | None = None,
    ) -> RegradeView:
        """Publish the grades of a regrade as a new version of the grade book, with a note to the students."""
        order = RegradePublish(publish=publish.value, note=note, students=list(students), keep_old=keep_old)
        headers = {"Idempotency-Key": key or token_hex(16)}
        path = f"{self._regrade(identity)}/publish"
        return self._as(RegradeView, self._request("POST", path, order.model_dump(mode="json"), headers))

    def discard_regrade(self, identity: str) -> RegradeView:
        """Discard a regrade with its reports and logs; the grade book stays as it is."""
        return self._as(RegradeView, self._request("POST", f"{self._regrade(identity)}/discard"))

    def _regrade(self, identity: str) -> str:
        return self._path(f"regrades/{segment(identity)}")
