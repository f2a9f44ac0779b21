"""Drift between a topology and a broker, and the shipped definitions."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from broadway.messages.definitions import Drift, Kind, definitions, drifts, left_over
from broadway.messages.topology import EXCHANGES, SHARED_QUEUES, durable_queues

WANTED = definitions(durable_queues(["cs241"], ["default"]), vhost="v", version=(4, 0))


def changed(kind: Kind, number: int, **values: Any) -> dict[str, Any]:
    """Return a broker's definitions with one item changed, or missing if there are no values."""
    found = copy.deepcopy(WANTED)
    if values:
        found[kind][number] = {**found[kind][number], **values}
    else:
        del found[kind][number]
    return found


def test_a_broker_that_matches_has_no_drift() -> None:
    assert drifts(WANTED, copy.deepcopy(WANTED)) == []


@pytest.mark.parametrize("kind", Kind)
def test_a_missing_item_is_named_and_can_be_repaired(kind: Kind) -> None:
    (drift,) = drifts(WANTED, changed(kind, 0))
    assert (drift.kind, drift.found, drift.can_be_repaired) == (kind, None, True)
    assert str(drift) == f"{kind.noun} {drift.name} is missing"


@pytest.mark.parametrize(
    ("kind", "values", "can_be_repaired"),
    [
        (Kind.EXCHANGE, {"type": "fanout"}, False),
        (Kind.EXCHANGE, {"arguments": {"alternate-exchange": "other"}}, False),
        (Kind.QUEUE, {"arguments": {"x-queue-type": "classic"}}, False),
        (Kind.QUEUE, {"durable": False}, False),
        (Kind.POLICY, {"definition": {"max-length": 1}}, True),
        (Kind.POLICY, {"priority": 7}, True),
        (Kind.POLICY, {"pattern": "x"}, True),
        (Kind.POLICY, {"apply-to": "all"}, True),
    ],
)
def test_a_changed_item_is_described(kind: Kind, values: dict[str, Any], *, can_be_repaired: bool) -> None:
    (drift,) = drifts(WANTED, changed(kind, 0, **values))
    ((key, value),) = values.items()
    assert drift.can_be_repaired is can_be_repaired
    assert str(drift) == f"{kind.noun} {drift.name}: {key} is {value!r}, not {drift.wanted[key]!r}"


def test_numbers_that_a_broker_adds_are_not_drift() -> None:
    assert drifts(WANTED, changed(Kind.QUEUE, 0, messages=5, consumers=1)) == []


def test_missing_items_are_in_the_order_of_their_creation() -> None:
    nothing: dict[str, Any] = {kind: [] for kind in Kind}
    kinds = [drift.kind for drift in drifts(WANTED, nothing)]
    assert kinds == sorted(kinds, key=list(Kind).index)
    assert kinds.count(Kind.EXCHANGE) == len(EXCHANGES)


def test_left_over_queues_are_durable_and_of_this_project() -> None:
    found = copy.deepcopy(WANTED)
    found[Kind.QUEUE] += [
        {"name": "broadway.course.gone.bulk", "durable": True},
        {"name": "broadway.control.host7", "durable": False},
        {"name": "somebody.else", "durable": True},
    ]
    assert left_over(WANTED, found) == ["broadway.course.gone.bulk"]


def test_policies_that_a_version_does_not_know_are_left_out() -> None:
    names = {
        version: [policy["name"] for policy in definitions((), vhost="v", version=version)["policies"]]
        for version in ((3, 10), (3, 12), (4, 1))
    }
    assert names[3, 10] == ["broadway"]
    assert names[3, 12] == names[4, 1] == ["broadway", "broadway-backlogs"]


def test_the_shipped_definitions_are_those_of_the_code() -> None:
    shipped = json.loads(Path("deploy/rabbitmq/definitions.json").read_text())
    expected = definitions(SHARED_QUEUES, vhost="broadway", version=(3, 10))
    assert shipped == expected, "broadway topology show --shared --json, with /broadway at the end of --amqp-url"


def test_a_binding_is_named_by_its_ends_and_its_key() -> None:
    binding = {"source": "a", "destination": "b", "routing_key": ""}
    drift = Drift(Kind.BINDING, "a -> b (all)", binding, None)
    assert str(drift) == "binding a -> b (all) is missing"
