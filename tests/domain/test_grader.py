"""The states of a grader, from its own reports and its operator's orders."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broadway.domain.grader import Grader, GraderLink, GraderMode, GraderState, RevokedError, StandingOrder

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAUSED = StandingOrder(mode=GraderMode.PAUSED)
DRAINING = StandingOrder(mode=GraderMode.DRAINING)
REVOKED = StandingOrder(mode=GraderMode.REVOKED)


def grader(**known: Any) -> Grader:
    return Grader(**{"id": "g1", "alive": True, **known})


@pytest.mark.parametrize(
    ("known", "state"),
    [
        ({}, GraderState.ONLINE),
        ({"alive": False}, GraderState.GONE),
        ({"alive": False, "paused": "the disk is full"}, GraderState.GONE),
        ({"alive": False, "draining": True, "reported_jobs": ("j1",)}, GraderState.GONE),
        ({"paused": "the disk is full"}, GraderState.PAUSED),
        ({"paused": "the disk is full", "reported_jobs": ("j1",)}, GraderState.PAUSED),
        ({"draining": True, "reported_jobs": ("j1",)}, GraderState.DRAINING),
        ({"draining": True}, GraderState.DRAINED),
        ({"draining": True, "paused": "its operator wants it to"}, GraderState.DRAINED),
        ({"order": REVOKED}, GraderState.REVOKED),
        ({"order": REVOKED, "alive": False}, GraderState.REVOKED),
        ({"order": REVOKED, "draining": True}, GraderState.REVOKED),
    ],
)
def test_a_state_follows_from_reports(known: dict[str, Any], state: GraderState) -> None:
    assert grader(**known).state is state
    assert grader(**known, gateway="api:1").state is state


@pytest.mark.parametrize(
    ("known", "behind_a_gateway"),
    [
        ({"order": PAUSED}, GraderState.PAUSED),
        ({"order": DRAINING}, GraderState.DRAINED),
        ({"order": DRAINING, "reported_jobs": ("j1",)}, GraderState.DRAINING),
    ],
)
def test_an_order_is_the_state_behind_a_gateway(known: dict[str, Any], behind_a_gateway: GraderState) -> None:
    assert grader(**known, gateway="api:1").state is behind_a_gateway
    assert grader(**known).state is GraderState.ONLINE, "at the broker it has to report that it obeys"


def test_a_dead_grader_runs_none_of_the_jobs_that_it_reported() -> None:
    assert grader(reported_jobs=("j1", "j2")).running == ("j1", "j2")
    assert grader(reported_jobs=("j1", "j2"), alive=False).running == ()


@pytest.mark.parametrize(
    ("known", "link"),
    [
        ({}, GraderLink.BROKER),
        ({"over_socket": True}, GraderLink.BROKER),
        ({"gateway": "api:1"}, GraderLink.POLLING),
        ({"gateway": "api:1", "over_socket": True}, GraderLink.WEBSOCKET),
    ],
)
def test_the_link_is_the_broker_or_a_way_to_the_gateway(known: dict[str, Any], link: GraderLink) -> None:
    assert grader(**known).link is link


@pytest.mark.parametrize(
    ("known", "allowed", "takes_jobs"),
    [
        ({}, 1, True),
        ({"slots": 4}, 4, True),
        ({"slots": 0}, 1, False),
        ({"slots": 0, "own_slots": 4}, 4, False),
        ({"slots": 2, "own_slots": 4}, 4, True),
        ({"slots": 2, "own_slots": 4, "order": StandingOrder(slots=3)}, 3, True),
    ],
)
def test_slots_follow_the_order_then_the_start_then_the_report(
    known: dict[str, Any], allowed: int, takes_jobs: bool
) -> None:
    assert (grader(**known).allowed_slots, grader(**known).has_slots) == (allowed, takes_jobs)


@pytest.mark.parametrize("mode", GraderMode)
def test_only_an_order_to_be_online_lets_a_gateway_hand_out_jobs(mode: GraderMode) -> None:
    assert grader(order=StandingOrder(mode=mode)).is_wanted is (mode is GraderMode.ONLINE)


@pytest.mark.parametrize("mode", GraderMode)
def test_only_a_revoked_grader_is_refused(mode: GraderMode) -> None:
    ordered = grader(order=StandingOrder(mode=mode))
    if mode is GraderMode.REVOKED:
        with pytest.raises(RevokedError, match="g1 has been revoked"):
            ordered.demand_admitted()
    else:
        ordered.demand_admitted()


def test_the_operators_reason_comes_before_the_graders() -> None:
    full = "the disk is full"
    assert grader(paused=full).reason == full
    assert grader(paused=full, order=StandingOrder(reason="a new disk")).reason == "a new disk"


@pytest.mark.parametrize(("seconds", "is_seen"), [(-1, True), (0, True), (1, False)])
def test_a_grader_was_seen_since_a_moment(seconds: int, is_seen: bool) -> None:
    moment = NOW + timedelta(seconds=seconds)
    assert grader(last_seen=NOW).was_seen_since(moment) is is_seen
    assert grader(last_seen=None).was_seen_since(moment)


@pytest.mark.parametrize(
    ("more", "has_paused_itself"),
    [
        ({}, False),
        ({"paused": "engine: away"}, True),
        ({"paused": "engine: away", "obeyed": 0}, True),
        (
            {"paused": "a new disk", "obeyed": 1, "order": StandingOrder(2)},
            False,
        ),  # it has not heard that it may resume
        ({"paused": "a new disk", "order": StandingOrder(2, GraderMode.PAUSED)}, False),
        ({"paused": "engine: away", "alive": False}, False),
    ],
    ids=["online", "before that was stored", "itself", "resumed a moment ago", "by its operator", "gone"],
)
def test_a_grader_has_paused_itself_against_its_order(more: dict[str, Any], *, has_paused_itself: bool) -> None:
    assert Grader(**{"id": "g1", "alive": True, **more}).has_paused_itself is has_paused_itself
