"""Callbacks to real receivers, good and bad. The clock is the test's, so that days pass at once."""

import asyncio
import socket
import ssl
from dataclasses import replace
from datetime import timedelta

import pytest
from callback_world import World
from harness import until
from receivers import Receiver

from broadway.domain.callback import CallbackType
from broadway.domain.callback_addresses import AddressRules, EndpointError
from broadway.domain.callback_delivery import DISABLED_AFTER, SCHEDULE, THROTTLE, CallbackState
from broadway.notifier.attempts import MAX_ANSWER
from broadway.notifier.transport import GuardedTransport, Lookups, resolve

PENDING, DELIVERED, FAILED, MISSED = CallbackState


async def test_a_receiver_gets_an_event_once_with_a_signature_that_it_can_check(
    world: World, receiver: Receiver
) -> None:
    endpoint = await world.endpoint(receiver.port)
    event = await world.emit()
    notifier = world.notifier(receiver.port)
    await notifier.step()
    await notifier.step()
    (request,) = receiver.requests
    assert request.line == "POST /hook HTTP/1.1"
    assert request.headers["host"] == f"receiver.example:{receiver.port}"
    assert request.id == event.id
    assert request.verified(endpoint.secret)["data"] == {"course": world.course, **event.data}
    delivery = await world.delivery(endpoint)
    assert (delivery.state, delivery.attempt, delivery.answers[0].status) == (DELIVERED, 1, 204)


async def test_a_receiver_that_comes_back_after_the_fifth_attempt_gets_the_event(
    world: World, receiver: Receiver
) -> None:
    endpoint = await world.endpoint(receiver.port)
    event = await world.emit()
    receiver.answers = [500, 404, 301, 500, 500]
    sent = []
    for delay in SCHEDULE[:6]:
        world.clock.now += delay - timedelta(milliseconds=1)
        await world.notifier(receiver.port).step()
        sent.append(len(receiver.requests))
        world.clock.forward(milliseconds=1)
        await world.notifier(receiver.port).step()
    assert sent == [0, 1, 2, 3, 4, 5]  # never before its time
    assert receiver.ids == [event.id] * 6
    assert len({request.headers["webhook-timestamp"] for request in receiver.requests}) == 6
    assert len({request.body for request in receiver.requests}) == 1
    delivery = await world.delivery(endpoint)
    assert (delivery.state, [answer.status for answer in delivery.answers]) == (
        DELIVERED,
        [500, 404, 301, 500, 500, 204],
    )
    assert (await world.fresh(endpoint)).failing_since is None


async def test_a_delivery_fails_after_its_last_attempt_and_can_be_replayed(world: World, receiver: Receiver) -> None:
    endpoint = await world.endpoint(receiver.port)
    await world.emit()
    receiver.status = 500
    for delay in SCHEDULE:
        world.clock.now += delay
        await world.notifier(receiver.port).step()
    failed = await world.delivery(endpoint)
    assert (failed.state, failed.due_at) == (FAILED, None)
    receiver.status = 204
    assert await world.store.callbacks.deliveries.replay(failed.replayed(world.clock()), of=failed)
    await world.notifier(receiver.port).step()
    assert (await world.delivery(endpoint)).state is DELIVERED
    assert len(set(receiver.ids)) == 1


async def test_a_receiver_that_hangs_costs_its_own_time_only(world: World, receiver: Receiver) -> None:
    endpoint = await world.endpoint(receiver.port)
    receiver.answers = [None]
    await world.emit()
    await world.notifier(receiver.port, within=0.1).step()
    delivery = await world.delivery(endpoint)
    assert (delivery.state, delivery.due_at) == (PENDING, world.clock() + SCHEDULE[1])
    assert delivery.answers[0].error == "no answer within 0.1 s"


async def test_a_redirection_is_not_followed(world: World, receiver: Receiver) -> None:
    endpoint = await world.endpoint(receiver.port)
    receiver.status = 307
    receiver.headers = (f"location: http://127.0.0.1:{receiver.port}/inside",)
    await world.emit()
    await world.notifier(receiver.port).step()
    assert [request.line for request in receiver.requests] == ["POST /hook HTTP/1.1"]
    assert (await world.delivery(endpoint)).state is PENDING


