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
TRIES = 10
PAUSE = 2.0  # seconds


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
        reason = ""
        for number in range(TRIES):
            try:
                await self.records.add(record, is_urgent=is_urgent)
            except (StoreError, Retry) as error:
                reason = str(error)
                await asyncio.sleep(PAUSE if number + 1 < TRIES else 0)
            except UnstorableError as error:
                reason = str(error)
                break
            else:
                stored.set()
                return
        metrics.AUDIT_LOST.inc()
        log.error("audit record lost", reason=reason, record={**asdict(record), "at": record.at.isoformat()})
