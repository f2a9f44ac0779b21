"""Health checks of the parts that a service needs, such as its store: which are unavailable, since when, and why.

Services with an HTTP port answer with the report. Other services write it to a file, which ``broadway health`` reads
for supervisors.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from broadway.readiness import STALE
from broadway.runtime import metrics, supervision
from broadway.runtime.cancellation import end

log = structlog.get_logger(__name__)

INTERVAL = 5.0  # seconds between two checks
GIVE_UP = 4.0  # timeout of a check, in seconds
GRACE = 0.1  # further seconds, for an answer that this process was too busy to process

Check = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Outage:
    """The outage of a part: its beginning and its reason."""

    since: datetime
    reason: str


@dataclass(slots=True)
class Health:
    """Checks every part at regular intervals.

    Args:
        checks: Checks by the part's name. Each returns when the part answers, and limits its own time.
        vital: The parts without which the service cannot work at all; all parts by default.
        file: The file to write the report to after every check.
        interval: Seconds between two checks of a part.
        give_up: The timeout of a check, in seconds.
        patience: Timeouts of single parts that differ from ``give_up``, by the part's name.
        answered_at: By the part's name, the monotonic time of its last answer to any request. A part that answers
            others while a check waits is slow, but not unavailable.
    """

    checks: Mapping[str, Check]
    vital: frozenset[str] | None = None
    file: Path | None = None
    interval: float = INTERVAL
    give_up: float = GIVE_UP
    patience: Mapping[str, float] = field(default_factory=dict)
    answered_at: Mapping[str, Callable[[], float]] = field(default_factory=dict)
    _outages: dict[str, Outage] = field(default_factory=dict)
    _losses: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    _unanswered: set[asyncio.Task[str | None]] = field(default_factory=set)
    _reported: str = ""
    _checked_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _checked: float = field(default_factory=time.monotonic)

    async def run(self) -> None:
        """Check until cancelled; a part that is slow to answer does not delay the checks of the other parts."""
        try:
            await self.check()
            async with asyncio.TaskGroup() as group:
                for part in self.checks:
                    group.create_task(self._watch(part))
        finally:
            await end(*self._unanswered)

    async def check(self) -> None:
        """Check every part once."""
        await self.check_parts(self.checks)

    async def check_parts(self, parts: Collection[str]) -> None:
        """Check some parts once, for example parts that may be unavailable."""
        await asyncio.gather(*(self._check(part, check) for part, check in self.checks.items() if part in parts))
        self._write_report()

    async def _watch(self, part: str) -> None:
        while True:
            await asyncio.sleep(self.interval)
            await self.check_parts([part])

    def _write_report(self) -> None:
        self._checked_at, self._checked = datetime.now(UTC), time.monotonic()
        if (sentence := self._sentence()) != self._reported:
            supervision.status(sentence)
            self._reported = sentence
        if self.file:
            draft = self.file.with_suffix(".new")
            try:
                draft.write_text(json.dumps(self.report()))
                draft.replace(self.file)
            except OSError as error:  # such as a full disk; the service goes on, and its old report counts as stuck
                log.warning("health report not written", file=str(self.file), reason=error.strerror)

    def _sentence(self) -> str:
        away = [f"{part} is away since {o.since:%H:%M:%S} UTC: {o.reason}" for part, o in self._outages.items()]
        return "; ".join(away) or "ready"

    def is_unavailable(self, part: str) -> bool:
        """Return whether a part failed its last check; False if the last check of any part is too long ago."""
        return part in self._outages and time.monotonic() - self._checked < STALE.total_seconds()

    def loss(self, part: str) -> "asyncio.Future[None]":
        """Return a future that is done as soon as a part is unavailable. Callers share it and must not cancel it."""
        loss = self._losses.setdefault(part, asyncio.get_running_loop().create_future())
        if part in self._outages and not loss.done():
            loss.set_result(None)
        return loss

    def reason(self, part: str) -> str:
        """Return the reason why a part is unavailable; empty if it is available."""
        return self._outages[part].reason if part in self._outages else ""

    @property
    def is_ready(self) -> bool:
        """True if all vital parts answer."""
        return not any(self.vital is None or part in self.vital for part in self._outages)

    def report(self) -> dict[str, Any]:
        """Return ``ready``, a boolean for each part, and the beginning and reason of each outage. Times are UTC."""
        return {
            "ready": self.is_ready,
            **{part: part not in self._outages for part in self.checks},
            "away": {part: {"since": o.since.isoformat(), "reason": o.reason} for part, o in self._outages.items()},
            "looked_at": self._checked_at.isoformat(),
        }

    async def _is_silent(self, part: str, check: asyncio.Task[Any], patience: float) -> bool:
        """Wait for a check; return True once its part has answered no request for ``patience`` seconds meanwhile.

        Return False after ``give_up`` seconds at the latest: the part answers other requests.
        """
        begun = time.monotonic()
        answered_at = self.answered_at.get(part, lambda: begun)
        while not check.done():
            now = time.monotonic()
            silent = now - max(begun, answered_at())
            if silent >= patience:
                await asyncio.wait({check}, timeout=GRACE)
                return not check.done()
            if now - begun >= max(patience, self.give_up):
                return False
            await asyncio.wait({check}, timeout=patience - silent)
        return False

    async def _check(self, part: str, check: Check) -> None:
        task = asyncio.create_task(_problem(check))
        self._unanswered.add(task)
        task.add_done_callback(self._unanswered.discard)
        # A check that gets no answer keeps running: cancelling it could leave the library in a bad state.
        timeout, begun = self.patience.get(part, self.give_up), time.monotonic()
        is_silent = await self._is_silent(part, task, timeout)
        problem = task.result() if task.done() else f"no answer within {timeout:g} s" if is_silent else None
        metrics.PART_UP.labels(part).set(problem is None)
        metrics.PART_CHECK_SECONDS.labels(part).set(time.monotonic() - begun)
        if problem is not None:
            if part not in self._outages:
                log.warning("part away", part=part, reason=problem)
            since = self._outages[part].since if part in self._outages else datetime.now(UTC)
            self._outages[part] = Outage(since, problem)
            self.loss(part)
        elif outage := self._outages.pop(part, None):
            self._losses.pop(part, None)
            log.info("part back", part=part, seconds=round((datetime.now(UTC) - outage.since).total_seconds(), 1))


async def _problem(check: Check) -> str | None:
    """Return the error of a check, or None."""
    try:
        await check()
    except Exception as error:  # noqa: BLE001 - any error means that the part is unavailable
        return str(error)
    return None
