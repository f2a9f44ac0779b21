"""Changing a course's endpoints for callbacks, and sending events again."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from secrets import token_bytes, token_hex
from typing import Protocol

from broadway.domain.callback import KEPT_DAYS, CallbackEvent, CallbackType
from broadway.domain.callback_addresses import AddressRules
from broadway.domain.callback_delivery import SECRET_BYTES, Delivery, Endpoint, PayloadFormat, new_secret
from broadway.ingest.commands.limits import QuotaError
from broadway.lifecycle.callbacks import DeliveriesOfEndpoints, EndpointsOfCourses
from broadway.runtime.clock import now

DISABLED_BY_STAFF = "disabled by the course staff"


class CallbackStateError(ValueError):
    """The endpoint's state does not allow the request; the text gives the remedy."""


class EndpointRegistry(EndpointsOfCourses, Protocol):
    """Endpoints, which can be added, changed and removed."""

    async def add(self, endpoint: Endpoint) -> bool:
        """Store a new endpoint; return False if its course has one of that name."""

    async def put_settings(self, endpoint: Endpoint) -> bool:
        """Store the settings and the state of an endpoint; return False if it has been removed."""

    async def put_secrets(self, endpoint: Endpoint, *, before: str) -> bool:
        """Store an endpoint's secrets, unless its secret is no longer ``before``; return whether they are stored."""

    async def delete(self, endpoint: Endpoint) -> bool:
        """Remove an endpoint; return False if it does not exist."""


class DeliveryRegistry(DeliveriesOfEndpoints, Protocol):
    """Deliveries, which can be sent again."""

    async def replay(self, delivery: Delivery, *, of: Delivery) -> bool:
        """Store that a delivery is due again, unless it has changed since it was read."""

    async def replay_undelivered(self, endpoint: str, since: datetime, now: datetime) -> int:
        """Make the failed and missed deliveries of events since a moment due again; return their number."""


class Pings(Protocol):
    """The stored events."""

    async def store(self, event: CallbackEvent) -> None:
        """Store an event; a repetition changes nothing."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """The settings of an endpoint that its course's staff chooses."""

    url: str
    types: tuple[CallbackType, ...] = ()
    format: PayloadFormat = PayloadFormat.STANDARD
    description: str = ""
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Stores endpoints. ``most`` is the number of endpoints that a course may have."""

    endpoints: EndpointRegistry
    deliveries: DeliveryRegistry
    events: Pings
    rules: AddressRules
    most: int

    async def add(self, course: str, name: str, wishes: Wishes) -> Endpoint:
        """Store a new endpoint with a new secret.

        Raises:
            EndpointError: The address is not allowed.
            QuotaError: The course has as many endpoints as it may have.
            CallbackStateError: The course has an endpoint of that name.
        """
        self.rules.check_url(wishes.url)
        others = len(await self.endpoints.of_course(course))
        if others >= self.most:
            raise QuotaError(f"callback: {course} has {others} endpoints, {self.most} are allowed")
        endpoint = _with(Endpoint(token_hex(12), course, name, wishes.url, _secret(), now()), wishes)
        if not await self.endpoints.add(endpoint):
            raise CallbackStateError(f"name: {name} exists; change it, or rotate its secret if that is lost")
        return endpoint

    async def change(self, endpoint: Endpoint, wishes: Wishes) -> Endpoint:
        """Replace the settings of an endpoint, which keeps its secret.

        Raises:
            EndpointError: The address is not allowed.
            CallbackStateError: The endpoint has been removed meanwhile.
        """
        self.rules.check_url(wishes.url)
        changed = _with(replace(endpoint, url=wishes.url), wishes)
        if not await self.endpoints.put_settings(changed):
            raise CallbackStateError("the endpoint has been removed")
        return changed

    async def rotate(self, endpoint: Endpoint, *, hours: int) -> Endpoint:
        """Give an endpoint a new secret; for some hours the present one signs, too.

        Raises:
            CallbackStateError: Another request has changed the secret meanwhile.
        """
        rotated = endpoint.rotated(_secret(), now() + timedelta(hours=hours))
        if not await self.endpoints.put_secrets(rotated, before=endpoint.secret):
            raise CallbackStateError("another request has changed the secret: try again")
        return rotated

    async def remove(self, endpoint: Endpoint) -> None:
        """Remove an endpoint with its deliveries."""
        await self.endpoints.delete(endpoint)
        await self.deliveries.delete_of(endpoint.id)

    async def ping(self, endpoint: Endpoint) -> CallbackEvent:
        """Send a test event to an endpoint.

        Raises:
            CallbackStateError: The endpoint is disabled.
        """
        _demand_enabled(endpoint)
        event = CallbackEvent.ping(endpoint.course, endpoint.id, token_hex(12), name=endpoint.name, at=now())
        await self.events.store(event)
        return event

    async def replay(self, endpoint: Endpoint, delivery: Delivery) -> Delivery:
        """Send a delivery again, at once and with a new schedule.

        Raises:
            CallbackStateError: The endpoint is disabled, or the delivery changes just now.
        """
        _demand_enabled(endpoint)
        replayed = delivery.replayed(now())
        if not await self.deliveries.replay(replayed, of=delivery):
            raise CallbackStateError("the delivery changes just now: try again")
        return replayed

    async def replay_since(self, endpoint: Endpoint, since: datetime) -> int:
        """Send all failed and missed deliveries of events since a time again; return their number.

        Raises:
            CallbackStateError: The endpoint is disabled, or events of that time are no longer kept.
        """
        _demand_enabled(endpoint)
        at = now()
        if at - since > timedelta(days=KEPT_DAYS):
            raise CallbackStateError(f"since: expected a time of the last {KEPT_DAYS} days; earlier events are removed")
        return await self.deliveries.replay_undelivered(endpoint.id, since, at)


def _secret() -> str:
    return new_secret(token_bytes(SECRET_BYTES))


def _with(endpoint: Endpoint, wishes: Wishes) -> Endpoint:
    changed = replace(
        endpoint, types=tuple(dict.fromkeys(wishes.types)), format=wishes.format, description=wishes.description
    )
    if wishes.enabled:
        return changed if changed.is_enabled else changed.enable()
    return changed.disable(DISABLED_BY_STAFF, now()) if changed.is_enabled else changed


def _demand_enabled(endpoint: Endpoint) -> None:
    if not endpoint.is_enabled:
        raise CallbackStateError(f"the endpoint is disabled: {endpoint.disabled}; enable it first")
