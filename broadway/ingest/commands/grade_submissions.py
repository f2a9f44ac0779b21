"""Starting the grading of submissions: each becomes a delivery, which is decided as a push is.

A crash between storing a submission and storing its delivery is repaired by a sweep.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from broadway.domain.assignment_settings import AssignmentSettings, Start
from broadway.domain.submission import UPLOADS, Submission, hook_of_uploads, push_of
from broadway.domain.webhook import Delivery, Hook
from broadway.ingest.commands.receive import Arrival
from broadway.ingest.commands.stores import RecentHooks
from broadway.lifecycle.stores import CurrentSettings
from broadway.ports import Retry, StoreError
from broadway.runtime import metrics
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.isolation import isolated

log = structlog.get_logger(__name__)

GRACE = timedelta(seconds=10)  # for the request that brings a submission; then the sweep begins its grading
SWEEP_INTERVAL = 5.0  # seconds
SWEEP = 100  # submissions at a time


class DueSubmissions(Protocol):
    """Submissions whose grading has to begin."""

    async def settle(self, identity: str) -> None:
        """Note that the grading of a submission has begun, or waits for a run for the roster."""

    async def due(self, now: datetime, *, limit: int) -> Sequence[Submission]:
        """Return submissions whose grading should have begun."""


class Deliveries(Protocol):
    """Receives deliveries; see ``Receiver``."""

    async def receive(self, arrival: Arrival) -> tuple[Delivery, bool]:
        """Store a delivery, then decide it unless that takes too long."""


@dataclass(frozen=True, slots=True)
class HooksAndUploads:
    """The hooks of courses, and those that stand for the uploads of assignments."""

    hooks: RecentHooks
    settings: CurrentSettings

    async def recent(self, course: str, name: str) -> Hook | None:
        """Return a hook, or None."""
        if not name.startswith(UPLOADS):
            return await self.hooks.recent(course, name)
        assignment = name.removeprefix(UPLOADS)
        return hook_of_uploads(course, assignment, (await self.settings.current(course, assignment)).settings)


@dataclass(frozen=True, slots=True)
class GradingStarts:
    """Begins the grading of submissions."""

    settings: CurrentSettings
    submissions: DueSubmissions
    deliveries: Deliveries

    async def begin(self, submission: Submission, settings: AssignmentSettings) -> Delivery | None:
        """Begin the grading of a submission by the settings of its assignment; return its delivery.

        None stands for a submission that waits for a run for the roster.

        Safe to repeat: a submission is one delivery.
        """
        delivery = None
        if settings.starts is Start.AT_ONCE:
            hook = hook_of_uploads(submission.course, submission.assignment, settings)
            push, trace = push_of(submission), submission.traceparent
            arrival = Arrival(hook, push, submission.id, traceparent=trace, received_at=submission.at)
            delivery, _ = await self.deliveries.receive(arrival)
            await reach(Point.UPLOAD_DELIVERED)
        await self.submissions.settle(submission.id)
        return delivery

    async def run(self) -> None:
        """Begin the grading of submissions that a crash left behind, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            try:
                for submission in await self.submissions.due(datetime.now(UTC), limit=SWEEP):
                    with isolated("submissions", submission=submission.id):
                        current = await self.settings.current(submission.course, submission.assignment)
                        await self.begin(submission, current.settings)
                        metrics.REPAIRS.labels(metrics.Repair.SUBMISSION).inc()
                        log.warning("repair: grading of a submission begun late", submission=submission.id)
            except (StoreError, Retry) as error:
                log.warning("submissions not looked after", reason=str(error))
