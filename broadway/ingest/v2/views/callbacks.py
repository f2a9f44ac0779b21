"""Endpoints for callbacks and deliveries as resources."""

from typing import Any

from broadway.domain.callback import CallbackEvent
from broadway.domain.callback_delivery import Delivery, Endpoint
from broadway.messages.resources.callbacks import (
    CallbackAttemptView,
    CallbackDeliveryDetail,
    CallbackDeliveryView,
    CallbackView,
    NewCallbackView,
)


def callback_view(endpoint: Endpoint) -> CallbackView:
    return CallbackView(**_fields(endpoint))


def new_callback_view(endpoint: Endpoint) -> NewCallbackView:
    """Return an endpoint with its secret, which is shown once."""
    return NewCallbackView(**_fields(endpoint), secret=endpoint.secret)


def callback_delivery_view(delivery: Delivery, endpoint: Endpoint) -> CallbackDeliveryView:
    return CallbackDeliveryView(**_delivery(delivery, endpoint))


def callback_delivery_detail(
    delivery: Delivery, endpoint: Endpoint, event: CallbackEvent | None
) -> CallbackDeliveryDetail:
    attempts = [
        CallbackAttemptView(
            at=answer.at, status=answer.status, error=answer.error, seconds=answer.seconds, answer=answer.body
        )
        for answer in delivery.answers
    ]
    data = dict(event.data) if event else None
    return CallbackDeliveryDetail(**_delivery(delivery, endpoint), attempts=attempts, data=data)


def _fields(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "name": endpoint.name,
        "url": endpoint.url,
        "types": list(endpoint.types),
        "format": endpoint.format,
        "description": endpoint.description,
        "enabled": endpoint.is_enabled,
        "disabled_reason": endpoint.disabled,
        "disabled_at": endpoint.disabled_at,
        "failing_since": endpoint.failing_since,
        "paused_until": endpoint.paused_until,
        "previous_secret_until": endpoint.previous_until,
        "created_at": endpoint.created_at,
    }


def _delivery(delivery: Delivery, endpoint: Endpoint) -> dict[str, Any]:
    last = delivery.answers[-1] if delivery.answers else None
    return {
        "id": delivery.id,
        "callback": endpoint.name,
        "event": delivery.event,
        "type": delivery.type,
        "at": delivery.at,
        "state": delivery.state,
        "attempt": delivery.attempt,
        "due_at": delivery.due_at,
        "status": last.status if last else None,
        "error": last.error if last else "",
    }
