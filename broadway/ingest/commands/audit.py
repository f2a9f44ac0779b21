"""The audit log's writer. The log is append-only, and only actions of people reach it."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import structlog

from broadway.domain.audit import AuditRecord
from broadway.ports import Retry, StoreError, UnstorableError
from broadway.runtime import metrics

log = structlog.get_logger(__name__)

WAIT = 1.0  # seconds that an answer waits for its record
PATIENCE = 10.0  # seconds for which a write is repeated; a stop waits that long, too
PAUSE = 1.0  # seconds between tries


class AuditLog(Protocol):
    """The stored records."""

    async def add(self, record: AuditRecord, *, is_urgent: bool) -> None:
        """Store a record; nothing changes or removes it afterwards. One that is not urgent may wait for others."""


@dataclass(frozen=True, slots=True)
class Auditor:
    """Stores records beside the requests that they are about.

    A change that is stored already never fails for its record: the answer waits a moment for it, the write is repeated
    in the background, and a record that cannot be stored is logged and counted.
    """

    records: AuditLog
    later: Callable[[Coroutine[Any, Any, None]], None]

    async def keep(self, record: AuditRecord, *, wait: bool = True) -> None:
        """Return once the record is stored, or after ``WAIT``; without ``wait`` at once."""
        stored = asyncio.Event()
        self.later(self._store(record, stored, is_urgent=wait))
        if wait:
            try:
                async with asyncio.timeout(WAIT):
                    await stored.wait()
            except TimeoutError:
                log.warning("audit record not stored yet", operation=record.operation, object=record.object)

    async def _store(self, record: AuditRecord, stored: asyncio.Event, *, is_urgent: bool) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._until_stored(record, is_urgent=is_urgent)
        except (TimeoutError, UnstorableError) as error:
            metrics.AUDIT_LOST.inc()
            shown = {**asdict(record), "at": record.at.isoformat()}
            log.exception("audit record lost", reason=str(error) or "the store is unavailable", record=shown)
        else:
            stored.set()

    async def _until_stored(self, record: AuditRecord, *, is_urgent: bool) -> None:
        while True:
            try:
                return await self.records.add(record, is_urgent=is_urgent)
            except (StoreError, Retry):
                await asyncio.sleep(PAUSE)
