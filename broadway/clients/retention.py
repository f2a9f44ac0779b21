"""Retention of a course, and of things without a course."""

from typing import Any

from broadway.clients.course import CourseSession
from broadway.messages.resources.retention import PassView, RetentionView


class Retention(CourseSession):
    """How long old things of a course are kept."""

    def retention(self) -> RetentionView:
        """Return the course's own rules, the rules in force, and the last passes."""
        return self._as(RetentionView, self._request("GET", self._path("retention")))

    def set_retention(self, rules: dict[str, Any]) -> RetentionView:
        """Replace the course's own rules: days, ``keep``, or None for the deployment's rule, by name."""
        return self._as(RetentionView, self._request("PUT", self._path("retention"), rules))

    def run_retention(self, *, dry_run: bool = False) -> PassView:
        """Order a pass, which the server makes in the background."""
        return self._as(PassView, self._request("POST", self._path("retention/passes"), {"dry_run": dry_run}))
