"""The broker layer on a real broker: confirmed publishing, settling, and recovery from broken connections."""

import asyncio
import gc
import json
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import aio_pika
import httpx2
import pytest
from aio_pika.abc import AbstractExchange, AbstractIncomingMessage, AbstractQueue
from aio_pika.robust_queue import RobustQueue
from harness import PATIENCE, Place, free_port, until
from servers import Node
from yarl import URL

from broadway.domain.job import JobClass, Outcome, Phase
from broadway.messages.envelope import decode
from broadway.messages.events import Event, JobQueued, JobSettled
from broadway.messages.topology import (
    CONTROL,
    DEAD,
    DEAD_LETTERS,
    EVENTS,
    JOBS,
    POISON_AFTER,
    RESULTS,
    UNROUTED_FACTS,
    Binding,
    Queue,
    control_key,
    course_key,
    course_queue,
    dead_letter_key,
    event_key,
    ready_key,
    ready_queue,
)
from broadway.ports import Handler, PublishError, Reject, Retry
from broadway.rabbit.client import Rabbit
from broadway.rabbit.connecting import BrokerUnreachableError, connect
from broadway.rabbit.declaring import PING
from broadway.rabbit.deliveries import FAILURES
from broadway.rabbit.publishing import KEPT_OF_OVERSIZED
from broadway.rabbit.single_take import SingleTake
from broadway.rabbit.subscription import Timings
from broadway.runtime.cancellation import end

BACKLOG = course_queue("cs1", JobClass.BULK)
KEY = course_key("cs1", JobClass.BULK)
READY = ready_queue("default")
EAGER = Timings(back_off_after_a_bug=0.01, again_after=0.1)
WATCHFUL = Timings(watch_interval=0.1)


def event(number: int = 0) -> JobQueued:
    return JobQueued(course="cs1", run_id="r1", job_id=f"j{number}", generation=1, job_class=JobClass.BULK)


def number_of(received: Event) -> int:
    assert isinstance(received, JobQueued)
    return int(received.job_id[1:])


@dataclass(frozen=True)
class Management:
    """An operator's view of this virtual host, and an operator's actions in it."""

    http: httpx2.AsyncClient
    vhost: str

    async def connections(self) -> list[dict[str, Any]]:
        # Without statistics, new connections are listed at once.
        answer = await self.http.get("/api/connections?disable_stats=true")
        return [found for found in answer.raise_for_status().json() if found["vhost"] == self.vhost]

    async def close_connections(self) -> None:
        """Wait for connections, and close all of them."""
        for connection in await until(self.connections):
            await until(partial(self._has_closed, connection["name"]))

    async def _has_closed(self, name: str) -> bool:
        """Close a connection, and return whether it is gone. Without statistics yet, it is listed but not found."""
        answer = await self.http.delete(f"/api/connections/{name}")
        assert answer.status_code in (204, 404)
        return all(found["name"] != name for found in await self.connections())

    async def close_connection(self, name: str) -> None:
        (await self.http.delete(f"/api/connections/{name}")).raise_for_status()

    async def connection_names(self) -> set[str]:
        """Return the names of the connections whose statistics have been gathered."""
        answer = await self.http.get(f"/api/vhosts/{self.vhost}/connections")
        return {found["client_properties"]["connection_name"] for found in answer.raise_for_status().json()}

    async def consuming(self) -> set[str]:
        """Return the addresses of connections with consumers, except those whose channel is not known yet."""
        found = [consumer["channel_details"] for consumer in await self.consumers()]
        return {channel["connection_name"] for channel in found if channel}

    async def consumers(self) -> list[dict[str, Any]]:
        answer = await self.http.get(f"/api/consumers/{self.vhost}")
        return list(answer.raise_for_status().json())

    async def messages(self, queue: Queue) -> int:
        """Count a queue's messages, ready or unacknowledged."""
        answer = await self.http.get(f"/api/queues/{self.vhost}?disable_stats=true&enable_queue_totals=true")
        (counted,) = [found["messages"] for found in answer.raise_for_status().json() if found["name"] == queue.name]
        return int(counted)

    async def delete(self, queue: Queue) -> None:
        (await self.http.delete(f"/api/queues/{self.vhost}/{queue.name}")).raise_for_status()

    async def take(self, queue: Queue, count: int = 10) -> list[dict[str, Any]]:
        body = {"count": count, "ackmode": "ack_requeue_false", "encoding": "auto"}
        answer = await self.http.post(f"/api/queues/{self.vhost}/{queue.name}/get", json=body)
        return list(answer.raise_for_status().json())