async def test_a_receiver_that_is_gone_is_disabled_and_audited(world: World, receiver: Receiver) -> None:
    endpoint = await world.endpoint(receiver.port)
    receiver.status = 410
    await world.emit("first")
    await world.notifier(receiver.port).step()
    await world.emit("second")
    await world.notifier(receiver.port).step()
    assert len(receiver.requests) == 1
    disabled = await world.fresh(endpoint)
    assert disabled.disabled == "it answered 410: it is gone"
    assert sorted(each.state for each in await world.deliveries(endpoint)) == sorted([FAILED, MISSED])
    (record,) = await world.store.audit.latest(course=world.course, operation="callbacks_disabled", limit=5)
    assert record.object == f"/api/v2/courses/{world.course}/callbacks/lms"
    assert "410" in str(record.after)


async def test_days_of_failures_disable_a_receiver_and_all_that_it_missed_can_be_replayed(
    world: World, receiver: Receiver
) -> None:
    endpoint, since = await world.endpoint(receiver.port), world.clock()
    receiver.status = 500
    first = await world.emit()
    await world.notifier(receiver.port).step()
    world.clock.now += DISABLED_AFTER
    others = [await world.emit() for _ in range(3)]
    await world.notifier(receiver.port).step()
    disabled = await world.fresh(endpoint)
    assert disabled.disabled == "every attempt has failed for 5 days"
    missed = await world.emit()
    await world.notifier(receiver.port).step()
    assert {each.state for each in await world.deliveries(endpoint)} == {MISSED}
    receiver.requests.clear()
    receiver.status = 200
    assert await world.store.callbacks.endpoints.put_settings(disabled.enable())
    count = await world.store.callbacks.deliveries.replay_undelivered(endpoint.id, since, world.clock())
    assert count == 5
    await world.notifier(receiver.port).step()
    assert sorted(receiver.ids) == sorted(event.id for event in (first, *others, missed))


@pytest.mark.parametrize(("status", "wait"), [(502, THROTTLE), (504, THROTTLE)])
async def test_an_overloaded_receiver_gets_nothing_until_its_pause_ends(
    world: World, receiver: Receiver, status: int, wait: timedelta
) -> None:
    await world.endpoint(receiver.port)
    receiver.answers = [status]
    await world.emit()
    await world.notifier(receiver.port).step()
    await world.emit()
    world.clock.now += wait - timedelta(milliseconds=1)
    await world.notifier(receiver.port).step()
    assert len(receiver.requests) == 1
    world.clock.forward(milliseconds=1)
    await world.notifier(receiver.port).step()
    assert len(receiver.requests) == 3


@pytest.mark.parametrize("asked", ["600", "date"])
async def test_a_receiver_may_ask_to_wait(world: World, receiver: Receiver, asked: str) -> None:
    endpoint = await world.endpoint(receiver.port)
    until = world.clock.now.replace(microsecond=0) + timedelta(minutes=10)
    value = asked if asked.isdecimal() else until.strftime("%a, %d %b %Y %H:%M:%S GMT")
    receiver.answers, receiver.headers = [429], (f"retry-after: {value}",)
    await world.emit()
    await world.notifier(receiver.port).step()
    due_at = (await world.delivery(endpoint)).due_at
    assert due_at == (world.clock() + timedelta(minutes=10) if asked.isdecimal() else until)


async def test_a_large_answer_is_read_in_part_and_kept_in_part(world: World, receiver: Receiver) -> None:
    endpoint = await world.endpoint(receiver.port)
    receiver.status, receiver.body = 200, b"x" * (64 * MAX_ANSWER)
    await world.emit()
    await world.notifier(receiver.port).step()
    delivery = await world.delivery(endpoint)
    # The answer of a host that is not public is not shown at all.
    assert (delivery.state, delivery.answers[0].body) == (DELIVERED, "")


