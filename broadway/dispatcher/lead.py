"""One active dispatcher at a time: the others stand by for its lease."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Protocol

import structlog

from broadway.cancellation import end
from broadway.crashpoints import Point, reach
from broadway.mongo import StoreError

log = structlog.get_logger(__name__)

LEASE = "dispatcher"


class Leases(Protocol):
    """The part of the lease store that leading needs."""

    async def acquire(self, name: str, holder: str, ttl: timedelta) -> bool: ...
    async def release(self, name: str, holder: str) -> None: ...


async def lead(work: Callable[[], Coroutine[Any, Any, None]], *, leases: Leases, holder: str, ttl: float) -> None:
    """Run ``work`` while this process holds the dispatcher's lease, until cancelled.

    Args:
        work: Runs until cancelled. An error of its own ends the leadership with it.
        leases: Where the lease is kept.
        holder: This process, by a name that no other has.
        ttl: Seconds that a lease lasts; it is renewed every third of that.
    """
    try:
        while True:
            if await _acquire(leases, holder, ttl):
                await reach(Point.LEAD_ACQUIRED)
                log.info("leading", holder=holder)
                await _work_while_leading(work, leases=leases, holder=holder, ttl=ttl)
            await asyncio.sleep(ttl / 3)
    finally:
        await asyncio.shield(_release(leases, holder))


async def _work_while_leading(
    work: Callable[[], Coroutine[Any, Any, None]], *, leases: Leases, holder: str, ttl: float
) -> None:
    working = asyncio.create_task(work())
    renewing = asyncio.create_task(_renew(leases, holder, ttl))
    try:
        await asyncio.wait((working, renewing), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(working, renewing)
    for task in (working, renewing):
        if not task.cancelled():
            task.result()
    log.warning("no longer leading", holder=holder)


async def _renew(leases: Leases, holder: str, ttl: float) -> None:
    """Return when the lease is lost, or may be: nobody could be asked for as long as it lasts."""
    loop = asyncio.get_running_loop()
    renewed_at = loop.time()
    while loop.time() - renewed_at < ttl:
        await asyncio.sleep(ttl / 3)
        try:
            if not await leases.acquire(LEASE, holder, timedelta(seconds=ttl)):
                return
            renewed_at = loop.time()
            await reach(Point.LEAD_RENEWED)
        except StoreError as error:
            log.warning("lease not renewed", reason=str(error))


async def _acquire(leases: Leases, holder: str, ttl: float) -> bool:
    try:
        return await leases.acquire(LEASE, holder, timedelta(seconds=ttl))
    except StoreError as error:
        log.warning("lease not acquired", reason=str(error))
        return False


async def _release(leases: Leases, holder: str) -> None:
    try:
        await leases.release(LEASE, holder)
    except StoreError as error:
        log.warning("lease not released", reason=str(error))
