"""Removing artifacts whose time is over, and contents of files to which nothing refers any more."""

import asyncio
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from broadway.ports import Retry, StoreError, UsedContents

log = structlog.get_logger(__name__)

INTERVAL = 60.0  # seconds between sweeps, while there is little to remove


class Sweepable(Protocol):
    """Contents that can be removed."""

    async def sweep(self, references: UsedContents, now: datetime) -> int:
        """Remove contents to which nothing refers, some at a time; return how many documents were removed."""


class Expiring(Protocol):
    """Documents that are kept for some time."""

    async def expire(self, now: datetime) -> int:
        """Remove the documents whose time is over; return their number."""


@dataclass(frozen=True, slots=True)
class AnyOf:
    """All documents that refer to contents, of several collections."""

    references: Sequence[UsedContents]

    async def used(self, digests: AbstractSet[str]) -> set[str]:
        """Return the digests to which a document of any collection refers."""
        used: set[str] = set()
        for each in self.references:
            used |= await each.used(digests - used)
        return used


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Removes expired documents and unused contents. Several may run at a time."""

    contents: Sweepable
    references: UsedContents
    expiring: Expiring

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            removed = 0
            try:
                if expired := await self.expiring.expire(datetime.now(UTC)):
                    log.info("artifacts removed: their time is over", jobs=expired)
                removed = await self.contents.sweep(self.references, datetime.now(UTC))
            except (StoreError, Retry) as error:
                log.warning("unused contents not removed", reason=str(error))
            if removed:
                log.info("unused contents removed", documents=removed)
            else:
                await asyncio.sleep(INTERVAL)
