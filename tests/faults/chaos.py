"""Random faults from a seed: kind, victim and duration. Their times follow the number of finished jobs.

A fault whose victim is not running at that moment is tried again, and counts only once it has struck.
"""

import math
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

import httpx2
from faults.world import World
from harness import until

RECOVERY = 10.0  # seconds of a broker after its start
KINDS = ("ingest", "dispatcher", "results", "grader")


@dataclass
class Chaos:
    """A plan of faults, and a count of the faults inflicted."""

    world: World
    seed: int
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)  # noqa: S311 - must be repeatable

    def plan(self, faults: int) -> list[str]:
        """Return the names of at least ``faults`` faults, each kind in proportion to its share, in random order.

        If ``faults`` is smaller than the number of kinds, return that many kinds at random.
        """
        shares = {
            **{f"kill {kind}": 14 for kind in KINDS},
            "kill the broker": 5,
            "kill the store": 5,
            "cut every connection": 8,
            "freeze a grader": 5,
            "freeze a service": 5,
            "stop a grader": 8,
            "raise a memory alarm": 3,
            "raise a disk alarm": 2,
            "purge a queue": 4,
            "delete a queue": 4,
            "freeze the broker": 2,
            "freeze the store": 2,
        }
        if faults < len(shares):
            return self.random.sample(sorted(shares), faults)
        total = sum(shares.values())
        planned = [name for name, share in shares.items() for _ in range(math.ceil(share * faults / total))]
        self.random.shuffle(planned)
        return planned

    async def inflict(self, faults: int, *, jobs: int) -> None:
        """Spread faults over the time in which ``jobs`` jobs get their outcomes."""
        planned = self.plan(faults)
        for number, name in enumerate(planned):
            target = jobs * number // (len(planned) + 1)
            await until(lambda at_least=target: self.world.finished_jobs() >= at_least, within=300)
            await until(lambda name=name: self._strike(name))
            self.done[name] += 1

    async def _strike(self, name: str) -> bool:
        """Inflict a fault; return False if it had no victim."""
        strikes: dict[str, Callable[[], Awaitable[object]]] = {
            **{f"kill {kind}": lambda kind=kind: self._signal(kind, signal.SIGKILL) for kind in KINDS},
            "stop a grader": lambda: self._signal("grader", signal.SIGTERM),
            "kill the broker": self.world.rabbit.server.kill,
            "kill the store": self.world.store.kill,
            "cut every connection": self.world.rabbit.close_connections,
            "freeze a grader": lambda: self._freeze("grader"),
            "freeze a service": lambda: self._freeze(self.random.choice(KINDS[:-1])),
            "raise a memory alarm": lambda: self.world.rabbit.alarm(2),
            "raise a disk alarm": lambda: self.world.rabbit.disk_alarm(2),
            "purge a queue": self._purge,
            "delete a queue": self._delete,
            "freeze the broker": lambda: self.world.rabbit.server.freeze(self.random.uniform(1, 6)),
            "freeze the store": lambda: self.world.store.freeze(self.random.uniform(1, 6)),
        }
        # The other faults always have a victim, and return None.
        return await strikes[name]() not in (False, 0)

    async def _signal(self, kind: str, number: signal.Signals) -> bool:
        return self.random.choice(self.world.of(kind)).send(number)

    async def _freeze(self, kind: str) -> bool:
        """Freeze a process, for a time that may be longer or shorter than the broker and the reconciler wait."""
        return await self.random.choice(self.world.of(kind)).freeze(self.random.uniform(1, 5))

    async def _purge(self) -> bool:
        return await self._at_a_queue(self.world.rabbit.purge)

    async def _delete(self) -> bool:
        """Delete a queue, but not one that the broker still recovers.

        In RabbitMQ 3.10 that crashes the worker of its dead letters. Two such crashes within seconds end the broker's
        supervisor of these workers, and no queue with dead letters starts any more until the broker is restarted.
        """
        try:
            if await self.world.rabbit.uptime() < RECOVERY:
                return False
        except httpx2.HTTPError:
            return False
        return await self._at_a_queue(self.world.rabbit.delete)

    async def _at_a_queue(self, strike: Callable[[str], Awaitable[None]]) -> bool:
        """Strike a random shared queue. The loss of its messages may cost only repeated work."""
        try:
            queues = sorted(await self.world.rabbit.queues())
            shared = ("broadway.course.", "broadway.ready.", "broadway.results", "broadway.dispatcher")
            candidates = [name for name in queues if name.startswith(shared)]
            await strike(self.random.choice(candidates))
        except (httpx2.HTTPError, IndexError):
            return False
        return True