REFUSALS = [["10.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"], ["fe80::1%eth0"], [], ["169.254.169.254"]]


@pytest.mark.parametrize("addresses", REFUSALS, ids=[",".join(each) or "none" for each in REFUSALS])
async def test_a_name_with_a_private_address_is_not_connected_to(
    world: World, receiver: Receiver, addresses: list[str]
) -> None:
    endpoint = await world.endpoint(receiver.port)
    world.names.answers = [addresses]
    await world.emit()
    await world.notifier(receiver.port, allow="").step()
    assert receiver.requests == []
    (answer,) = (await world.delivery(endpoint)).answers
    assert answer.status is None
    assert "address" in answer.error


SPELLINGS = ("127.0.0.1", "[::1]", "0.0.0.0", "2130706433", "0x7f.1", "127.1", "0177.0.0.1", "localhost")


@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_spelling_of_this_host_is_connected_to(world: World, receiver: Receiver, host: str) -> None:
    endpoint = await world.endpoint(receiver.port, url=f"http://{host}:{receiver.port}/")
    world.names.answers = [[socket.gethostbyname(host) if "." in host or host.isalnum() else host]]
    await world.emit()
    await world.notifier(receiver.port, allow="").step()
    assert receiver.requests == []
    assert (await world.delivery(endpoint)).answers[0].status is None


@pytest.mark.parametrize("name", ["2130706433", "0x7f.1", "127.1", "localhost"])
async def test_the_systems_resolver_says_where_such_a_spelling_leads(name: str) -> None:
    addresses = await resolve(name, 443)
    assert addresses
    with pytest.raises(EndpointError):
        AddressRules().check_addresses(addresses)


@pytest.mark.parametrize("name", ["fe80::1%no-such-interface", "nowhere.invalid", "a" * 64 + ".example"])
async def test_a_name_that_the_system_cannot_resolve_is_refused(name: str) -> None:
    transport = GuardedTransport(AddressRules(plain_http=True), tls=ssl.create_default_context(), resolve=resolve)
    with pytest.raises(EndpointError):
        await transport.check(name, 443)


async def test_names_that_are_never_answered_take_two_lookups_only() -> None:
    asked, answer = list[str](), asyncio.Event()

    async def slow(host: str, _port: int) -> list[str]:
        asked.append(host)
        await answer.wait()
        if host == "b":
            raise OSError(5, "io")
        return ["8.8.8.8"]

    lookups = Lookups(slow)
    callers = [asyncio.create_task(lookups(host, 443)) for host in "abcd"]
    await until(lambda: len(asked) == 2)
    for caller in callers[:2]:
        caller.cancel()  # as after the time limit of an attempt
    await asyncio.wait(callers[:2])
    assert asked == ["a", "b"]
    answer.set()
    assert await asyncio.gather(*callers[2:]) == [["8.8.8.8"], ["8.8.8.8"]]
    assert asked == ["a", "b", "c", "d"]


async def test_an_address_that_changes_after_its_lookup_is_not_looked_up_again(
    world: World, receiver: Receiver
) -> None:
    async with Receiver.open(host="127.0.0.2", port=receiver.port) as inside:
        await world.endpoint(receiver.port)
        world.names.answers = [["127.0.0.1"], ["127.0.0.2"]]
        await world.emit()
        await world.notifier(receiver.port, allow="127.0.0.1/32").step()
        assert (len(receiver.requests), inside.requests, world.names.lookups) == (1, [], ["receiver.example"])
        await world.emit()
        await world.notifier(receiver.port, allow="127.0.0.1/32").step()
        assert (len(receiver.requests), inside.requests) == (1, [])


@pytest.mark.parametrize("error", [socket.gaierror("no such name"), UnicodeError("label too long"), OSError(5, "io")])
async def test_a_failing_lookup_is_a_failed_attempt(world: World, receiver: Receiver, error: Exception) -> None:
    endpoint = await world.endpoint(receiver.port)
    world.names.answers = [error]
    await world.emit()
    await world.notifier(receiver.port).step()
    delivery = await world.delivery(endpoint)
    assert (delivery.state, delivery.answers[0].status) == (PENDING, None)


