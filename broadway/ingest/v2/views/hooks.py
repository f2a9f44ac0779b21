"""Webhooks and deliveries as resources."""

from typing import Any

from broadway.domain.job import Phase
from broadway.domain.run import job_id
from broadway.domain.webhook import Delivery, Hook
from broadway.messages.resources.hooks import DeliveryDetail, DeliveryView, HookView


def hook_view(hook: Hook) -> HookView:
    config = hook.config
    return HookView(
        name=hook.name,
        url=f"/api/v2/courses/{hook.course}/hooks/{hook.name}",
        assignment=config.assignment,
        format=config.format.value,
        secrets=len(config.secrets),
        branches=list(config.branches),
        tags=list(config.tags),
        only_latest=config.only_latest,
        quota=config.quota,
        env=None if hook.is_older else list(config.env),
    )


def delivery_view(delivery: Delivery) -> DeliveryView:
    return DeliveryView(**_delivery(delivery))


def delivery_detail(delivery: Delivery) -> DeliveryDetail:
    return DeliveryDetail(**_delivery(delivery), body=delivery.body)


def _delivery(delivery: Delivery) -> dict[str, Any]:
    push = delivery.push
    return {
        "id": delivery.id,
        "hook": delivery.hook,
        "delivery": delivery.delivery_id,
        "state": delivery.state,
        "reason": delivery.reason,
        "assignment": delivery.assignment,
        "student": delivery.student,
        "version": push.version if push else None,
        "ref": push.ref if push else None,
        "repository": push.repository if push else None,
        "run": delivery.run_id,
        "job": job_id(delivery.run_id, Phase.STUDENTS, 0) if delivery.run_id else None,
        "received_at": delivery.received_at,
        "retry_at": delivery.retry_at,
        "times": delivery.times,
    }
