"""Webhooks, their deliveries, and rosters."""

from itertools import islice
from typing import Any

from broadway.clients.course import CourseSession
from broadway.messages.resources.base import MAX_PAGE
from broadway.session import ClientError, segment

SEARCHED = 4 * MAX_PAGE  # deliveries among which the beginning of an id is looked for
_WITHOUT_RUN = (422, 429)  # statuses of a delivery that was decided and started no run


class Hooks(CourseSession):
    """Hooks and rosters of a course."""

    def hooks(self) -> list[dict[str, Any]]:
        """Return the course's hooks, as v2 describes them."""
        return list(self._items("hooks"))

    def put_hook(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        """Create or change a hook."""
        hook = self._request("PUT", self._path(f"hooks/{segment(name)}"), config)
        self._part(hook, "url")
        return hook

    def delete_hook(self, name: str) -> None:
        self._request("DELETE", self._path(f"hooks/{segment(name)}"))

    def deliveries(self, hook: str, *, state: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """Return the latest deliveries of a hook, latest first."""
        return list(
            islice(self._items(f"hooks/{segment(hook)}/deliveries", state=state, limit=min(limit, MAX_PAGE)), limit)
        )

    def every_delivery(self, hook: str, *, state: str | None) -> list[dict[str, Any]]:
        """Return all deliveries of a hook, oldest first."""
        return list(self._items(f"hooks/{segment(hook)}/deliveries", state=state, limit=MAX_PAGE))[::-1]

    def delivery(self, hook: str, delivery: str) -> dict[str, Any]:
        below = f"hooks/{segment(hook)}/deliveries"
        return self._by_id(
            delivery, lambda each: self._request("GET", self._path(f"{below}/{each}")), lambda: self._latest_of(hook)
        )

    def _latest_of(self, hook: str) -> list[str]:
        """Return the ids of a hook's latest deliveries, among which the beginning of an id is looked for."""
        return [str(each.get("id")) for each in self.deliveries(hook, limit=SEARCHED)]

    def redeliver(self, hook: str, delivery: str) -> tuple[str, bool]:
        """Decide a delivery again; return its state or the reason of a refusal, and whether it has a run."""
        try:
            below = f"hooks/{segment(hook)}/deliveries"
            decision = self._by_id(
                delivery,
                lambda each: self._request("POST", self._path(f"{below}/{each}/redeliver")),
                lambda: self._latest_of(hook),
            )
        except ClientError as error:
            if error.status not in _WITHOUT_RUN:
                raise
            return str(error), False
        return str(self._part(decision, "state")), bool(self._part(decision, "run"))

    def roster(self, assignment: str) -> dict[str, Any]:
        roster = self._request("GET", self._path(f"assignments/{segment(assignment)}/roster"))
        self._list(roster, "students")
        return roster

    def put_roster(self, assignment: str, roster: dict[str, Any]) -> None:
        """Replace an assignment's roster."""
        self._request("PUT", self._path(f"assignments/{segment(assignment)}/roster"), roster)
