"""Messages with several events: each event is handled, retried and parked alone; the last one settles its message."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import pytest
from harness import Place, until

from broadway.domain.job import JobClass
from broadway.messages.batches import MAX_BYTES, JobsQueued
from broadway.messages.envelope import decode, decode_dead_letter, encode
from broadway.messages.events import DeadLetter, Event, JobQueued
from broadway.messages.topology import DEAD, JOBS, RESULTS, course_key, course_queue
from broadway.ports import GiveBack, Reject, Retry
from broadway.rabbit.client import Rabbit
from broadway.rabbit.deliveries import FAILURES
from broadway.rabbit.subscription import Timings

BACKLOG = course_queue("cs1", JobClass.BULK)
KEY = course_key("cs1", JobClass.BULK)
EAGER = Timings(back_off_after_a_bug=0.01)


def queued(number: int, course: str = "cs1") -> JobQueued:
    return JobQueued(course=course, run_id="r1", job_id=f"j{number}", generation=1, job_class=JobClass.BULK)


def batch(*numbers: int) -> JobsQueued:
    return JobsQueued(parts=[queued(number) for number in numbers])


def number_of(event: Event) -> int:
    assert isinstance(event, JobQueued)
    return int(event.job_id[1:])


@pytest.fixture
async def rabbit(place: Place) -> AsyncIterator[Rabbit]:
    async with Rabbit.connect(place.amqp_url, service="test@here") as rabbit:
        await rabbit.declare_topology()
        await rabbit.declare(BACKLOG)
        yield rabbit


class Jobs:
    """A handler that counts its calls by job, and plays a script: errors of a job's first calls, and jobs that wait."""

    def __init__(self, *, errors: dict[int, list[Exception]] | None = None, waiting: set[int] | None = None) -> None:
        self.errors = errors or {}
        self.waiting = waiting or set()
        self.gate = asyncio.Event()
        self.calls: Counter[int] = Counter()
        self.done: Counter[int] = Counter()

    async def __call__(self, event: Event) -> None:
        number = number_of(event)
        self.calls[number] += 1
        if left := self.errors.get(number):
            raise left.pop(0)
        if number in self.waiting:
            await self.gate.wait()
        self.done[number] += 1


async def letters(rabbit: Rabbit, expected: int) -> list[DeadLetter]:
    """Wait for a number of dead letters, and return them."""
    found: list[DeadLetter] = []

    async def keep(event: Event) -> None:
        assert isinstance(event, DeadLetter)
        found.append(event)

    async with rabbit.consume(DEAD, keep, tag="dead", decoder=decode_dead_letter, prefetch=10):
        await until(lambda: len(found) >= expected)
    assert len(found) == expected
    return found


async def has_left(rabbit: Rabbit, expected: int) -> None:
    async def is_so() -> bool:
        return await rabbit.depth(BACKLOG) == expected

    await until(is_so)


async def send(place: Place, event: Event, queue: str, body: bytes | None = None, **more: Any) -> None:
    """Publish a message as a stranger without a verified name."""
    wire = encode(event, source="/stranger")
    async with await aio_pika.connect(place.amqp_url) as connection, connection.channel() as channel:
        message = aio_pika.Message(body or wire.body, headers=dict(wire.headers), message_id=wire.message_id, **more)
        await channel.default_exchange.publish(message, queue)


async def test_a_message_is_acknowledged_with_its_last_event(rabbit: Rabbit) -> None:
    jobs = Jobs(waiting={2})
    await rabbit.publish(JOBS, KEY, batch(1, 2, 3))
    async with rabbit.consume(BACKLOG, jobs, tag="first"):
        await until(lambda: jobs.done.keys() == {1, 3})
    await has_left(rabbit, 1)  # and all of it is handled again, as after a crash before the acknowledgment

    async with rabbit.consume(BACKLOG, jobs, tag="second"):
        await until(lambda: jobs.done[1] == 2 and jobs.calls[2] == 2)
        jobs.gate.set()
        await until(lambda: jobs.done == {1: 2, 2: 1, 3: 2})
    await has_left(rabbit, 0)


async def test_one_event_is_tried_again_and_the_others_are_not(rabbit: Rabbit) -> None:
    again: list[Exception] = [Retry("not now", delay=0), ZeroDivisionError("a bug"), Retry("not yet", delay=0)]
    jobs = Jobs(errors={2: again})
    await rabbit.publish(JOBS, KEY, batch(1, 2, 3))
    async with rabbit.consume(BACKLOG, jobs, tag="test", timings=EAGER):
        await until(lambda: jobs.done == {1: 1, 2: 1, 3: 1})
    assert jobs.calls == {1: 1, 2: 4, 3: 1}
    await has_left(rabbit, 0)


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ([Reject("no such job")], "no such job"),
        ([ZeroDivisionError("a bug") for _ in range(FAILURES)], "its handler failed 5 times"),
    ],
    ids=["rejected", "a bug"],
)
async def test_an_event_that_cannot_be_handled_is_parked_alone_in_its_single_form(
    rabbit: Rabbit, errors: list[Exception], reason: str
) -> None:
    jobs = Jobs(errors={2: errors})
    await rabbit.publish(JOBS, KEY, batch(1, 2, 3))
    async with rabbit.consume(BACKLOG, jobs, tag="test", timings=EAGER):
        await until(lambda: jobs.done == {1: 1, 3: 1})
        (letter,) = await letters(rabbit, 1)
    assert letter.about == queued(2)
    assert (letter.message_id, letter.queue, letter.is_proven) == (queued(2).identity, BACKLOG.name, True)
    assert letter.reason.startswith(reason)
    await has_left(rabbit, 0)


