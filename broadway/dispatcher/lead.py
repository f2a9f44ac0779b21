"""One active dispatcher at a time: the other dispatchers stand by for its lease."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import structlog

from broadway.lifecycle.stores import Leases
from broadway.ports import StoreError
from broadway.runtime.cancellation import end
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)

LEASE = "dispatcher"
RELIABLE_SHARE = 0.9  # fraction of a lease to rely on; stopping work takes time


async def lead(work: Callable[[], Coroutine[Any, Any, None]], *, leases: Leases, holder: str, ttl: float) -> None:
    """Run ``work`` while this process holds the dispatcher's lease, until cancelled.

    Args:
        work: Runs until cancelled. Its errors end the leadership and are raised.
        leases: The stored leases.
        holder: A unique name of this process.
        ttl: The duration of a lease in seconds; it is renewed after each third of it.
    """
    loop = asyncio.get_running_loop()
    try:
        while True:
            requested_at = loop.time()
            if await _acquire(leases, holder, ttl, until=requested_at + RELIABLE_SHARE * ttl):
                await reach(Point.LEAD_ACQUIRED)
                log.info("leading", holder=holder)
                renewing = _renew(leases, holder, ttl, requested_at)
                await _work_while_leading(work, renewing, holder=holder)
            await asyncio.sleep(ttl / 3)
    finally:
        await asyncio.shield(_release(leases, holder))


async def _work_while_leading(
    work: Callable[[], Coroutine[Any, Any, None]], renew: Coroutine[Any, Any, None], *, holder: str
) -> None:
    working = asyncio.create_task(work())
    renewing = asyncio.create_task(renew)
    try:
        await asyncio.wait((working, renewing), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(working, renewing)
    for task in (working, renewing):
        if not task.cancelled():
            task.result()
    log.warning("no longer leading", holder=holder)


async def _renew(leases: Leases, holder: str, ttl: float, requested_at: float) -> None:
    """Return when the lease is lost, or may expire soon because no renewal since ``requested_at`` has succeeded.

    ``requested_at`` is in the event loop's time.
    """
    loop = asyncio.get_running_loop()
    while loop.time() < (until := requested_at + RELIABLE_SHARE * ttl):
        await asyncio.sleep(min(ttl / 3, until - loop.time()))
        renewed_at = loop.time()
        try:
            if not await _request(leases, holder, ttl, until=until):
                return
            requested_at = renewed_at
            await reach(Point.LEAD_RENEWED)
        except (StoreError, TimeoutError) as error:
            log.warning("lease not renewed", reason=str(error) or "no answer")


async def _acquire(leases: Leases, holder: str, ttl: float, *, until: float) -> bool:
    try:
        return await _request(leases, holder, ttl, until=until)
    except (StoreError, TimeoutError) as error:
        log.warning("lease not acquired", reason=str(error) or "no answer")
        return False


async def _request(leases: Leases, holder: str, ttl: float, *, until: float) -> bool:
    """Take or renew the lease; return whether this process holds it.

    Raises:
        StoreError: The store is unavailable.
        TimeoutError: The store has not answered at ``until``, in the event loop's time.
    """
    async with asyncio.timeout_at(until):
        return await leases.acquire(LEASE, holder, timedelta(seconds=ttl))


async def _release(leases: Leases, holder: str) -> None:
    try:
        await leases.release(LEASE, holder)
    except StoreError as error:
        log.warning("lease not released", reason=str(error))