async def test_a_proxy_in_the_environment_is_ignored(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    await world.endpoint(receiver.port)
    await world.emit()
    await world.notifier(receiver.port).step()
    assert len(receiver.requests) == 1


async def test_endpoints_get_the_types_that_they_want_and_only_of_their_course(
    world: World, receiver: Receiver
) -> None:
    all_types = await world.endpoint(receiver.port, "all")
    jobs = await world.endpoint(receiver.port, "jobs", types=(CallbackType.JOB_FINISHED,))
    other = World(world.store, f"{world.course}-b", world.clock, world.names)
    others = await other.endpoint(receiver.port, "other")
    event = await world.emit()
    await world.notifier(receiver.port).step()
    assert [each.event for each in await world.deliveries(all_types)] == [event.id]
    assert await world.deliveries(jobs) == []
    assert await other.deliveries(others) == []
    await world.store.callbacks.endpoints.delete(others)


async def test_two_notifiers_do_not_send_the_same_delivery(world: World, receiver: Receiver) -> None:
    endpoint = await world.endpoint(receiver.port)
    events = [await world.emit() for _ in range(6)]
    first, second = world.notifier(receiver.port), world.notifier(receiver.port)
    await first.plan()
    until = world.clock() + timedelta(minutes=1)
    assert await world.store.callbacks.endpoints.take_turn(endpoint.id, first.turns.holder, world.clock(), until)
    assert await second.turns.serve(endpoint.id) is False
    assert await first.turns.serve(endpoint.id) is True
    assert sorted(receiver.ids) == sorted(event.id for event in events)
    assert await second.turns.serve(endpoint.id) is False


async def test_an_endpoint_gets_four_callbacks_at_a_time_and_one_after_a_failure(
    world: World, receiver: Receiver
) -> None:
    endpoint = await world.endpoint(receiver.port)
    receiver.answers = [None] * 4
    for _ in range(6):
        await world.emit()
    await world.notifier(receiver.port, within=0.2).step()
    assert (len(receiver.requests), receiver.most_at_once) == (6, 4)
    await world.store.callbacks.endpoints.put_settings(replace(endpoint, failing_since=world.clock()))
    receiver.most_at_once, receiver.status = 0, 500
    for _ in range(6):
        await world.emit()
    await world.notifier(receiver.port).step()
    assert receiver.most_at_once == 1


async def test_an_endpoint_that_is_removed_gets_nothing_more(world: World, receiver: Receiver) -> None:
    endpoint = await world.endpoint(receiver.port)
    await world.emit()
    notifier = world.notifier(receiver.port)
    await notifier.plan()
    await world.store.callbacks.endpoints.delete(endpoint)
    await notifier.step()
    assert receiver.requests == []
    assert await world.deliveries(endpoint) == []


async def test_events_and_deliveries_are_kept_for_thirty_days(world: World, receiver: Receiver) -> None:
    endpoint = await world.endpoint(receiver.port)
    event = await world.emit()
    await world.notifier(receiver.port).step()
    world.clock.forward(days=30, seconds=1)
    later = await world.emit()
    await world.notifier(receiver.port).step()
    assert [each.event for each in await world.deliveries(endpoint)] == [later.id]
    assert (await world.store.callbacks.events.get_many([event.id, later.id])).keys() == {later.id}


async def test_a_replaced_secret_verifies_for_a_day(world: World, receiver: Receiver) -> None:
    endpoint = await world.endpoint(receiver.port)
    rotated = endpoint.rotated((await world.endpoint(receiver.port, "b")).secret, world.clock() + timedelta(days=1))
    assert await world.store.callbacks.endpoints.put_secrets(rotated, before=endpoint.secret)
    assert not await world.store.callbacks.endpoints.put_secrets(replace(rotated), before=endpoint.secret)
    await world.emit()
    await world.notifier(receiver.port).step()
    request = next(each for each in receiver.requests if " v1," in each.headers["webhook-signature"])
    assert request.verified(endpoint.secret) == request.verified(rotated.secret)
