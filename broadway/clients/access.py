"""Named tokens of a course, tokens of its students, and the course's part of the audit log."""

from itertools import islice
from typing import Any

from broadway.clients.course import CourseSession
from broadway.messages.resources.base import MAX_PAGE
from broadway.messages.resources.links import LinksView
from broadway.session import segment


class Access(CourseSession):
    """Tokens and the audit log."""

    def tokens(self) -> list[dict[str, Any]]:
        """Return the course's named tokens, latest first; those of the course config are not among them."""
        return list(self._items("tokens"))

    def add_token(self, name: str, *, kind: str = "staff", days: int | None = None) -> dict[str, Any]:
        """Make a token of kind ``staff`` or ``query``; ``token`` has the secret, and no later answer does."""
        about = {"name": name, "kind": kind, "expires_in_days": days}
        return self._with("token", self._request("POST", self._path("tokens"), about))

    def revoke_token(self, identity: str) -> None:
        self._request("DELETE", self._path(f"tokens/{identity}"))

    def student_tokens(self, student: str | None = None) -> list[dict[str, Any]]:
        """Return the tokens of the course's students, or of one, latest first."""
        return list(self._items("student-tokens", student=student))

    def add_student_token(self, student: str, *, name: str | None = None, days: int | None = None) -> dict[str, Any]:
        """Make a token of a student of a roster; ``token`` has the secret, and no later answer does."""
        about = {"student": student, "name": name, "expires_in_days": days}
        return self._with("token", self._request("POST", self._path("student-tokens"), about))

    def revoke_student_token(self, identity: str) -> None:
        self._request("DELETE", self._path(f"student-tokens/{identity}"))

    def add_student_links(self, assignment: str, *, days: int, replace: bool = False) -> list[dict[str, Any]]:
        """Make a personal link for each student of a roster; no later answer has the links."""
        about = {"expires_in_days": days, "replace": replace}
        path = self._path(f"assignments/{segment(assignment)}/student-links")
        made = self._as(LinksView, self._request("POST", path, about)).items
        server = self._where.rstrip("/")
        return [
            {"student": each.student, "link": f"{server}/s/{each.token}", "expires_at": each.expires_at.isoformat()}
            for each in made
        ]

    def audit(self, *, name: str | None = None, operation: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """Return the latest records of actions on the course, latest first."""
        return list(islice(self._items("audit", name=name, operation=operation, limit=min(limit, MAX_PAGE)), limit))