async def test_an_event_that_is_given_back_returns_its_message_after_the_last_event(rabbit: Rabbit) -> None:
    jobs = Jobs(errors={2: [GiveBack("for another consumer")]}, waiting={3})
    await rabbit.publish(JOBS, KEY, batch(1, 2, 3))
    async with rabbit.consume(BACKLOG, jobs, tag="test"):
        await until(lambda: jobs.calls[2] == 1 and jobs.calls[3] == 1)
        jobs.gate.set()
        await until(lambda: jobs.done == {1: 2, 2: 1, 3: 2})
    await has_left(rabbit, 0)


async def test_a_message_that_is_delivered_again_while_its_events_run_starts_nothing(rabbit: Rabbit) -> None:
    jobs = Jobs(waiting={2, 4})
    async with rabbit.consume(BACKLOG, jobs, tag="test", prefetch=5):
        for sent in (batch(1, 2), batch(1, 2), batch(3, 4)):
            await rabbit.publish(JOBS, KEY, sent)
        await until(lambda: jobs.calls == {1: 1, 2: 1, 3: 1, 4: 1})
        jobs.gate.set()
        await until(lambda: jobs.done == {1: 1, 2: 1, 3: 1, 4: 1})
    assert jobs.calls == {1: 1, 2: 1, 3: 1, 4: 1}
    await has_left(rabbit, 0)


async def test_a_cancelled_event_is_handled_again_while_others_of_its_message_run(rabbit: Rabbit) -> None:
    jobs = Jobs(waiting={1})

    async def handle(event: Event) -> None:
        await jobs(event)
        if jobs.calls[2] == 1 and number_of(event) == 2:
            raise asyncio.CancelledError

    await rabbit.publish(JOBS, KEY, batch(1, 2))
    async with rabbit.consume(BACKLOG, handle, tag="test"):
        await until(lambda: jobs.done[2] == 2)
        jobs.gate.set()
        await until(lambda: jobs.done[1] == 1)
    assert jobs.calls == {1: 1, 2: 2}
    await has_left(rabbit, 0)


async def test_messages_wait_while_enough_events_are_handled(rabbit: Rabbit) -> None:
    jobs = Jobs(waiting={1, 2, 3, 4, 5, 6})
    for sent in (batch(1, 2), batch(3, 4), batch(5, 6)):
        await rabbit.publish(JOBS, KEY, sent)
    async with rabbit.consume(BACKLOG, jobs, tag="first", prefetch=10, most_events=3):
        await has_left(rabbit, 0)
        await until(lambda: len(jobs.calls) == 4)
    await has_left(rabbit, 3)  # also those that waited
    assert jobs.calls == {1: 1, 2: 1, 3: 1, 4: 1}

    jobs.gate.set()
    async with rabbit.consume(BACKLOG, jobs, tag="second", prefetch=10, most_events=3):
        await until(lambda: len(jobs.done) == 6)
    await has_left(rabbit, 0)


async def test_events_that_are_handled_at_once_need_no_handler(rabbit: Rabbit) -> None:
    jobs, noted = Jobs(), list[int]()

    def note(event: Event) -> bool:
        noted.append(number_of(event))
        return number_of(event) != 2

    for sent in (batch(1, 2, 3), batch(4, 5)):
        await rabbit.publish(JOBS, KEY, sent)
    async with rabbit.consume(BACKLOG, jobs, tag="test", at_once=note):
        await until(lambda: len(noted) == 5)
        await until(lambda: jobs.done)
    assert (noted, jobs.calls) == ([1, 2, 3, 4, 5], {2: 1})
    await has_left(rabbit, 0)


async def test_a_batch_that_is_too_large_is_parked_as_a_whole(rabbit: Rabbit, place: Place) -> None:
    jobs = Jobs()
    async with rabbit.consume(BACKLOG, jobs, tag="test"):
        await send(place, batch(1, 2), BACKLOG.name, b"[" * (MAX_BYTES + 1))
        (letter,) = await letters(rabbit, 1)
    assert "bytes and was not decoded: 1048576 are allowed" in letter.reason
    assert not jobs.calls


async def test_events_that_their_sender_may_not_send_are_dropped(rabbit: Rabbit, place: Place) -> None:
    jobs = Jobs()
    await rabbit.declare(RESULTS)
    async with rabbit.consume(RESULTS, jobs, tag="test", at_once=lambda _: True):
        await send(place, batch(1, 2), RESULTS.name)

        async def is_settled() -> bool:
            return await rabbit.depth(RESULTS) == 0

        await until(is_settled)
    assert not jobs.calls
    assert (await rabbit.depth(RESULTS), await rabbit.depth(DEAD)) == (0, 0)


async def test_a_taker_of_single_messages_parks_a_batch(rabbit: Rabbit) -> None:
    await rabbit.publish(JOBS, KEY, batch(1, 2))
    await rabbit.publish(JOBS, KEY, queued(3))
    async with rabbit.single_take(BACKLOG, tag="taker") as taker:
        taken = await taker.take()
        assert taken
        assert taken.event == queued(3)
        await taken.ack()
    (letter,) = await letters(rabbit, 1)
    assert letter.about == batch(1, 2)
    assert "expected a message with one event, not 2" in letter.reason


def test_the_same_events_make_the_same_message() -> None:
    wires = [encode(batch(*numbers), source="/x") for numbers in ((1, 2), (1, 2), (2, 1), (1, 2, 3))]

    assert len({wire.message_id for wire in wires}) == 3
    assert decode(wires[0].headers, wires[0].body) == batch(1, 2)
