"""Removing contents of files to which nothing refers any more."""

import asyncio
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


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Removes unused contents. Several may run at a time."""

    contents: Sweepable
    references: UsedContents

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            removed = 0
            try:
                removed = await self.contents.sweep(self.references, datetime.now(UTC))
            except (StoreError, Retry) as error:
                log.warning("unused contents not removed", reason=str(error))
            if removed:
                log.info("unused contents removed", documents=removed)
            else:
                await asyncio.sleep(INTERVAL)
