"""One active dispatcher at a time: the others stand by for its lease."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import structlog

from broadway.dispatcher.ports import Leases
from broadway.ports import StoreError
from broadway.runtime.cancellation import end
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)

LEASE = "dispatcher"
SURELY = 0.9  # of a lease, for as long as which it is counted on: work takes a moment to end


async def lead(work: Callable[[], Coroutine[Any, Any, None]], *, leases: Leases, holder: str, ttl: float) -> None:
    """Run ``work`` while this process holds the dispatcher's lease, until cancelled.

    Args:
        work: Runs until cancelled. An error of its own ends the leadership with it.
        leases: Where the lease is kept.
        holder: This process, by a name that no other has.
        ttl: Seconds that a lease lasts; it is renewed every third of that.
    """
    loop = asyncio.get_running_loop()
    try:
        while True:
            asked_at = loop.time()
            if await _acquire(leases, holder, ttl, until=asked_at + SURELY * ttl):
                await reach(Point.LEAD_ACQUIRED)
                log.info("leading", holder=holder)
                renewing = _renew(leases, holder, ttl, asked_at)
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


async def _renew(leases: Leases, holder: str, ttl: float, asked_at: float) -> None:
    """Return when the lease is lost, or soon may be: nobody has answered since ``asked_at``, of the loop's clock."""
    loop = asyncio.get_running_loop()
    while loop.time() < (until := asked_at + SURELY * ttl):
        await asyncio.sleep(min(ttl / 3, until - loop.time()))
        again_at = loop.time()
        try:
            if not await _ask(leases, holder, ttl, until=until):
                return
            asked_at = again_at
            await reach(Point.LEAD_RENEWED)
        except (StoreError, TimeoutError) as error:
            log.warning("lease not renewed", reason=str(error) or "no answer")


async def _acquire(leases: Leases, holder: str, ttl: float, *, until: float) -> bool:
    try:
        return await _ask(leases, holder, ttl, until=until)
    except (StoreError, TimeoutError) as error:
        log.warning("lease not acquired", reason=str(error) or "no answer")
        return False


async def _ask(leases: Leases, holder: str, ttl: float, *, until: float) -> bool:
    """Whether this process has the lease from now on. Raises StoreError, or TimeoutError at ``until``."""
    async with asyncio.timeout_at(until):
        return await leases.acquire(LEASE, holder, timedelta(seconds=ttl))


async def _release(leases: Leases, holder: str) -> None:
    try:
        await leases.release(LEASE, holder)
    except StoreError as error:
        log.warning("lease not released", reason=str(error))
