"""A course with endpoints for callbacks in a real store, and notifiers whose clock and resolver belong to the test."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Any

from broadway.domain.callback import CallbackEvent
from broadway.domain.callback_delivery import Delivery, Endpoint, new_secret
from broadway.mongo.store import Store
from broadway.notifier.notify import Notifier
from broadway.notifier.serve import notifier_of
from broadway.runtime.clock import now
from broadway.settings.programs import NotifierSettings


@dataclass
class Clock:
    """The time of a test."""

    now: datetime = field(default_factory=now)

    def __call__(self) -> datetime:
        return self.now

    def catch_up(self) -> None:
        """Go to a second after the present time, by which the API has stored its times."""
        self.now = now() + timedelta(seconds=1)

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class Names:
    """The addresses of every name, in turn for the lookups; the last ones stay."""

    answers: list[Sequence[str] | Exception] = field(default_factory=lambda: [["127.0.0.1"]])
    lookups: list[str] = field(default_factory=list)

    async def __call__(self, host: str, _port: int) -> Sequence[str]:
        self.lookups.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class World:
    """A course with endpoints, and notifiers that serve them."""

    store: Store
    course: str
    clock: Clock = field(default_factory=Clock)
    names: Names = field(default_factory=Names)

    def notifier(self, port: int, *, within: float = 15, allow: str = "127.0.0.0/8") -> Notifier:
        """Return a new notifier, as after a restart. Delays have no jitter."""
        made = NotifierSettings.model_validate({"callback": {"allow": allow, "ports": str(port), "http": True}})
        notifier = notifier_of(made, self.store, clock=self.clock, resolve=self.names)
        attempts = replace(notifier.turns.attempts, within=within)
        notifier.turns = replace(notifier.turns, attempts=attempts, jitter=lambda: 0.0)
        return notifier

    async def endpoint(self, port: int, name: str = "lms", *, url: str = "", **settings: Any) -> Endpoint:
        url = url or f"http://receiver.example:{port}/hook"
        secret = new_secret(token_hex(16).encode())
        endpoint = Endpoint(token_hex(12), self.course, name, url, secret, self.clock(), **settings)
        assert await self.store.callbacks.endpoints.add(endpoint)
        return endpoint

    async def emit(self, subject: str = "") -> CallbackEvent:
        event = CallbackEvent.hook_unmatched(
            self.course, "git", subject or token_hex(6), reason="unknown", at=self.clock()
        )
        await self.store.callbacks.events.emit(event)
        return event

    async def deliveries(self, endpoint: Endpoint) -> list[Delivery]:
        return await self.store.callbacks.deliveries.latest(endpoint.id, before=None, limit=500)

    async def delivery(self, endpoint: Endpoint) -> Delivery:
        (found,) = await self.deliveries(endpoint)
        return found

    async def fresh(self, endpoint: Endpoint) -> Endpoint:
        found = await self.store.callbacks.endpoints.by_id(endpoint.id)
        assert found is not None
        return found
