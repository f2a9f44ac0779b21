"""Which of the parts that a service needs is away, since when, and why.

Services that speak HTTP answer with it; the others keep it in a file, which ``broadway health`` reads for supervisors.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from broadway.readiness import STALE
from broadway.runtime import metrics
from broadway.runtime.cancellation import end

log = structlog.get_logger(__name__)

INTERVAL = 5.0  # seconds between two looks
GIVE_UP = 4.0  # seconds that an answer is waited for
GRACE = 0.1  # seconds more, in which a process that was busy itself takes note of an answer

Check = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Away:
    """A part that does not answer."""

    since: datetime
    reason: str


@dataclass(slots=True)
class Health:
    """Looks at every part again and again.

    Args:
        checks: By the part's name; each returns when the part answers, and limits its own time.
        vital: The parts without which the service cannot do its work at all; all by default.
        file: Where to write the report after every look.
        interval: Seconds between two looks at a part.
        give_up: Seconds that an answer is waited for.
        patience: Other seconds for some parts, by their names.
    """

    checks: Mapping[str, Check]
    vital: frozenset[str] | None = None
    file: Path | None = None
    interval: float = INTERVAL
    give_up: float = GIVE_UP
    patience: Mapping[str, float] = field(default_factory=dict)
    _away: dict[str, Away] = field(default_factory=dict)
    _losses: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    _unanswered: set[asyncio.Task[str | None]] = field(default_factory=set)
    _looked_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def run(self) -> None:
        """Look until cancelled; a part that is slow to answer does not keep the others from being asked."""
        try:
            await self.look()
            async with asyncio.TaskGroup() as group:
                for part in self.checks:
                    group.create_task(self._watch(part))
        finally:
            await end(*self._unanswered)

    async def look(self) -> None:
        """Ask every part once."""
        await self.ask(self.checks)

    async def ask(self, parts: Collection[str]) -> None:
        """Ask some parts once, such as those that there is reason to think away."""
        await asyncio.gather(*(self._ask(part, check) for part, check in self.checks.items() if part in parts))
        self._note()

    async def _watch(self, part: str) -> None:
        while True:
            await asyncio.sleep(self.interval)
            await self.ask([part])

    def _note(self) -> None:
        self._looked_at = datetime.now(UTC)
        if self.file:
            draft = self.file.with_suffix(".new")
            draft.write_text(json.dumps(self.report()))
            draft.replace(self.file)

    def is_away(self, part: str) -> bool:
        """Whether a part did not answer when it was last asked, which is not long ago."""
        return part in self._away and datetime.now(UTC) - self._looked_at < STALE

    def loss(self, part: str) -> "asyncio.Future[None]":
        """Done as soon as a part is away; to be waited for by many, and cancelled by none."""
        loss = self._losses.setdefault(part, asyncio.get_running_loop().create_future())
        if part in self._away and not loss.done():
            loss.set_result(None)
        return loss

    def reason(self, part: str) -> str:
        """Why a part is away; empty if it is not."""
        return self._away[part].reason if part in self._away else ""

    @property
    def is_ready(self) -> bool:
        """Whether all vital parts answer."""
        return not any(self.vital is None or part in self.vital for part in self._away)

    def report(self) -> dict[str, Any]:
        """``ready``, a boolean for each part, and for those that are away since when and why. Times are UTC."""
        return {
            "ready": self.is_ready,
            **{part: part not in self._away for part in self.checks},
            "away": {part: {"since": a.since.isoformat(), "reason": a.reason} for part, a in self._away.items()},
            "looked_at": self._looked_at.isoformat(),
        }

    async def _ask(self, part: str, check: Check) -> None:
        asking = asyncio.create_task(_problem(check))
        self._unanswered.add(asking)
        asking.add_done_callback(self._unanswered.discard)
        # A question that is never answered is left alone: to cancel it may be the worse for the library.
        patience = self.patience.get(part, self.give_up)
        for seconds in (patience, GRACE):
            await asyncio.wait({asking}, timeout=seconds)
        problem = asking.result() if asking.done() else f"no answer within {patience:g} s"
        metrics.PART_UP.labels(part).set(problem is None)
        if problem is not None:
            if part not in self._away:
                log.warning("part away", part=part, reason=problem)
            since = self._away[part].since if part in self._away else datetime.now(UTC)
            self._away[part] = Away(since, problem)
            self.loss(part)
        elif back := self._away.pop(part, None):
            self._losses.pop(part, None)
            log.info("part back", part=part, seconds=round((datetime.now(UTC) - back.since).total_seconds(), 1))


async def _problem(check: Check) -> str | None:
    """What keeps a part from answering."""
    try:
        await check()
    except Exception as error:  # noqa: BLE001 - whatever it is, the part is away
        return str(error)
    return None
