"""The notifier service: it sends events of courses to their endpoints, with retries over days."""

from collections.abc import Callable
from datetime import datetime, timedelta

from broadway.lifecycle.callbacks import Announcing, grades_published, regrade_ready
from broadway.lifecycle.grade_books import Publications
from broadway.mongo.store import Store
from broadway.notifier.attempts import Attempts
from broadway.notifier.facts import Facts
from broadway.notifier.fan_out import FanOut
from broadway.notifier.notify import Notifier
from broadway.notifier.transport import Lookups, Resolve
from broadway.notifier.turns import Turns
from broadway.notifier.wake import listen
from broadway.rabbit.client import Rabbit
from broadway.runtime.clock import now
from broadway.runtime.health import Health
from broadway.service import Stop, background, instance
from broadway.settings.programs import NotifierSettings


async def serve(settings: NotifierSettings, *, store: Store, rabbit: Rabbit, stop: Stop) -> None:
    """Notify endpoints until ``stop`` is set."""
    notifier = notifier_of(settings, store)
    health = Health(
        {"store": store.ping, "broker": rabbit.ping},
        vital=frozenset({"store"}),  # without the broker, callbacks are sent a little later
        file=settings.health_file,
    )
    waking = listen(rabbit, store.callbacks.events, notifier.wake, tag=instance("notifier"))
    async with background(notifier.run(), waking, health.run()):
        stop.heed()
        await stop.wait()


def notifier_of(
    settings: NotifierSettings, store: Store, *, clock: Callable[[], datetime] = now, resolve: Resolve | None = None
) -> Notifier:
    """Return the notifier of a store."""
    events, endpoints, deliveries = store.callbacks.events, store.callbacks.endpoints, store.callbacks.deliveries
    lease = timedelta(seconds=settings.callback.lease)
    attempts = Attempts(settings.callback.rules, settings.tls, clock, resolve or Lookups())
    return Notifier(
        events=events,
        deliveries=deliveries,
        fan_out=FanOut(events, endpoints, deliveries, Facts(store.jobs, store.runs), clock, lease),
        turns=Turns(events, endpoints, deliveries, store.audit, attempts, clock, lease),
        clock=clock,
        announcing=(
            Announcing(Publications(store.grades.books), events, grades_published),
            Announcing(store.grades.regrades, events, regrade_ready),
        ),
        poll=settings.callback.poll,
    )
