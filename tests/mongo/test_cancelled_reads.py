"""Reads that are cancelled at any moment leave no connection taken."""

import asyncio
import time

from harness import PATIENCE

from broadway.mongo.store import Store

CONNECTIONS = 100  # of the driver's pool, by default


async def test_the_store_knows_when_it_has_answered_last(store: Store) -> None:
    before = time.monotonic()
    await store.runs.summary("0" * 24)
    assert before < store.answered_at() < time.monotonic()


async def test_cancelled_reads_leave_their_connections_to_others(store: Store) -> None:
    for _ in range(3):
        reads = [asyncio.create_task(store.ping()) for _ in range(CONNECTIONS + 50)]
        for read in reads:  # some wait for a connection, some open one, some wait for the answer
            await asyncio.sleep(0)
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(store.ping() for _ in range(CONNECTIONS + 50)))
