"""Grades of a course: the draft, the versions of grade books, and adjustments."""

from collections.abc import Iterator, Sequence
from itertools import islice
from secrets import token_hex
from typing import Any
from urllib.parse import urlencode

from broadway.clients.course import CourseSession
from broadway.messages.resources.base import MAX_PAGE
from broadway.messages.resources.grades import AdjustmentView, GradesPage, StudentGrade, VersionView
from broadway.session import segment


class Grades(CourseSession):
    """Grades, with a token of staff, or a student's own for that student's published grades."""

    def grades(self, assignment: str, *, version: str = "draft") -> Iterator[GradesPage]:
        """Yield the pages of the grades of an assignment: of the ``draft``, the ``published`` or a numbered version."""
        query: dict[str, Any] = {"version": version, "limit": MAX_PAGE}
        while True:
            path = self._path(f"assignments/{segment(assignment)}/grades?{urlencode(query)}")
            page = self._as(GradesPage, self._request("GET", path))
            yield page
            if page.next is None:
                return
            query["after"] = page.next

    def grade(self, assignment: str, student: str, *, version: str = "published") -> StudentGrade:
        """Return the grade of a student; with a student's own token the published one."""
        query = urlencode({"version": version})
        path = self._path(f"students/{segment(student)}/assignments/{segment(assignment)}/grade?{query}")
        return self._as(StudentGrade, self._request("GET", path))

    def grade_versions(self, assignment: str, *, limit: int = 50) -> list[VersionView]:
        """Return the versions that are or were published, latest first."""
        pages = self._items(f"assignments/{segment(assignment)}/grades/versions", limit=min(limit, MAX_PAGE))
        return [self._as(VersionView, each) for each in islice(pages, limit)]

    def publish_grades(self, assignment: str, *, based_on: int, reason: str = "", note: str = "") -> VersionView:
        """Publish the draft.

        Args:
            assignment: The assignment.
            based_on: The ``published`` of the grades that the caller has seen. The call fails with status 409 if
                another version is published meanwhile.
            reason: The reason, for staff.
            note: A note for students.
        """
        body = {"based_on": based_on, "reason": reason, "note": note}
        return self._changing(assignment, "publish", body)

    def undo_grades(
        self, assignment: str, *, based_on: int, to: int | None = None, reason: str = "", note: str = ""
    ) -> VersionView:
        """Publish the grades of an earlier version again: of ``to``, or of the one before ``based_on``."""
        return self._changing(assignment, "undo", {"based_on": based_on, "to": to, "reason": reason, "note": note})

    def adjustments(self, assignment: str, *, student: str | None = None, limit: int = 50) -> list[AdjustmentView]:
        """Return the adjustments of an assignment, latest first, withdrawn ones too."""
        path = f"assignments/{segment(assignment)}/adjustments"
        pages = self._items(path, student=student, limit=min(limit, MAX_PAGE))
        return [self._as(AdjustmentView, each) for each in islice(pages, limit)]

    def adjust(
        self, assignment: str, items: Sequence[dict[str, Any]], *, key: str | None = None
    ) -> list[AdjustmentView]:
        """Adjust grades; each item has a student, a kind, points as text, and a reason. All are stored in one call."""
        headers = {"Idempotency-Key": key or token_hex(16)}
        path = self._path(f"assignments/{segment(assignment)}/adjustments")
        answer = self._request("POST", path, {"items": list(items)}, headers)
        return [self._as(AdjustmentView, each) for each in self._list(answer, "items")]

    def withdraw_adjustment(self, assignment: str, identity: str, *, reason: str = "") -> AdjustmentView:
        """Withdraw an adjustment."""
        query = f"?{urlencode({'reason': reason})}" if reason else ""
        path = self._path(f"assignments/{segment(assignment)}/adjustments/{segment(identity)}{query}")
        return self._as(AdjustmentView, self._request("DELETE", path))

    def _changing(self, assignment: str, action: str, body: dict[str, Any]) -> VersionView:
        headers = {"Idempotency-Key": token_hex(16)}
        path = self._path(f"assignments/{segment(assignment)}/grades/{action}")
        return self._as(VersionView, self._request("POST", path, body, headers))