@pytest.fixture
async def management(broker_node: Node, place: Place) -> AsyncIterator[Management]:
    auth = (broker_node.username, broker_node.password)
    async with httpx2.AsyncClient(base_url=broker_node.management_url, auth=auth) as http:
        yield Management(http, place.name)


@pytest.fixture
async def rabbit(place: Place) -> AsyncIterator[Rabbit]:
    async with Rabbit.connect(place.amqp_url, service="test@here") as rabbit:
        await rabbit.declare_topology()
        await rabbit.declare(BACKLOG)
        yield rabbit


def depth_is(rabbit: Rabbit, queue: Queue, expected: int) -> Callable[[], Any]:
    async def has_depth() -> bool:
        return await rabbit.depth(queue) == expected

    return has_depth


def is_settled(rabbit: Rabbit, management: Management, queue: Queue) -> Callable[[], Any]:
    async def holds_nothing() -> bool:
        return await management.messages(queue) == 0 and await rabbit.depth(queue) == 0

    return holds_nothing


class Gate:
    """A handler that records its messages and blocks until it is opened."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.finished: list[int] = []
        self.cancelled: list[int] = []
        self.most = 0
        self.open = asyncio.Event()

    async def __call__(self, received: Event) -> None:
        number = number_of(received)
        self.started.append(number)
        self.most = max(self.most, self.running)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        self.finished.append(number)

    @property
    def running(self) -> int:
        return len(self.started) - len(self.finished) - len(self.cancelled)


def once(problem: Exception | None = None, *, times: int = 1) -> tuple[Handler, list[int]]:
    """Return a handler that fails at the first ``times`` messages, and the list of the numbers it receives."""
    seen: list[int] = []

    async def handle(received: Event) -> None:
        seen.append(number_of(received))
        if len(seen) <= times and problem:
            raise problem

    return handle, seen


# Publishing


async def test_publishing_an_unroutable_message_fails(rabbit: Rabbit) -> None:
    with pytest.raises(PublishError) as refusal:
        await rabbit.publish(JOBS, course_key("unheard-of", JobClass.BULK), event())

    assert not refusal.value.unknown
    await rabbit.publish(JOBS, KEY, event())
    assert await rabbit.depth(BACKLOG) == 1


async def test_an_unrouted_fact_is_kept_in_a_queue(rabbit: Rabbit) -> None:
    await rabbit.publish(EVENTS, event_key("nothing", "heard", "cs1"), event())

    await until(depth_is(rabbit, UNROUTED_FACTS, 1))


async def test_a_command_without_listeners_is_not_an_error(rabbit: Rabbit) -> None:
    await rabbit.publish(CONTROL, control_key("nobody"), event())

    assert await rabbit.depth(DEAD) == 0


async def test_a_confirmed_message_is_in_the_queue_and_can_be_read(rabbit: Rabbit, management: Management) -> None:
    await rabbit.declare(READY)
    await rabbit.publish(JOBS, ready_key("default"), event())

    (message,) = await management.take(READY)
    properties = message["properties"]
    assert (message["exchange"], message["routing_key"]) == (JOBS.name, "ready.default")
    assert json.loads(message["payload"]) == event().model_dump(mode="json", exclude={"traceparent"})
    assert properties["delivery_mode"] == 2
    assert properties["content_type"] == "application/json"
    assert properties["message_id"] == event().identity
    assert properties["type"] == "io.broadway.job.queued.v1"
    assert properties["app_id"] == "broadway-test@here"
    headers = properties["headers"]
    assert headers["ce-type"] == "io.broadway.job.queued.v1"
    assert headers["ce-subject"] == "cs1/r1/j0"
    assert headers["ce-source"] == "/broadway/test@here"


async def test_a_command_is_not_written_to_disk(rabbit: Rabbit, management: Management) -> None:
    listening = Queue("heard", bindings=(Binding(CONTROL.name, "#"),))
    await rabbit.declare(listening)
    await rabbit.publish(CONTROL, control_key("all"), event())

    (message,) = await management.take(listening)
    assert message["properties"]["delivery_mode"] == 1


async def test_many_messages_at_once_are_all_confirmed(rabbit: Rabbit) -> None:
    await asyncio.gather(*(rabbit.publish(JOBS, KEY, event(number)) for number in range(300)))

    assert await rabbit.depth(BACKLOG) == 300


async def test_publishing_continues_after_the_connections_were_closed(rabbit: Rabbit, management: Management) -> None:
    await rabbit.publish(JOBS, KEY, event(0))
    for number in (1, 2):
        await management.close_connections()
        await rabbit.publish(JOBS, KEY, event(number))

    await until(depth_is(rabbit, BACKLOG, 3))
    await until(lambda: rabbit.is_connected)


async def test_messages_in_flight_when_the_connection_closes_arrive_at_least_once(
    rabbit: Rabbit, management: Management
) -> None:
    await rabbit.declare(READY)
    async with asyncio.TaskGroup() as group:
        for number in range(300):
            group.create_task(rabbit.publish(JOBS, ready_key("default"), event(number)))
        group.create_task(management.close_connections())

    arrived = [message["properties"]["message_id"] for message in await management.take(READY, 1000)]
    assert set(arrived) == {event(number).identity for number in range(300)}


# Declaring and inspecting


async def test_declaring_again_changes_nothing(rabbit: Rabbit) -> None:
    await rabbit.publish(JOBS, KEY, event())
    await rabbit.declare_topology()
    await rabbit.declare(BACKLOG)

    assert await rabbit.depth(BACKLOG) == 1


async def test_declaring_a_queue_with_different_arguments_fails(rabbit: Rabbit) -> None:
    with pytest.raises(PublishError, match="queues not declared"):
        await rabbit.declare(Queue(BACKLOG.name, arguments={"x-queue-type": "classic"}))

    await rabbit.publish(JOBS, KEY, event())


async def test_a_missing_queue_has_no_depth(rabbit: Rabbit) -> None:
    with pytest.raises(PublishError, match=r"no depth of broadway\.ready\.nowhere"):
        await rabbit.depth(ready_queue("nowhere"))


async def test_the_error_for_an_unreachable_broker_hides_the_password() -> None:
    port = free_port()
    with pytest.raises(BrokerUnreachableError, match=f"127.0.0.1:{port}") as problem:
        async with Rabbit.connect(f"amqp://user:hush-hush@127.0.0.1:{port}/", service="test"):
            pass

    assert "hush-hush" not in str(problem.value)


async def test_an_attempt_to_connect_that_is_given_up_leaves_no_task_behind() -> None:
    accepted, over = asyncio.Event(), asyncio.Event()

    async def be_silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await over.wait()
        writer.close()

    async with await asyncio.start_server(be_silent, "127.0.0.1", port := free_port()):
        before = asyncio.all_tasks()
        attempt = asyncio.create_task(connect(f"amqp://guest:guest@127.0.0.1:{port}/", name="test", tls=None))
        await accepted.wait()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        await until(lambda: all("be_silent" in repr(task) for task in asyncio.all_tasks() - before))
        over.set()


async def test_a_login_that_fails_leaves_no_connection_to_a_finalizer() -> None:
    errors = list[BaseException]()
    try:
        await Rabbit.reach(f"amqp://127.0.0.1:{free_port()}/", within=PATIENCE)
    except BrokerUnreachableError as error:
        errors.append(error)
    assert errors

    def forget() -> None:
        errors.clear()
        gc.collect()

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        await asyncio.to_thread(forget)  # the attempt is collected in a thread without a loop

    assert not seen


async def test_a_refused_login_is_reported(place: Place) -> None:
    with pytest.raises(BrokerUnreachableError):
        async with Rabbit.connect(str(URL(place.amqp_url).with_password("wrong")), service="test"):
            pass


# Settling


async def test_a_handler_that_returns_acknowledges_its_message(rabbit: Rabbit, management: Management) -> None:
    gate = Gate()
    gate.open.set()
    async with rabbit.consume(BACKLOG, gate, tag="test"):
        await rabbit.publish(JOBS, KEY, event(7))
        await until(lambda: gate.finished == [7])
        await until(is_settled(rabbit, management, BACKLOG))

    assert gate.started == [7]


async def test_a_message_can_be_retried_without_limit(rabbit: Rabbit) -> None:
    seen: list[Event] = []

    async def handle(event: Event) -> None:
        seen.append(event)
        if len(seen) <= 2 * POISON_AFTER:
            raise Retry("not now", delay=0)

    await rabbit.publish(JOBS, KEY, event(7))
    async with rabbit.consume(BACKLOG, handle, tag="test"):
        await until(lambda: len(seen) > 2 * POISON_AFTER)

    assert (await rabbit.depth(BACKLOG), await rabbit.depth(DEAD)) == (0, 0)


async def test_an_error_in_a_handler_requeues_the_message(rabbit: Rabbit) -> None:
    handle, seen = once(ZeroDivisionError("a bug"))
    await rabbit.publish(JOBS, KEY, event(7))
    async with rabbit.consume(BACKLOG, handle, tag="test", timings=EAGER):
        await until(lambda: len(seen) == 2)

    assert (await rabbit.depth(BACKLOG), await rabbit.depth(DEAD)) == (0, 0)


async def test_a_delayed_retry_does_not_block_other_messages(rabbit: Rabbit) -> None:
    handle, seen = once(Retry("not now", delay=3600))
    async with rabbit.consume(BACKLOG, handle, tag="test", prefetch=2):
        for number in (1, 2, 3):
            await rabbit.publish(JOBS, KEY, event(number))
        await until(lambda: seen == [1, 2, 3])

    await until(depth_is(rabbit, BACKLOG, 1))


async def test_a_message_that_fails_repeatedly_becomes_a_dead_letter(rabbit: Rabbit, management: Management) -> None:
    handle, seen = once(ZeroDivisionError("a bug"), times=FAILURES)
    async with rabbit.consume(BACKLOG, handle, tag="test", timings=EAGER):
        await rabbit.publish(JOBS, KEY, event(7))
        await until(depth_is(rabbit, DEAD, 1))
        await rabbit.publish(JOBS, KEY, event(8))
        await until(lambda: 8 in seen)

    (letter,) = await management.take(DEAD)
    reason = letter["properties"]["headers"]["x-broadway-reason"]
    assert reason == "its handler failed 5 times, at last with ZeroDivisionError('a bug')"
    assert seen == [7] * FAILURES + [8]
    assert await rabbit.depth(BACKLOG) == 0


@pytest.mark.parametrize("queue", [BACKLOG, RESULTS], ids=["of services", "of graders"])
async def test_an_oversized_message_is_parked_without_being_decoded(
    place: Place, rabbit: Rabbit, management: Management, queue: Queue
) -> None:
    handle, seen = once(ZeroDivisionError("it was decoded"))
    await rabbit.declare(queue, DEAD)
    large = aio_pika.Message(b"[" * 200_000, headers={"ce-type": "io.broadway.job.finished.v1", "ce-subject": "a/b/c"})
    decoder = partial(decode, most=100_000)
    async with rabbit.consume(queue, handle, tag="test", timings=EAGER, decoder=decoder):
        async with await aio_pika.connect(place.amqp_url) as connection, connection.channel() as channel:
            await channel.default_exchange.publish(large, queue.name)
        await until(depth_is(rabbit, DEAD, 1))

    (letter,) = await management.take(DEAD)
    headers = letter["properties"]["headers"]
    assert "bytes and was not decoded: 100000 are allowed" in headers["x-broadway-reason"]
    assert "ce-type" not in headers, "a letter of a type might end a job"
    assert len(letter["payload"]) == KEPT_OF_OVERSIZED
    assert seen == []


async def test_a_prefetch_beyond_the_brokers_limit_is_lowered_to_it(rabbit: Rabbit) -> None:
    handle, seen = once(None)
    async with rabbit.consume(BACKLOG, handle, tag="test", prefetch=100_000):
        await rabbit.publish(JOBS, KEY, event(7))
        await until(lambda: seen == [7])


async def test_a_dead_letter_that_fails_is_retried_without_limit(rabbit: Rabbit, management: Management) -> None:
    handle, seen = once(ZeroDivisionError("a bug"), times=3 * FAILURES)
    await rabbit.publish(DEAD_LETTERS, dead_letter_key("anywhere"), event(7))
    async with rabbit.consume(DEAD, handle, tag="test", timings=EAGER):
        await until(lambda: len(seen) > 3 * FAILURES)
        await until(is_settled(rabbit, management, DEAD))

    assert seen == [7] * (3 * FAILURES + 1)


async def test_reject_moves_the_message_to_the_dead_letters(rabbit: Rabbit, management: Management) -> None:
    handle, seen = once(Reject("no such job: ü"))
    await rabbit.publish(JOBS, KEY, event(7))
    async with rabbit.consume(BACKLOG, handle, tag="test"):
        await until(depth_is(rabbit, DEAD, 1))

    (letter,) = await management.take(DEAD)
    properties = letter["properties"]
    assert properties["headers"]["x-broadway-reason"] == "no such job: ü"
    assert properties["headers"]["x-broadway-queue"] == BACKLOG.name
    assert properties["headers"]["ce-subject"] == "cs1/r1/j7"
    assert (properties["message_id"], properties["delivery_mode"]) == (event(7).identity, 2)
    assert json.loads(letter["payload"]) == event(7).model_dump(mode="json", exclude={"traceparent"})
    assert seen == [7]
    assert await rabbit.depth(BACKLOG) == 0


UNREADABLE: list[tuple[dict[str, Any], bytes, str]] = [
    ({}, b"hello", "unknown event type"),
    ({"ce-type": "io.broadway.job.queued.v1"}, b"{", "expected JSON"),
    ({"ce-type": "io.broadway.job.queued.v1"}, b"{}", "is missing"),
    ({"ce-type": 7, "x-death": "odd"}, b"\xff", "unknown event type"),
]


@pytest.mark.parametrize(
    ("headers", "body", "reason", "message_id"),
    [
        pytest.param(*each, message_id, marks=[] if number % 2 == place else pytest.mark.long)
        for place, message_id in enumerate([None, "m1"])
        for number, each in enumerate(UNREADABLE)
    ],
)
async def test_an_unreadable_message_becomes_a_dead_letter(
    rabbit: Rabbit,
    place: Place,
    management: Management,
    headers: dict[str, Any],
    body: bytes,
    reason: str,
    message_id: str | None,
) -> None:
    gate = Gate()
    async with await aio_pika.connect(place.amqp_url) as stranger, rabbit.consume(BACKLOG, gate, tag="test"):
        channel = await stranger.channel()
        message = aio_pika.Message(body, headers=headers, message_id=message_id)
        await channel.default_exchange.publish(message, BACKLOG.name)
        await until(depth_is(rabbit, DEAD, 1))

    (letter,) = await management.take(DEAD)
    assert reason in letter["properties"]["headers"]["x-broadway-reason"]
    assert gate.started == []
    assert await rabbit.depth(BACKLOG) == 0


async def test_copies_of_a_message_are_handled_once_at_a_time(rabbit: Rabbit) -> None:
    gate = Gate()
    async with rabbit.consume(BACKLOG, gate, tag="test", prefetch=5):
        for number in (1, 1, 2):
            await rabbit.publish(JOBS, KEY, event(number))
        await until(lambda: gate.started == [1, 2])
        gate.open.set()
        await until(lambda: gate.finished == [1, 2])

    assert gate.started == [1, 2]
    assert await rabbit.depth(BACKLOG) == 0


# Broken connections


async def test_a_handler_survives_a_reconnection_and_its_message_is_acknowledged(
    rabbit: Rabbit, management: Management
) -> None:
    gate = Gate()
    async with rabbit.consume(BACKLOG, gate, tag="test", prefetch=3):
        for number in range(3):
            await rabbit.publish(JOBS, KEY, event(number))
        await until(lambda: gate.running == 3)

        before = await until(management.consuming)
        await management.close_connections()

        async def is_consumed_again() -> bool:
            return bool(await management.consuming() - before) and await rabbit.depth(BACKLOG) == 0

        await until(is_consumed_again)
        assert gate.cancelled == []
        assert sorted(gate.started) == [0, 1, 2]
        gate.open.set()
        await until(lambda: sorted(gate.finished) == [0, 1, 2])
        await rabbit.publish(JOBS, KEY, event(3))
        await until(lambda: 3 in gate.finished)
        await until(is_settled(rabbit, management, BACKLOG))

    assert sorted(gate.started) == [0, 1, 2, 3]
    assert gate.cancelled == []
    assert await rabbit.depth(DEAD) == 0


async def test_a_message_whose_acknowledgement_is_lost_is_redelivered(rabbit: Rabbit, management: Management) -> None:
    seen: list[int] = []

    async def handle(received: Event) -> None:
        seen.append(number_of(received))
        if len(seen) == 1:
            (address,) = await until(management.consuming)
            closing = asyncio.create_task(management.close_connection(address))
            # Check at every turn of the loop, because the connection is restored soon.
            while rabbit.is_connected:  # noqa: ASYNC110
                await asyncio.sleep(0)
            await asyncio.wait([closing])

    async with rabbit.consume(BACKLOG, handle, tag="test"):
        await rabbit.publish(JOBS, KEY, event(1))
        await until(lambda: seen == [1, 1])
        await until(is_settled(rabbit, management, BACKLOG))

    assert seen == [1, 1]


async def test_a_deleted_queue_is_restored_with_its_consumer(rabbit: Rabbit, management: Management) -> None:
    gate = Gate()
    gate.open.set()
    async with rabbit.consume(BACKLOG, gate, tag="test"):
        await rabbit.publish(JOBS, KEY, event(1))
        await until(lambda: gate.finished == [1])
        await management.delete(BACKLOG)

        async def is_published() -> bool:
            try:
                await rabbit.publish(JOBS, KEY, event(2))
            except PublishError:
                return False
            return True

        await until(is_published)
        await until(lambda: 2 in gate.finished)


# Consuming


async def test_a_vanished_consumer_is_restored(rabbit: Rabbit) -> None:
    """Seen after reconnections: the client believes that it consumes, but the broker has no such consumer."""
    received: asyncio.Queue[Event] = asyncio.Queue()
    async with rabbit.consume(BACKLOG, received.put, tag="vanishing", prefetch=1, timings=WATCHFUL) as subscription:
        (consumer,) = subscription._consumers  # noqa: SLF001 - there is no public way
        await (await consumer.channel.get_underlay_channel()).basic_cancel(consumer.tag)
        await rabbit.publish(JOBS, KEY, event(7))

        assert number_of(await asyncio.wait_for(received.get(), PATIENCE)) == 7
    await until(depth_is(rabbit, BACKLOG, 0))


async def test_a_vanished_consumer_is_restored_while_another_one_works(rabbit: Rabbit) -> None:
    gate = Gate()
    async with rabbit.consume(READY, gate, tag="test", prefetch=1, channels=2, timings=WATCHFUL) as subscription:
        vanishing, working = subscription._consumers  # noqa: SLF001 - there is no public way
        await (await vanishing.channel.get_underlay_channel()).basic_cancel(vanishing.tag)
        await rabbit.publish(JOBS, ready_key("default"), event(1))
        await until(lambda: gate.running == 1)
        await rabbit.publish(JOBS, ready_key("default"), event(2))

        await until(lambda: gate.running == 2)
        assert working in subscription._consumers  # noqa: SLF001
        gate.open.set()
        await until(lambda: sorted(gate.finished) == [1, 2])
    assert sorted(gate.started) == [1, 2]


@pytest.mark.parametrize(("prefetch", "channels"), [(1, 1), (3, 1), (1, 3), (2, 2)])
async def test_prefetch_and_channels_limit_concurrent_handlers(rabbit: Rabbit, prefetch: int, channels: int) -> None:
    # A course's queue has one active consumer at a time; a pool's queue has one for each channel.
    gate = Gate()
    async with rabbit.consume(READY, gate, tag="test", prefetch=prefetch, channels=channels):
        for number in range(12):
            await rabbit.publish(JOBS, ready_key("default"), event(number))
        await until(lambda: gate.running == prefetch * channels)
        await until(depth_is(rabbit, READY, 12 - prefetch * channels))
        assert gate.running == prefetch * channels

        gate.open.set()
        await until(lambda: len(gate.finished) == 12)

    assert gate.most == prefetch * channels
    assert sorted(gate.started) == list(range(12))


async def test_a_consumer_gets_messages_only_while_those_of_a_higher_priority_have_no_room(rabbit: Rabbit) -> None:
    early, late = Gate(), Gate()
    async with (
        rabbit.consume(READY, early, tag="early", prefetch=3, priority=-1),
        rabbit.consume(READY, late, tag="late", channels=2),
    ):
        for number in range(5):
            await rabbit.publish(JOBS, ready_key("default"), event(number))
        await until(lambda: early.running + late.running == 5)
        assert sorted(late.started) == [0, 1]
        early.open.set()
        late.open.set()


async def test_an_operator_sees_the_names_of_connections_and_consumers(rabbit: Rabbit, management: Management) -> None:
    async def both() -> bool:
        return await management.connection_names() == {"broadway-test@here (publish)", "broadway-test@here (consume)"}

    async def tags() -> list[str]:
        return sorted(consumer["consumer_tag"] for consumer in await management.consumers())

    async def as_expected() -> bool:
        return await tags() == ["one", "two.0", "two.1"]

    await until(both)
    async with (
        rabbit.consume(BACKLOG, Gate(), tag="one", prefetch=4),
        rabbit.consume(READY, Gate(), tag="two", channels=2),
    ):
        await until(as_expected)
        prefetches = {c["consumer_tag"]: c["prefetch_count"] for c in await management.consumers()}
        assert prefetches == {"one": 4, "two.0": 1, "two.1": 1}


async def test_stopping_finishes_messages_within_the_grace_and_requeues_the_rest(rabbit: Rabbit) -> None:
    quick, slow = asyncio.Event(), asyncio.Event()
    started: list[int] = []
    finished: list[int] = []

    async def handle(received: Event) -> None:
        number = number_of(received)
        started.append(number)
        await (quick if number == 0 else slow).wait()
        finished.append(number)

    for number in range(5):
        await rabbit.publish(JOBS, KEY, event(number))
    async with rabbit.consume(BACKLOG, handle, tag="test", prefetch=2) as subscription:
        await until(lambda: started == [0, 1])
        await subscription.stop_taking()
        quick.set()
        await subscription.finish(grace=0.2)
        assert (started, finished) == ([0, 1], [0])
        await subscription.finish(grace=0)

    assert finished == [0]
    await until(depth_is(rabbit, BACKLOG, 4))


async def test_finishing_waits_no_longer_than_the_handlers_run(rabbit: Rabbit) -> None:
    gate = Gate()
    await rabbit.publish(JOBS, KEY, event(1))
    async with rabbit.consume(BACKLOG, gate, tag="test") as subscription:
        await until(lambda: gate.running == 1)
        await subscription.stop_taking()
        waiting = asyncio.create_task(subscription.finish(grace=3600))
        gate.open.set()
        await waiting

    assert gate.finished == [1]
    assert await rabbit.depth(BACKLOG) == 0


async def test_leaving_requeues_all_messages_at_once(rabbit: Rabbit) -> None:
    gate = Gate()
    for number in range(3):
        await rabbit.publish(JOBS, KEY, event(number))
    async with rabbit.consume(BACKLOG, gate, tag="test", prefetch=2):
        await until(lambda: gate.running == 2)

    assert sorted(gate.cancelled) == [0, 1]
    await until(depth_is(rabbit, BACKLOG, 3))


async def test_requeued_messages_keep_their_order(rabbit: Rabbit) -> None:
    held: list[int] = []

    async def hold(received: Event) -> None:
        held.append(number_of(received))
        await asyncio.Event().wait()

    async with rabbit.consume(BACKLOG, hold, tag="first", prefetch=50):
        for number in range(50):
            await rabbit.publish(JOBS, KEY, event(number))
        await until(lambda: len(held) == 50)
    held.clear()
    async with rabbit.consume(BACKLOG, hold, tag="second", prefetch=50):
        await until(lambda: len(held) == 50)
    assert held == list(range(50))


async def test_a_handler_receives_events_of_every_type(rabbit: Rabbit) -> None:
    settled = JobSettled(
        course="cs1", run_id="r1", job_id="j1", generation=1, phase=Phase.STUDENTS, outcome=Outcome.FAILED
    )
    received: list[Event] = []

    async def handle(event: Event) -> None:
        received.append(event)

    async with rabbit.consume(BACKLOG, handle, tag="test"):
        await rabbit.publish(JOBS, KEY, settled)
        await until(lambda: received == [settled])


async def test_a_taker_takes_one_message_at_a_time_and_only_while_it_waits(
    rabbit: Rabbit, management: Management
) -> None:
    await rabbit.declare(BACKLOG)
    async with rabbit.single_take(BACKLOG, tag="taker") as taker:
        assert await taker.take(within=0.05) is None
        for number in range(3):
            await rabbit.publish(JOBS, KEY, event(number))
        await until(depth_is(rabbit, BACKLOG, 3))

        taken = await taker.take(within=PATIENCE)

        assert taken
        assert number_of(taken.event) == 0
        await until(depth_is(rabbit, BACKLOG, 2))
        assert await management.consumers() == []
        await taken.ack()
        following = await taker.take()
        assert following
        assert number_of(following.event) == 1
    await until(depth_is(rabbit, BACKLOG, 2))


async def test_a_message_that_a_taker_gives_back_goes_to_another_taker(rabbit: Rabbit) -> None:
    await rabbit.declare(BACKLOG)
    await rabbit.publish(JOBS, KEY, event(7))
    async with rabbit.single_take(BACKLOG, tag="one") as one, rabbit.single_take(BACKLOG, tag="two") as two:
        taken = await one.take()
        assert taken
        await taken.give_back()
        other = await two.take()
        assert other
        assert number_of(other.event) == 7


async def test_a_taker_ends_with_its_connection_and_the_next_one_continues(
    rabbit: Rabbit, management: Management
) -> None:
    await rabbit.declare(BACKLOG)
    async with rabbit.single_take(BACKLOG, tag="taker") as taker:
        waiting = asyncio.create_task(taker.take())
        await until(management.consumers)
        await management.close_connections()
        with pytest.raises(PublishError, match="closed"):
            await waiting
        with pytest.raises(PublishError):
            await taker.take()
    await rabbit.publish(JOBS, KEY, event(1))
    await until(lambda: rabbit.is_connected)
    async with rabbit.single_take(BACKLOG, tag="taker") as taker:
        taken = await taker.take()

        assert taken
        assert number_of(taken.event) == 1
        await taken.ack()
        await until(is_settled(rabbit, management, BACKLOG))


async def test_a_taker_that_is_cancelled_at_any_moment_keeps_no_message(rabbit: Rabbit, management: Management) -> None:
    async def take() -> None:
        async with rabbit.single_take(BACKLOG, tag="leaver") as taker:
            await taker.take()
            await asyncio.Event().wait()

    for milliseconds in range(0, 40, 2):
        await rabbit.publish(JOBS, KEY, event(milliseconds))
        leavers = [asyncio.create_task(take()) for _ in range(10)]
        await asyncio.sleep(milliseconds / 1000)
        async with asyncio.timeout(PATIENCE):
            await end(*leavers)

        async with rabbit.single_take(BACKLOG, tag="stayer") as taker:
            taken = await taker.take(within=PATIENCE)
            assert taken, f"cancelled after {milliseconds} ms"
            assert number_of(taken.event) == milliseconds
            assert await management.consumers() == []
            await taken.ack()


@dataclass
class LateProbe:
    """A queue in which a probe arrives while its consumer ends."""

    queue: AbstractQueue
    exchange: AbstractExchange
    arrived: asyncio.Event

    async def consume(self, handle: Callable[[Any], Any], *, consumer_tag: str) -> None:
        async def noted(message: AbstractIncomingMessage) -> None:
            await handle(message)
            self.arrived.set()

        await self.queue.consume(noted, consumer_tag=consumer_tag)

    async def cancel(self, tag: str, *, timeout: float) -> None:  # noqa: ASYNC109 - as a queue's
        await self.exchange.publish(aio_pika.Message(b"", type=PING), self.queue.name)
        await self.arrived.wait()
        await self.queue.cancel(tag, timeout=timeout)


async def test_a_taker_does_not_wait_on_when_a_probe_arrives_at_its_end(rabbit: Rabbit, place: Place) -> None:
    async with await aio_pika.connect(place.amqp_url) as connection, connection.channel() as channel:
        queue = LateProbe(await channel.get_queue(BACKLOG.name), channel.default_exchange, asyncio.Event())
        taker = SingleTake(rabbit, BACKLOG, cast("AbstractQueue", queue), tag="taker")
        async with asyncio.timeout(PATIENCE):
            assert await taker.take(within=0.01) is None
    assert queue.arrived.is_set()


async def test_a_taker_moves_unreadable_messages_to_the_dead_letters(rabbit: Rabbit, place: Place) -> None:
    await rabbit.declare(BACKLOG)
    connection = await aio_pika.connect(place.amqp_url)
    async with connection, connection.channel() as channel:
        exchange = await channel.get_exchange(JOBS.name)
        await exchange.publish(aio_pika.Message(b"?", message_id="odd"), KEY)
    await rabbit.publish(JOBS, KEY, event(2))
    async with rabbit.single_take(BACKLOG, tag="taker") as taker:
        taken = await taker.take()

        assert taken
        assert number_of(taken.event) == 2
        await until(depth_is(rabbit, DEAD, 1))
        await taken.ack()


async def test_a_missing_queue_is_consumed_once_it_exists(rabbit: Rabbit) -> None:
    handle, seen = once()
    async with rabbit.consume(
        READY, handle, tag="test", channels=2, is_guest=True, timings=Timings(again_after=0.1)
    ) as subscription:
        assert subscription.channels == 0
        await rabbit.declare(READY)
        await rabbit.publish(JOBS, ready_key("default"), event(1))
        await until(lambda: seen)
        await until(lambda: subscription.channels == 2)


async def test_a_queue_that_does_not_respond_does_not_delay_the_consumer(
    rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that was declared less than a second before its broker was killed does not respond for a minute."""
    consume, is_silent = RobustQueue.consume, asyncio.Event()

    async def silent(self: RobustQueue, *args: Any, **kwargs: Any) -> Any:
        return await (consume(self, *args, **kwargs) if is_silent.is_set() else asyncio.Event().wait())

    monkeypatch.setattr(RobustQueue, "consume", silent)
    await rabbit.publish(JOBS, KEY, event(1))
    handle, seen = once()
    async with rabbit.consume(BACKLOG, handle, tag="test", timings=Timings(again_after=0.1, consume_within=0.2)):
        assert not seen
        is_silent.set()
        await until(lambda: seen)
