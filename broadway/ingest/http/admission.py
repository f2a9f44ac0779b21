"""Limits on clients before and besides their tokens: connections, memory, disk and rates, together and per address."""

import re
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from math import ceil
from typing import Any, Self

from prometheus_client import Gauge

from broadway.runtime import metrics
from broadway.runtime.metrics import Limit
from broadway.settings.http import HttpSettings, Network, networks

SIGN_INS = 5  # wrong tokens of an address in the form for signing in, in a minute
EXCHANGES = 60  # refused answers of a provider from one address in a minute
BURST = 10  # seconds whose requests may come at once
MOST_KEYS = 10_000  # addresses or tokens to remember; the least recently seen are forgotten
REPEATED = 0.2  # of a failure, for a wrong token that has been counted already
RETRY_AFTER = 5  # seconds, for limits that end with other requests
TOO_MANY, BUSY = 429, 503

# Tokens that Broadway makes are too long to be guessed.
_GENERATED = re.compile(r"bw[a-z]_[A-Za-z0-9_-]{32,}")


class LimitError(Exception):
    """A request or a connection beyond a limit, which the metrics count; the client may try again later."""

    def __init__(self, limit: Limit, status: int, message: str, *, seconds: float = RETRY_AFTER) -> None:
        self.status = status
        self.seconds = max(1, ceil(seconds))
        super().__init__(f"{message}; try again in {self.seconds} s")
        metrics.HTTP_LIMITED.labels(limit).inc()

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.seconds)}


