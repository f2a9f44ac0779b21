"""Reads of webhooks and of their deliveries."""

from dataclasses import dataclass

from broadway.domain.pages import Slice, cursor, sliced
from broadway.domain.webhook import Delivery, DeliveryState, Hook
from broadway.ingest.reads.stores import DeliveryQueries, HookQueries


@dataclass(frozen=True, slots=True)
class HookReads:
    """Reads of the hooks of any course."""

    hooks: HookQueries
    deliveries: DeliveryQueries

    async def one(self, course: str, name: str) -> Hook | None:
        """Return a hook, or None."""
        return await self.hooks.get(course, name)

    async def of_course(self, course: str) -> list[Hook]:
        """Return a course's hooks, by name."""
        return await self.hooks.of_course(course)

    async def delivery(self, course: str, hook: str, delivery_id: str) -> Delivery | None:
        """Return a delivery of a hook with its body; None if the hook has no such delivery."""
        delivery = await self.deliveries.get(delivery_id)
        return delivery if delivery and (delivery.course, delivery.hook) == (course, hook) else None

    async def latest(
        self, hook: Hook, *, after: str | None, limit: int, state: DeliveryState | None
    ) -> Slice[Delivery]:
        """Return a page of a hook's deliveries, latest first.

        Raises:
            CursorError: ``after`` is not a cursor.
        """
        found = await self.deliveries.of_hook(hook.course, hook.name, before=after, limit=limit + 1, state=state)
        return sliced(found, limit, lambda delivery: cursor(delivery.received_at, delivery.id))
