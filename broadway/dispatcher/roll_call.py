"""Heartbeats as they count: for the pool that a grader has joined, and for at most the slots that it may have."""

from dataclasses import dataclass

import structlog

from broadway.dispatcher.board import Board
from broadway.lifecycle.stores import GradersById
from broadway.messages.events import GraderHeartbeat
from broadway.ports import Retry, StoreError
from broadway.runtime import metrics

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RollCall:
    """Compares heartbeats with the stored graders."""

    graders: GradersById
    board: Board

    async def counted(self, beat: GraderHeartbeat) -> GraderHeartbeat | None:
        """Return a heartbeat with the slots that count; None if its grader has joined another pool.

        While the store is unavailable, the slots that are known from earlier heartbeats are the limit.

        Raises:
            Retry: The store is unavailable, and the grader is not known yet.
        """
        try:
            grader = await self.graders.get(beat.grader_id)
        except StoreError as error:
            known = self.board.slots_of(beat.grader_id, beat.pool)
            if known is None:
                raise Retry(str(error)) from error
            return beat.model_copy(update={"slots": min(beat.slots, known)})
        slots = beat.slots if grader is None else grader.counted_slots(pool=beat.pool, reported=beat.slots)
        if slots is None:
            metrics.IGNORED.labels(metrics.Ignored.FOREIGN_POOL).inc()
            log.warning("heartbeat ignored: the grader has joined another pool", pool=beat.pool, **beat.context)
            return None
        if slots < beat.slots:
            metrics.IGNORED.labels(metrics.Ignored.SLOTS).inc()
            log.warning("slots ignored: the grader may not have as many", slots=beat.slots, most=slots, **beat.context)
        return beat.model_copy(update={"slots": slots})