class Rates:
    """Token buckets by key. A new or forgotten key has a full bucket."""

    def __init__(self, rate: float, capacity: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._capacity = capacity
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # content, and its time

    def take(self, key: str, amount: float = 1.0) -> float:
        """Take an amount from a key's bucket and return 0, or return the seconds until the bucket has it."""
        content, now = self._content(key)
        if content < amount:
            return (amount - content) / self._rate
        self._buckets[key] = (content - amount, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > MOST_KEYS:
            self._buckets.popitem(last=False)
        return 0.0

    def wait(self, key: str) -> float:
        """Return the seconds until a key's bucket has one, or 0."""
        content, _ = self._content(key)
        return max(0.0, (1 - content) / self._rate)

    def _content(self, key: str) -> tuple[float, float]:
        now = self._clock()
        content, since = self._buckets.get(key, (self._capacity, now))
        return min(self._capacity, content + (now - since) * self._rate), now


class Budget:
    """An amount that all clients share; each address may have a part of it."""

    def __init__(
        self,
        limit: Limit,
        noun: str,
        total: int,
        each: int,
        gauge: Gauge | None = None,
        *,
        whose: str = "from your address",
    ) -> None:
        self._limit = limit
        self._gauge = gauge
        self._noun = noun
        self._whose = whose
        self._total = total
        self._each = each
        self._held: Counter[str] = Counter()
        self.used = 0

    def take(self, address: str | None, amount: int) -> None:
        """Take an amount for an address; None is the address of a proxy, with only the limit on all together.

        Raises:
            LimitError: The amount is not available; nothing is taken.
        """
        if address is not None and self._held[address] + amount > self._each:
            raise LimitError(self._limit, TOO_MANY, f"too {self._noun} {self._whose} at a time")
        if self.used + amount > self._total:
            raise LimitError(self._limit, BUSY, f"too {self._noun} at a time")
        self._change(address, amount)

    def give_back(self, address: str | None, amount: int) -> None:
        self._change(address, -amount)

    def _change(self, address: str | None, amount: int) -> None:
        self.used += amount
        if self._gauge:
            self._gauge.inc(amount)
        if address is not None:
            self._held[address] += amount
            if not self._held[address]:
                del self._held[address]


class Held:
    """The part of a budget that one client holds, until it is released. After its end nothing is counted any more."""

    def __init__(self, budget: Budget, address: str | None) -> None:
        self._budget = budget
        self._address = address
        self._is_over = False
        self.amount = 0

    def take(self, amount: int) -> None:
        """Take more.

        Raises:
            LimitError: It is not available, and all is released: the client is refused, and others that grow at the
                same time may have what it held.
        """
        if self._is_over:
            return
        try:
            self._budget.take(self._address, amount)
        except LimitError:
            self.release()
            raise
        self.amount += amount

    def release(self) -> None:
        self._budget.give_back(self._address, self.amount)
        self.amount = 0

    def end(self) -> None:
        """Release all, for good: a handler may go on after its request was answered, and would hold it for ever."""
        self.release()
        self._is_over = True


class Digests:
    """Hashes of tokens; the least recently added are forgotten."""

    def __init__(self) -> None:
        self._digests: OrderedDict[str, None] = OrderedDict()

    def add(self, digest: str) -> None:
        self._digests[digest] = None
        self._digests.move_to_end(digest)
        if len(self._digests) > MOST_KEYS:
            self._digests.popitem(last=False)

    def __contains__(self, digest: str) -> bool:
        return digest in self._digests


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """All limits of one process."""

    proxies: Sequence[Network]
    connections: Budget
    proxied: Budget  # requests that came through proxies, in place of their clients' connections
    memory: Budget
    spool: Budget
    strangers: Rates
    tokens: Rates
    failures: Rates
    sign_ins: Rates = field(default_factory=lambda: Rates(SIGN_INS / 60, SIGN_INS))
    exchanges: Rates = field(default_factory=lambda: Rates(EXCHANGES / 60, EXCHANGES))
    known: Digests = field(default_factory=Digests)  # tokens that were valid at an earlier use
    wrong: Digests = field(default_factory=Digests)  # tokens, each with the course that refused it
    _places: dict[Any, Held] = field(default_factory=dict)  # by connection

    @classmethod
    def of(cls, settings: HttpSettings, trusted_proxies: str, *, connections: int | None = None) -> Self:
        """Return the limits that settings ask for; ``connections`` is the number that the process can have."""
        most = min(settings.connections, connections or settings.connections)
        each = settings.connections_per_address
        per_minute = settings.failures_per_minute
        return cls(
            proxies=networks(trusted_proxies),
            connections=_budget(Limit.CONNECTIONS, "many connections", most, each, metrics.HTTP_CONNECTIONS),
            proxied=_budget(Limit.CONNECTIONS, "many requests", most, each),
            memory=_budget(
                Limit.MEMORY,
                "many large requests",
                settings.body_memory,
                settings.body_memory_per_address,
                metrics.HTTP_BODY_BYTES.labels("memory"),
            ),
            spool=_budget(
                Limit.SPOOL,
                "many deliveries",
                settings.spool_size,
                settings.spool_size_per_address,
                metrics.HTTP_BODY_BYTES.labels("spool"),
            ),
            strangers=Rates(settings.requests_per_address, settings.requests_per_address * BURST),
            tokens=Rates(settings.requests_per_token, settings.requests_per_token * BURST),
            failures=Rates(per_minute / 60, per_minute),
        )

    def is_proxy(self, peer: str) -> bool:
        """Return whether a peer is one of the trusted proxies."""
        try:
            address = _unmapped(peer)
        except ValueError:
            return False
        return any(address.version == network.version and address in network for network in self.proxies)

    def connect(self, connection: Any, peer: str, earlier: Any = None) -> None:
        """Let a connection in; HTTP and WebSocket on it are the same connection.

        It takes the place of ``earlier``, if that has one: a connection whose handshake is complete.

        Raises:
            LimitError: There are too many.
        """
        if earlier in self._places:
            self._places[connection] = self._places.pop(earlier)
            return
        place = Held(self.connections, self.address_of_peer(peer))
        place.take(1)
        self._places[connection] = place

    def disconnect(self, connection: Any) -> None:
        """Release the place of a connection, if it has one."""
        if place := self._places.pop(connection, None):
            place.release()

    def address_of_peer(self, peer: str) -> str | None:
        """Return a peer's address as limits count it; None for a proxy, which has many clients."""
        return None if self.is_proxy(peer) else network_of(peer)

    def client_of(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the address of a request's client, for limits.

        Args:
            peer: The address of the connection's other end.
            forwarded: The values of the request's X-Forwarded-For. Each proxy appends its peer, so that the last
                address that is no proxy's is the client's; a client can write anything before it.
        """
        if not self.is_proxy(peer):
            return network_of(peer)
        nearest = peer
        for part in reversed(",".join(forwarded).split(",")):
            hop = _hop(part)
            if hop is None:
                break  # no address: the nearest known proxy stands for its clients
            nearest = hop
            if not self.is_proxy(nearest):
                break
        return network_of(nearest)

    def check(self, address: str, token: str | None) -> None:
        """Count a request, and return if it is within the rates.

        A token that is known to be valid has a rate of its own, so that no neighbor behind the same address slows its
        owner. Any other token is refused without a look at it while the address has too many failures, unless it is
        of a form that is too long to be guessed.

        Raises:
            LimitError: It exceeds a rate.
        """
        if token is not None and (digest := digest_of(token)) in self.known:
            if seconds := self.tokens.take(digest):
                raise LimitError(Limit.TOKEN_RATE, TOO_MANY, "too many requests with this token", seconds=seconds)
            return
        if seconds := self.strangers.take(address):
            raise LimitError(Limit.ADDRESS_RATE, TOO_MANY, "too many requests from your address", seconds=seconds)
        if token is not None and not _GENERATED.fullmatch(token) and (seconds := self.failures.wait(address)):
            raise LimitError(Limit.FAILURES, TOO_MANY, "too many wrong tokens from your address", seconds=seconds)

    def note_failure(self, address: str, token: str, course: str = "") -> None:
        """Count a wrong token of a course.

        One that is repeated is no guess, but the old token of a client that goes on: it counts for a part. One of the
        form that is too long to be guessed does not count, such as the expired token of a student.
        """
        if not _GENERATED.fullmatch(token):
            digest = digest_of(f"{course} {token}")
            self.failures.take(address, REPEATED if digest in self.wrong else 1)
            self.wrong.add(digest)

    def note_valid(self, token: str) -> None:
        """Remember that a token is valid."""
        self.known.add(digest_of(token))


def digest_of(token: str) -> str:
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def network_of(address: str) -> str:
    """Return an address as limits count it: an IPv6 address by its network of /64, any other text as it is."""
    try:
        known = _unmapped(address)
    except ValueError:
        return address
    return str(ip_network((known, 64), strict=False)) if isinstance(known, IPv6Address) else str(known)


def _unmapped(text: str) -> IPv4Address | IPv6Address:
    """Return an address; one of IPv4 that is written as IPv6 is one of IPv4."""
    known = ip_address(text.partition("%")[0])
    return (isinstance(known, IPv6Address) and known.ipv4_mapped) or known


def _hop(text: str) -> str | None:
    """Return the address of a hop in X-Forwarded-For, without its port, or None."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(_unmapped(text))
    except ValueError:
        return None


def _budget(limit: Limit, noun: str, total: int, each: int, gauge: Gauge | None = None) -> Budget:
    return Budget(limit, noun, total, min(each, total), gauge)
