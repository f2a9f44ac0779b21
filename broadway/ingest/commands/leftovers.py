"""Removal of environments that a process stored for a run before it died, so that the run was never stored."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from broadway.ports import StoreError
from broadway.runtime.isolation import isolated

log = structlog.get_logger(__name__)

INTERVAL = 600.0  # seconds between two removals
AGE = timedelta(hours=1)  # no process takes that long between the environments and their run


class PreparedRuns(Protocol):
    """Runs whose environments are stored first."""

    async def remove_leftovers(self, before: datetime) -> int:
        """Remove the environments of runs that no process has stored since a moment; return the number of runs."""


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Removes leftovers of submissions at regular intervals."""

    runs: PreparedRuns

    async def run(self) -> None:
        """Remove leftovers until cancelled."""
        while True:
            try:
                with isolated("leftovers"):
                    await self.remove()
            except StoreError as error:
                log.warning("leftovers not removed", reason=str(error))
            await asyncio.sleep(INTERVAL)

    async def remove(self) -> None:
        """Remove the leftovers that are old enough.

        Raises:
            StoreError: The store is unavailable.
        """
        if number := await self.runs.remove_leftovers(datetime.now(UTC) - AGE):
            log.info("repair: environments of runs that were never stored are removed", runs=number)
