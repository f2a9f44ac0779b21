"""Deliveries of callbacks: the schedule, what an endpoint's answers change, and signatures."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from broadway.domain.callback import CallbackEvent, CallbackType
from broadway.domain.callback_delivery import (
    DISABLED_AFTER,
    KEPT_ANSWERS,
    LONGEST_WAIT,
    SCHEDULE,
    THROTTLE,
    Answer,
    CallbackState,
    Delivery,
    Endpoint,
    PayloadFormat,
    new_secret,
)
from broadway.domain.callback_payload import body_of, headers_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
EVENT = CallbackEvent.ping("cs1", "e1", "n", name="lms", at=NOW)
SECRETS = [new_secret(bytes([number]) * 32) for number in range(3)]
ENDPOINT = Endpoint("e1", "cs1", "lms", "https://example.org/", SECRETS[0], NOW)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def test_attempts_follow_the_schedule_of_standard_webhooks() -> None:
    delivery, now, delays = Delivery.of(EVENT, ENDPOINT), NOW, []
    while delivery.due_at:
        delays.append(delivery.due_at - now)
        now = delivery.due_at
        delivery = delivery.answered(Answer(now, 500), now, 0)
    assert tuple(delays) == SCHEDULE
    assert delays[:5] == [timedelta(), 5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR]
    assert now - NOW == timedelta(hours=75, minutes=35, seconds=5)
    assert (delivery.state, delivery.attempt) == (CallbackState.FAILED, 10)


@pytest.mark.parametrize(("jitter", "seconds"), [(-1, 270), (0, 300), (1, 330)])
def test_a_delay_varies_by_a_tenth(jitter: float, seconds: int) -> None:
    delivery = replace(Delivery.of(EVENT, ENDPOINT), attempt=1).answered(Answer(NOW, 500), NOW, jitter)
    assert delivery.due_at == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("status", "asked", "wait"),
    [
        (429, 10 * MINUTE, 10 * MINUTE),
        (503, SECOND, 5 * SECOND),
        (503, timedelta(days=9), LONGEST_WAIT),
        (500, HOUR, 5 * SECOND),
        (429, -HOUR, 5 * SECOND),
    ],
)
def test_an_endpoint_may_ask_to_wait_longer_than_the_schedule(status: int, asked: timedelta, wait: timedelta) -> None:
    delivery = Delivery.of(EVENT, ENDPOINT).answered(Answer(NOW, status, retry_after=asked), NOW, 0)
    assert delivery.due_at == NOW + wait


@pytest.mark.parametrize("status", [200, 202, 204, 299])
def test_only_2xx_is_a_success(status: int) -> None:
    assert Delivery.of(EVENT, ENDPOINT).answered(Answer(NOW, status), NOW, 0).state is CallbackState.DELIVERED


@pytest.mark.parametrize("status", [None, 100, 301, 302, 307, 308, 304, 400, 404, 500])
def test_anything_else_is_a_failure(status: int | None) -> None:
    delivery = Delivery.of(EVENT, ENDPOINT).answered(Answer(NOW, status), NOW, 0)
    assert (delivery.state, delivery.due_at) == (CallbackState.PENDING, NOW + 5 * SECOND)


def test_an_endpoint_that_is_gone_is_disabled_at_once() -> None:
    answer = Answer(NOW, 410)
    assert Delivery.of(EVENT, ENDPOINT).answered(answer, NOW, 0).state is CallbackState.FAILED
    after = ENDPOINT.answered(answer, NOW)
    assert (after.disabled, after.disabled_at) == ("it answered 410: it is gone", NOW)
    assert Delivery.of(EVENT, after).state is CallbackState.MISSED
    assert Delivery.of(EVENT, after.enable()).state is CallbackState.PENDING


def test_an_endpoint_is_disabled_after_five_days_of_failures_only() -> None:
    first = ENDPOINT.answered(Answer(NOW, None), NOW)
    almost = first.answered(Answer(NOW, 500), NOW + DISABLED_AFTER - SECOND)
    assert almost.is_enabled
    assert not almost.answered(Answer(NOW, 500), NOW + DISABLED_AFTER).is_enabled
    recovered = almost.answered(Answer(NOW, 200), NOW + DISABLED_AFTER - SECOND)
    assert recovered.failing_since is None
    assert recovered.answered(Answer(NOW, 500), NOW + DISABLED_AFTER).is_enabled


@pytest.mark.parametrize(
    ("answer", "wait"),
    [
        (Answer(NOW, 502), THROTTLE),
        (Answer(NOW, 504), THROTTLE),
        (Answer(NOW, 429, retry_after=HOUR), HOUR),
        (Answer(NOW, 500, retry_after=HOUR), None),
        (Answer(NOW, None), None),
    ],
    ids=["502", "504", "429", "500", "none"],
)
def test_an_overloaded_endpoint_gets_nothing_for_a_while(answer: Answer, wait: timedelta | None) -> None:
    assert ENDPOINT.answered(answer, NOW).paused_until == (NOW + wait if wait else None)


def test_the_answers_of_a_delivery_are_bounded() -> None:
    delivery = Delivery.of(EVENT, ENDPOINT)
    for number in range(40):
        delivery = delivery.replayed(NOW).answered(Answer(NOW, 500 + number), NOW, 0)
    assert [answer.status for answer in delivery.answers] == list(range(540 - KEPT_ANSWERS, 540))


def test_an_id_follows_from_the_fact_and_has_no_dot() -> None:
    same = CallbackEvent.job_finished("cs1", "j", 1, run_id="r", at=NOW + HOUR)
    assert same.id == CallbackEvent.job_finished("cs1", "j", 1, run_id="r", at=NOW).id
    others = [
        CallbackEvent.job_finished("cs1", "j", 2, run_id="r", at=NOW),
        CallbackEvent.job_finished("cs2", "j", 1, run_id="r", at=NOW),
        CallbackEvent.run_finished("cs1", "j", 1, at=NOW),
    ]
    ids = {same.id, *(event.id for event in others)}
    assert len(ids) == 4
    assert all(len(each) == 24 and each.isalnum() for each in ids)


def test_an_event_that_is_made_from_the_store_has_the_same_id() -> None:
    exact = datetime(2026, 3, 1, 12, 0, 0, 567_999, tzinfo=UTC)
    stored = exact.replace(microsecond=567_000)
    first, second = (CallbackEvent.regrade_ready("cs1", "mp1", "r1", at=at) for at in (exact, stored))
    assert first.id == second.id
    assert first.id != CallbackEvent.regrade_ready("cs1", "mp1", "r1", at=stored + timedelta(milliseconds=1)).id


def test_a_callback_is_verified_by_the_library_of_standard_webhooks() -> None:
    now = datetime.now(UTC)
    body = body_of(EVENT, PayloadFormat.STANDARD)
    headers = headers_of(EVENT, ENDPOINT, body, now)
    assert Webhook(SECRETS[0]).verify(body, headers) == {
        "type": "ping",
        "timestamp": "2026-03-01T00:00:00Z",
        "data": {"course": "cs1", "callback": "lms"},
    }
    for wrong_body, secret in ((body + b" ", SECRETS[0]), (body, SECRETS[1])):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(wrong_body, headers)


def test_a_replaced_secret_signs_until_its_time() -> None:
    now = datetime.now(UTC)
    rotated = ENDPOINT.rotated(SECRETS[1], now + HOUR)
    body = body_of(EVENT, PayloadFormat.STANDARD)
    for secret in SECRETS[:2]:
        Webhook(secret).verify(body, headers_of(EVENT, rotated, body, now))
    assert rotated.secrets(now + HOUR) == [SECRETS[1]]
    assert rotated.rotated(SECRETS[2], now + HOUR).secrets(now) == [SECRETS[2], SECRETS[1]]


def test_an_event_as_cloudevent_has_the_same_id_and_time() -> None:
    endpoint = replace(ENDPOINT, format=PayloadFormat.CLOUDEVENTS)
    body = body_of(EVENT, PayloadFormat.CLOUDEVENTS)
    headers = headers_of(EVENT, endpoint, body, datetime.now(UTC))
    found = Webhook(SECRETS[0]).verify(body, headers)
    assert headers["content-type"] == "application/cloudevents+json"
    assert (found["id"], found["specversion"], found["type"], found["time"]) == (
        *(headers["webhook-id"], "1.0", "io.broadway.callback.ping", "2026-03-01T00:00:00Z"),
    )


def test_an_endpoint_wants_its_types_and_its_own_pings() -> None:
    chosen = replace(ENDPOINT, types=(CallbackType.RUN_FINISHED,))
    job = CallbackEvent.job_finished("cs1", "j", 1, run_id="r", at=NOW)
    run = CallbackEvent.run_finished("cs1", "r", 1, at=NOW)
    assert [chosen.wants(each) for each in (job, run, EVENT)] == [False, True, True]
    assert ENDPOINT.wants(job)
    assert not replace(ENDPOINT, id="e2").wants(EVENT)
    assert all(secret not in repr(ENDPOINT.rotated(SECRETS[1], NOW)) for secret in SECRETS)
