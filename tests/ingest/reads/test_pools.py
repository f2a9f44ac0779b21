"""Reads of the loads of pools are shared, take a part of the time only, and need no broker."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from broadway.domain.grader import Grader
from broadway.domain.pool_load import StoredLoad
from broadway.ingest.reads.pools import LONGEST, REST, PoolLoads
from broadway.messages.topology import Queue
from broadway.ports import PublishError, QueueState


@dataclass
class Deployment:
    """A store and a broker that count questions; each question to the store takes ``seconds``."""

    seconds: float = 0.0
    now: float = 1000.0
    questions: int = 0
    pools: list[str] = field(default_factory=list)
    is_broker_away: bool = False

    async def alive(self) -> list[Grader]:
        self.questions += 1
        await asyncio.sleep(0)
        self.now += self.seconds
        return [Grader("a", pool="lab", slots=2, alive=True)]

    async def load_of_pool(self, pool: str, now: datetime) -> StoredLoad:
        assert now.tzinfo
        self.pools.append(pool)
        return StoredLoad(waiting=3)

    async def queue_state(self, queue: Queue) -> QueueState | None:
        if self.is_broker_away:
            raise PublishError("away", unknown=False)
        return QueueState(waiting=2, consumers=1) if queue.name == "broadway.ready.lab" else None

    def reads(self) -> PoolLoads:
        return PoolLoads(self, self, self, clock=lambda: self.now)


async def test_readers_of_a_moment_share_a_read() -> None:
    deployment = Deployment()
    loads = deployment.reads()

    found = await asyncio.gather(*(loads.of(["lab", "default"]) for _ in range(50)))

    assert deployment.questions == 1
    assert sorted(deployment.pools) == ["default", "lab"]
    assert {(each["lab"].ready, each["default"].ready) for each in found} == {(2, 0)}
    assert found[0]["lab"].slots.free == 2


async def test_a_slow_read_serves_for_longer() -> None:
    deployment = Deployment(seconds=0.5)
    loads = deployment.reads()
    await loads.of(["lab"])
    deployment.now += REST * 0.5 - 0.1
    await loads.of(["lab"])
    assert deployment.questions == 1
    deployment.now += 0.2
    await loads.of(["lab"])
    assert deployment.questions == 2

    deployment.seconds = 100.0
    deployment.now += REST
    await loads.of(["lab"])
    deployment.now += LONGEST
    await loads.of(["lab"])
    assert deployment.questions == 4, "no load is older than a minute"


async def test_a_new_pool_is_read_at_once() -> None:
    deployment = Deployment()
    loads = deployment.reads()
    await loads.of(["lab"])
    assert (await loads.of(["lab", "gpu"]))["gpu"].stored.waiting == 3


async def test_without_the_broker_only_its_number_is_missing() -> None:
    deployment = Deployment(is_broker_away=True)
    (load,) = (await deployment.reads().of(["lab"])).values()
    assert (load.ready, load.stored.waiting) == (None, 3)
