"""Reads of the loads of pools, which many readers share: scalers poll them."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from broadway.domain.pool_load import PoolLoad, PoolSlots, Rates, StoredLoad
from broadway.ingest.reads.stores import LiveGraders
from broadway.messages.topology import ready_queue
from broadway.ports import PublishError, QueueStates
from broadway.runtime.shared_calls import SharedCalls

LIFETIME = 2.0  # seconds for which all readers share a read, at least
REST = 20  # the lifetime of a read, as a multiple of its time: reads take a twentieth of the time at most
LONGEST = 60.0  # seconds that a read may be old
BROKER_WITHIN = 2.0  # seconds for the depths of all queues

log = structlog.get_logger(__name__)


class LoadsInStore(Protocol):
    """Queries on jobs."""

    async def load_of_pool(self, pool: str, now: datetime) -> StoredLoad:
        """Return the load of a pool by the store; it counts a bounded number of jobs."""


@dataclass(frozen=True, slots=True)
class _Read:
    loads: Mapping[str, PoolLoad]
    good_until: float


class PoolLoads:
    """The loads of pools. A read of all serves all readers for ``REST`` times as long as it took."""

    def __init__(
        self,
        graders: LiveGraders,
        jobs: LoadsInStore,
        queues: QueueStates,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._graders = graders
        self._jobs = jobs
        self._queues = queues
        self._clock = clock
        self._rates = Rates()
        self._calls = SharedCalls(self._read)
        self._latest = _Read({}, 0.0)

    async def of(self, pools: Sequence[str]) -> Mapping[str, PoolLoad]:
        """Return the loads of pools by name."""
        latest = self._latest
        if self._clock() < latest.good_until and latest.loads.keys() >= set(pools):
            return latest.loads
        return await self._calls.get(tuple(sorted(pools)))

    async def _read(self, pools: tuple[str, ...]) -> Mapping[str, PoolLoad]:
        begun = self._clock()
        graders = await self._graders.alive()
        self._rates.add(begun, graders)
        stored = {pool: await self._jobs.load_of_pool(pool, datetime.now(UTC)) for pool in pools}
        ready = await self._ready(pools)
        own = {pool: [each for each in graders if each.pool == pool] for pool in pools}
        loads = {
            pool: PoolLoad(
                graders=len(own[pool]),
                slots=PoolSlots.of(own[pool]),
                stored=stored[pool],
                ready=ready.get(pool),
                rate=self._rates.of(begun, own[pool]),
            )
            for pool in pools
        }
        ended = self._clock()
        self._latest = _Read(loads, ended + min(LONGEST, max(LIFETIME, REST * (ended - begun))))
        return loads

    async def _ready(self, pools: Sequence[str]) -> dict[str, int]:
        """Return the numbers of messages in the pools' ready queues, without those that the broker does not give."""
        ready: dict[str, int] = {}
        try:
            async with asyncio.timeout(BROKER_WITHIN):
                for pool in pools:
                    state = await self._queues.queue_state(ready_queue(pool))
                    ready[pool] = state.waiting if state else 0
        except (PublishError, TimeoutError) as error:
            log.debug("no depths of ready queues", reason=str(error))
        return ready
