"""Endpoints for callbacks, and deliveries to them."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

from broadway.clients.course import CourseSession
from broadway.messages.resources.base import MAX_PAGE
from broadway.session import segment

SEARCHED = 4 * MAX_PAGE  # deliveries among which the beginning of an id is looked for
_SETTINGS = ("url", "types", "format", "description", "enabled")


class Callbacks(CourseSession):
    """Endpoints of a course."""

    def callbacks(self) -> list[dict[str, Any]]:
        """Return the course's endpoints, by name."""
        return list(self._items("callbacks"))

    def callback(self, name: str) -> dict[str, Any]:
        """Return an endpoint, without its secret."""
        return self._with("url", self._request("GET", self._callback(name)))

    def add_callback(self, name: str, url: str, *, types: Sequence[str] = (), **settings: Any) -> dict[str, Any]:
        """Add an endpoint; ``secret`` has its secret, and no later answer does.

        Args:
            name: Its name.
            url: Its address.
            types: The types of events to send; an empty list for all.
            settings: ``format`` and ``description``.
        """
        about = {"name": name, "url": url, "types": list(types), **settings}
        return self._with("secret", self._request("POST", self._path("callbacks"), about))

    def change_callback(self, name: str, **changes: Any) -> dict[str, Any]:
        """Change some settings of an endpoint: ``url``, ``types``, ``format``, ``description`` or ``enabled``."""
        present = self.callback(name)
        settings = {key: changes.get(key, self._part(present, key)) for key in _SETTINGS}
        return self._with("url", self._request("PUT", self._callback(name), settings))

    def remove_callback(self, name: str) -> None:
        """Remove an endpoint with its deliveries."""
        self._request("DELETE", self._callback(name))

    def rotate_callback(self, name: str, *, hours: int | None = None) -> dict[str, Any]:
        """Replace an endpoint's secret; ``secret`` has the new one. Both sign for some hours, 24 by default."""
        body = {} if hours is None else {"hours": hours}
        return self._with("secret", self._request("POST", f"{self._callback(name)}/rotate", body))

    def ping_callback(self, name: str) -> str:
        """Send a test event to an endpoint; return the event's id."""
        return str(self._part(self._request("POST", f"{self._callback(name)}/ping", {}), "event"))

    def callback_deliveries(self, name: str, *, state: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """Return the latest deliveries to an endpoint, latest first."""
        below = f"callbacks/{segment(name)}/deliveries"
        return list(islice(self._items(below, state=state, limit=min(limit, MAX_PAGE)), limit))

    def callback_delivery(self, name: str, delivery: str) -> dict[str, Any]:
        """Return a delivery with its attempts, by its id or the beginning of it."""
        below = f"{self._callback(name)}/deliveries"
        return self._by_id(
            delivery, lambda each: self._request("GET", f"{below}/{each}"), lambda: self._latest_to(name)
        )

    def replay_callback(self, name: str, delivery: str) -> dict[str, Any]:
        """Send a delivery again, with the same id."""
        below = f"{self._callback(name)}/deliveries"
        return self._by_id(
            delivery, lambda each: self._request("POST", f"{below}/{each}/replay", {}), lambda: self._latest_to(name)
        )

    def replay_callbacks(self, name: str, since: str) -> int:
        """Send all failed and missed deliveries of events since a time again; return their number."""
        answer = self._request("POST", f"{self._callback(name)}/replay", {"since": since})
        return int(self._part(answer, "deliveries"))

    def _callback(self, name: str) -> str:
        return self._path(f"callbacks/{segment(name)}")

    def _latest_to(self, name: str) -> list[str]:
        """Return the ids of an endpoint's latest deliveries, among which the beginning of an id is looked for."""
        return [str(each.get("id")) for each in self.callback_deliveries(name, limit=SEARCHED)]
