"""The topology as RabbitMQ's management API and its definition files have it, and what differs from it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from broadway.messages.topology import EXCHANGES, POLICIES, Exchange, Policy, Queue

Object = Mapping[str, Any]
Version = tuple[int, int]


class Kind(StrEnum):
    """What a broker has, in the order in which it has to be made; the names are those of definition files."""

    EXCHANGE = "exchanges"
    QUEUE = "queues"
    BINDING = "bindings"
    POLICY = "policies"

    @property
    def noun(self) -> str:
        return "policy" if self is Kind.POLICY else self.value.removesuffix("s")


_COMPARED = {
    Kind.EXCHANGE: ("type", "durable", "auto_delete", "internal", "arguments"),
    Kind.QUEUE: ("durable", "auto_delete", "arguments"),
    Kind.BINDING: (),
    Kind.POLICY: ("pattern", "apply-to", "definition", "priority"),
}
_CHANGEABLE = frozenset({Kind.POLICY})  # the others are as they were declared for ever


@dataclass(frozen=True, slots=True)
class Drift:
    """One thing that is not as it should be: missing, or other than ``wanted``; ``found`` is what is there."""

    kind: Kind
    name: str
    wanted: Object
    found: Object | None

    @property
    def can_be_mended(self) -> bool:
        """Without deleting anything, and so without losing messages."""
        return self.found is None or self.kind in _CHANGEABLE

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.kind.noun} {self.name} is missing"
        differing = [key for key in _COMPARED[self.kind] if self.found.get(key) != self.wanted[key]]
        details = ", ".join(f"{key} is {self.found.get(key)!r}, not {self.wanted[key]!r}" for key in differing)
        return f"{self.kind.noun} {self.name}: {details}"


def definitions(queues: Iterable[Queue], *, vhost: str, version: Version) -> dict[str, list[Object]]:
    """Everything that there should be besides users, in the form that RabbitMQ exports and imports.

    Args:
        queues: Those that there should be; exclusive ones make themselves.
        vhost: The virtual host.
        version: Of the broker: policies that it does not know are left out.
    """
    durable = list(queues)
    return {
        "vhosts": [{"name": vhost}],
        **{kind.value: objects for kind, objects in _objects(durable, vhost, version).items()},
    }


def drifts(wanted: Mapping[str, Sequence[Object]], found: Mapping[str, Sequence[Object]]) -> list[Drift]:
    """What is missing or other, in the order in which it is to be made. What is there besides is nobody's business."""
    return [
        Drift(kind, name(kind, each), each, there)
        for kind in Kind
        for each, there in _paired(kind, wanted[kind], found[kind])
        if there is None or any(there.get(key) != each[key] for key in _COMPARED[kind])
    ]


def left_over(wanted: Mapping[str, Sequence[Object]], found: Mapping[str, Sequence[Object]]) -> list[str]:
    """Names of our durable queues that no course and no pool needs any more, such as a removed course's."""
    needed = {queue["name"] for queue in wanted[Kind.QUEUE]}
    return sorted(
        queue["name"]
        for queue in found[Kind.QUEUE]
        if queue["name"].startswith("broadway.") and queue.get("durable") and queue["name"] not in needed
    )


def name(kind: Kind, each: Object) -> str:
    """What operators call one thing."""
    if kind is Kind.BINDING:
        return f"{each['source']} -> {each['destination']} ({each['routing_key'] or 'all'})"
    return str(each["name"])


def _objects(queues: Sequence[Queue], vhost: str, version: Version) -> dict[Kind, list[Object]]:
    return {
        Kind.EXCHANGE: [_exchange(exchange, vhost) for exchange in EXCHANGES],
        Kind.QUEUE: [_queue(queue, vhost) for queue in queues],
        Kind.BINDING: [binding for queue in queues for binding in _bindings(queue, vhost)],
        Kind.POLICY: [_policy(policy, vhost) for policy in POLICIES if policy.since <= version],
    }


def _paired(kind: Kind, wanted: Sequence[Object], found: Sequence[Object]) -> Iterable[tuple[Object, Object | None]]:
    there = {name(kind, each): each for each in found}
    return ((each, there.get(name(kind, each))) for each in wanted)


def _exchange(exchange: Exchange, vhost: str) -> Object:
    return {
        "vhost": vhost,
        "name": exchange.name,
        "type": exchange.kind,
        "durable": True,
        "auto_delete": False,
        "internal": False,
        "arguments": exchange.arguments,
    }


def _queue(queue: Queue, vhost: str) -> Object:
    return {
        "vhost": vhost,
        "name": queue.name,
        "durable": True,
        "auto_delete": False,
        "arguments": queue.arguments,
    }


def _bindings(queue: Queue, vhost: str) -> Iterable[Object]:
    return (
        {
            "vhost": vhost,
            "source": binding.exchange,
            "destination": queue.name,
            "destination_type": "queue",
            "routing_key": binding.key,
            "arguments": {},
        }
        for binding in queue.bindings
    )


def _policy(policy: Policy, vhost: str) -> Object:
    return {
        "vhost": vhost,
        "name": policy.name,
        "pattern": policy.pattern,
        "apply-to": "queues",
        "definition": dict(policy.definition),
        "priority": policy.priority,
    }
