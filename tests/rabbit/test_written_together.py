"""Messages that are published together are written together, unless the broker may have stopped reading."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiormq
import pytest
from harness import Place

from broadway.domain.job import JobClass
from broadway.messages.events import JobQueued
from broadway.messages.topology import JOBS, course_key, course_queue
from broadway.rabbit import calls
from broadway.rabbit.client import Rabbit
from broadway.rabbit.publishing import MOST_UNWRITTEN

QUEUE, KEY = course_queue("cs1", JobClass.BULK), course_key("cs1", JobClass.BULK)


@pytest.fixture
async def rabbit(place: Place) -> AsyncIterator[Rabbit]:
    async with Rabbit.connect(place.amqp_url, service="test@here") as rabbit:
        await rabbit.declare_topology()
        await rabbit.declare(QUEUE)
        yield rabbit


@dataclass
class Waits:
    """Whether each message waited until it was written. The first ``silent`` messages get no confirm."""

    silent: int = 0
    waited: list[bool] = field(default_factory=list)

    def observe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        publish = aiormq.Channel.basic_publish

        async def observed(channel: aiormq.Channel, *args: Any, wait: bool = True, **kwargs: Any) -> Any:
            self.waited.append(wait)
            if len(self.waited) <= self.silent:
                await asyncio.Event().wait()
            return await publish(channel, *args, wait=wait, **kwargs)

        monkeypatch.setattr(aiormq.Channel, "basic_publish", observed)


async def publish(rabbit: Rabbit, count: int) -> None:
    jobs = (
        JobQueued(course="cs1", run_id="r1", job_id=f"j{number}", generation=1, job_class=JobClass.BULK)
        for number in range(count)
    )
    await asyncio.gather(*(rabbit.publish(JOBS, KEY, job) for job in jobs))


async def test_messages_do_not_wait_for_each_other_until_many_are_unconfirmed(
    rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(rabbit, 1)
    waits = Waits()
    waits.observe(monkeypatch)

    await publish(rabbit, 2 * MOST_UNWRITTEN)

    assert waits.waited[0] is False
    assert waits.waited.count(True) == MOST_UNWRITTEN
    assert await rabbit.depth(QUEUE) == 2 * MOST_UNWRITTEN + 1


async def test_while_the_broker_is_silent_nothing_is_sent_before_the_last_message_is_written(
    rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls.call.__wrapped__, "__kwdefaults__", {"seconds": 0.1})  # type: ignore[attr-defined]
    waits = Waits(silent=2)
    waits.observe(monkeypatch)

    await publish(rabbit, 1)
    await publish(rabbit, 1)

    assert waits.waited == [False, True, True, False]
