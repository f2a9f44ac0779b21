"""Faults at random, by a seed: which, to whom and for how long. When they strike follows the jobs that are done.

What strikes nobody, since its victim is away just then, is tried again, and is no fault until it has struck.
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

KINDS = ("ingest", "dispatcher", "results", "grader")


@dataclass
class Chaos:
    """A plan of faults, and what has been done of it."""

    world: World
    seed: int
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)  # noqa: S311 - to be the same again

    def plan(self, faults: int) -> list[str]:
        """Names of at least so many faults: every kind of the list below in its share, in random order.

        If there are to be fewer than kinds, they are of so many kinds at random.
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
        """Spread faults over the time in which ``jobs`` get their outcomes."""
        planned = self.plan(faults)
        for number, name in enumerate(planned):
            target = jobs * number // (len(planned) + 1)
            await until(lambda at_least=target: self.world.finished_jobs() >= at_least, within=300)
            await until(lambda name=name: self._strike(name))
            self.done[name] += 1

    async def _strike(self, name: str) -> bool:
        """Whether there was somebody to be struck."""
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
        # Parts of the world that come back by themselves cannot be missed, and say nothing.
        return await strikes[name]() not in (False, 0)

    async def _signal(self, kind: str, number: signal.Signals) -> bool:
        return self.random.choice(self.world.of(kind)).send(number)

    async def _freeze(self, kind: str) -> bool:
        """For longer than the broker's or the reconciler's patience, or for less."""
        return await self.random.choice(self.world.of(kind)).freeze(self.random.uniform(1, 5))

    async def _purge(self) -> bool:
        return await self._at_a_queue(self.world.rabbit.purge)

    async def _delete(self) -> bool:
        return await self._at_a_queue(self.world.rabbit.delete)

    async def _at_a_queue(self, strike: Callable[[str], Awaitable[None]]) -> bool:
        """Any that is shared; losing what is in it must cost some work again at most."""
        try:
            queues = sorted(await self.world.rabbit.queues())
            shared = ("broadway.course.", "broadway.ready.", "broadway.results", "broadway.dispatcher")
            wanted = [name for name in queues if name.startswith(shared)]
            await strike(self.random.choice(wanted))
        except (httpx2.HTTPError, IndexError):
            return False
        return True
