"""Extensions of assignments, standings of students, late days and choices."""

from itertools import islice
from typing import Any
from urllib.parse import urlencode

from broadway.clients.course import CourseSession
from broadway.domain.extension import ExtensionOrder, Target
from broadway.messages.resources.base import MAX_PAGE
from broadway.messages.resources.extensions import ExtensionPreview, ExtensionView
from broadway.messages.resources.standings import StandingView
from broadway.session import segment


class Extensions(CourseSession):
    """Extensions and standings of a course, with a token of staff, or a student's own for that student's standings."""

    def extensions(self, assignment: str, *, in_force: bool = True, limit: int = 1000) -> list[ExtensionView]:
        """Return the extensions of an assignment in the order in which they were added."""
        query = {"in_force": "true"} if in_force else {}
        pages = self._items(self._below(assignment, "extensions"), limit=min(limit, MAX_PAGE), **query)
        return [self._as(ExtensionView, each) for each in islice(pages, limit)]

    def extend(self, assignment: str, order: ExtensionOrder) -> ExtensionView:
        """Add an extension, which replaces an earlier one of its target."""
        answer = self._request("POST", self._path(self._below(assignment, "extensions")), _given(order))
        return self._as(ExtensionView, answer)

    def preview_extension(self, assignment: str, order: ExtensionOrder) -> ExtensionPreview:
        """Return the times of the students of an extension before and after it; nothing is stored."""
        path = self._path(self._below(assignment, f"extensions/preview?{urlencode(_given(order))}"))
        return self._as(ExtensionPreview, self._request("GET", path))

    def withdraw_extension(self, assignment: str, target: Target, name: str, *, reason: str = "") -> ExtensionView:
        """Withdraw the extension of a target."""
        query = urlencode({"target": target.value, "name": name, **({"reason": reason} if reason else {})})
        answer = self._request("DELETE", self._path(self._below(assignment, f"extensions?{query}")))
        return self._as(ExtensionView, answer)

    def standings(self, student: str) -> list[StandingView]:
        """Return the standings of a student in all assignments of the course that the student takes part in."""
        pages = self._items(f"students/{segment(student)}/assignments", limit=MAX_PAGE)
        return [self._as(StandingView, each) for each in pages]

    def standing(self, assignment: str, student: str) -> StandingView:
        """Return the standing of a student in an assignment."""
        path = self._path(f"students/{segment(student)}/assignments/{segment(assignment)}")
        return self._as(StandingView, self._request("GET", path))

    def claim_late_days(self, assignment: str, days: int, *, student: str | None = None) -> StandingView:
        """Set the late days that a student uses for an assignment; staff must name the student."""
        path = self._path(self._below(assignment, f"late-days{_of(student)}"))
        return self._as(StandingView, self._request("PUT", path, {"days": days}))

    def choose(self, assignment: str, submission: str | None, *, student: str | None = None) -> StandingView:
        """Set the submission that counts for a student, or take the choice back; staff must name the student."""
        path = self._path(self._below(assignment, f"choice{_of(student)}"))
        return self._as(StandingView, self._request("PUT", path, {"submission": submission}))

    def _below(self, assignment: str, rest: str) -> str:
        return f"assignments/{segment(assignment)}/{rest}"


def _given(order: ExtensionOrder) -> dict[str, Any]:
    return order.model_dump(mode="json", exclude_defaults=True)


def _of(student: str | None) -> str:
    return f"?{urlencode({'student': student})}" if student else ""
