"""The topology in the form of RabbitMQ's management API and definition files, and deviations from it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from broadway.messages.topology import EXCHANGES, POLICIES, Exchange, Policy, Queue

Object = Mapping[str, Any]
Version = tuple[int, int]


class Kind(StrEnum):
    """The kinds of objects at a broker, in the order of their creation; the values are the keys of definition files."""

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
_CHANGEABLE = frozenset({Kind.POLICY})  # RabbitMQ cannot change objects of the other kinds


@dataclass(frozen=True, slots=True)
class Drift:
    """One object that is missing or differs from ``wanted``; ``found`` is the present object, or None."""

    kind: Kind
    name: str
    wanted: Object
    found: Object | None

    @property
    def can_be_repaired(self) -> bool:
        """True if a repair needs no deletion, and so loses no messages."""
        return self.found is None or self.kind in _CHANGEABLE

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.kind.noun} {self.name} is missing"
        differing = [key for key in _COMPARED[self.kind] if self.found.get(key) != self.wanted[key]]
        details = ", ".join(f"{key} is {self.found.get(key)!r}, not {self.wanted[key]!r}" for key in differing)
        return f"{self.kind.noun} {self.name}: {details}"


def definitions(queues: Iterable[Queue], *, vhost: str, version: Version) -> dict[str, list[Object]]:
    """Return the whole topology without users, in the form that RabbitMQ exports and imports.

    Args:
        queues: The durable queues; consumers declare their exclusive queues themselves.
        vhost: The virtual host.
        version: The broker's version; policies that need a later one are left out.
    """
    durable = list(queues)
    return {
        "vhosts": [{"name": vhost}],
        **{kind.value: objects for kind, objects in _objects(durable, vhost, version).items()},
    }


def drifts(wanted: Mapping[str, Sequence[Object]], found: Mapping[str, Sequence[Object]]) -> list[Drift]:
    """Return the missing and differing objects, in the order of their creation. Additional objects are ignored."""
    return [
        Drift(kind, name(kind, each), each, present)
        for kind in Kind
        for each, present in _paired(kind, wanted[kind], found[kind])
        if present is None or any(present.get(key) != each[key] for key in _COMPARED[kind])
    ]


def left_over(wanted: Mapping[str, Sequence[Object]], found: Mapping[str, Sequence[Object]]) -> list[str]:
    """Return the names of our durable queues that no course and no pool needs, such as those of a removed course."""
    needed = {queue["name"] for queue in wanted[Kind.QUEUE]}
    return sorted(
        queue["name"]
        for queue in found[Kind.QUEUE]
        if queue["name"].startswith("broadway.") and queue.get("durable") and queue["name"] not in needed
    )


def name(kind: Kind, each: Object) -> str:
    """Return an object's name for operators."""
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
    by_name = {name(kind, each): each for each in found}
    return ((each, by_name.get(name(kind, each))) for each in wanted)


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
