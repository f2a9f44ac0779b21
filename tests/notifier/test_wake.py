"""The broker wakes the notifier: only facts about courses that have endpoints reach it."""

import asyncio
from datetime import timedelta
from secrets import token_hex

from callback_world import World
from harness import Place, until
from receivers import Receiver

from broadway.domain.job import Outcome, Phase
from broadway.messages.events import JobSettled
from broadway.messages.topology import EVENTS, event_key, notifier_queue
from broadway.notifier.wake import listen
from broadway.ports import StoreError
from broadway.rabbit.client import Rabbit
from broadway.service import background


def settled(course: str) -> JobSettled:
    return JobSettled(
        course=course,
        run_id=token_hex(12),
        job_id=token_hex(12),
        generation=1,
        phase=Phase.STUDENTS,
        outcome=Outcome.SUCCEEDED,
        reason="",
        seconds=1.0,
    )


async def test_a_fact_about_a_course_with_an_endpoint_sends_its_callbacks_at_once(
    world: World, receiver: Receiver, shared_place: Place
) -> None:
    await world.endpoint(receiver.port)
    notifier = world.notifier(receiver.port)
    notifier.poll = 3600
    tag = f"notifier-{token_hex(4)}"
    async with Rabbit.connect(shared_place.amqp_url, service="test") as rabbit:
        await rabbit.declare_topology()
        async with background(notifier.run(), listen(rabbit, world.store.callbacks.events, notifier.wake, tag=tag)):
            await until(lambda: rabbit.is_taken(notifier_queue(tag, [world.course])))
            event = await world.emit()
            world.clock.now += timedelta(seconds=1)

            async def is_received() -> bool:
                await rabbit.publish(EVENTS, event_key("job", "settled", world.course), settled(world.course))
                return receiver.ids == [event.id]

            await until(is_received)


def test_only_facts_about_courses_with_endpoints_reach_the_notifier() -> None:
    keys = [binding.key for binding in notifier_queue("n1", {"cs2", "cs1"}).bindings]
    facts = ("job.settled", "run.finished", "run.failed")
    assert keys == [f"{fact}.{course}" for course in ("cs1", "cs2") for fact in facts]


async def test_a_store_that_is_unavailable_does_not_end_the_notifier(world: World, receiver: Receiver) -> None:
    await world.endpoint(receiver.port)
    notifier = world.notifier(receiver.port)
    notifier.poll = 0.05
    event = await world.emit()
    failing = asyncio.Event()

    class Failing:
        """The stored deliveries, of a store that is unavailable at first."""

        def __init__(self) -> None:
            self._real = notifier.deliveries

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

        async def due_endpoints(self, now: object) -> object:
            if not failing.is_set():
                failing.set()
                raise StoreError("away")
            return await self._real.due_endpoints(now)

    notifier.deliveries = Failing()
    async with background(notifier.run()):
        await until(lambda: receiver.ids == [event.id])
