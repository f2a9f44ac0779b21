"""Follow events of jobs and graders: update the board, and advance runs whose jobs have settled."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from broadway.dispatcher.board import Board
from broadway.dispatcher.roll_call import RollCall
from broadway.lifecycle.phases import bring_forward
from broadway.lifecycle.steps import PhaseJobs, RunSteps
from broadway.messages.events import Event, GraderHeartbeat, JobReleased, JobRequeued, JobSettled, JobStarted
from broadway.ports import Publisher, Reject, Retry, StoreError
from broadway.runtime.batching import Batcher
from broadway.runtime.crashpoints import Point, reach


class Progress(Protocol):
    """Advances runs that may have completed a phase."""

    async def submit(self, item: str) -> None:
        """Return once the run with the id ``item`` has taken every step that it can take."""


class Follower:
    """The handler of the dispatcher's inbox."""

    def __init__(self, board: Board, progress: Progress, roll_call: RollCall) -> None:
        self._board = board
        self._progress = progress
        self._roll_call = roll_call

    async def follow(self, event: Event) -> None:
        """Update the board, and advance the run of a settled job."""
        await reach(Point.FOLLOW_HEARD)
        match event:
            case JobStarted():
                self._board.start(event.job_id, event.generation, event.execution_id, now=datetime.now(UTC))
            case JobReleased():
                self._board.release(event.job_id, event.generation)
            case JobSettled():
                self._board.settle(event.job_id, event.generation, course=event.course, seconds=event.seconds)
                if not self._board.has_open(event.run_id):
                    await self._progress.submit(event.run_id)
            case JobRequeued():
                self._set_back(event)
            case GraderHeartbeat():
                if beat := await self._roll_call.counted(event):
                    self._board.hear(beat, now=datetime.now(UTC))
            case _:
                raise Reject(f"the dispatcher has no use for {event.type}")
        await reach(Point.FOLLOW_DONE)

    def follow_at_once(self, event: Event) -> bool:
        """Settle a job of a run that has further open jobs, since this takes no I/O; return False for other events."""
        if not isinstance(event, JobSettled) or not self._board.has_others_open(event.run_id):
            return False
        self._board.settle(event.job_id, event.generation, course=event.course, seconds=event.seconds)
        return True

    def _set_back(self, event: JobRequeued) -> None:
        self._board.set_back(event.job_id, event.generation, not_before=event.not_before)
        delay = max(0.0, (event.not_before - datetime.now(UTC)).total_seconds())
        asyncio.get_running_loop().call_later(delay, self._board.offer_again, event.job_id, event.generation)


def progress(*, runs: RunSteps, jobs: PhaseJobs, publisher: Publisher) -> Batcher[str, None]:
    """Return a batcher that advances runs by id; a run that a batch contains several times is advanced once."""

    async def flush(run_ids: Sequence[str]) -> list[None]:
        advances = [
            bring_forward(run_id, runs=runs, jobs=jobs, publisher=publisher) for run_id in dict.fromkeys(run_ids)
        ]
        results = await asyncio.gather(*advances, return_exceptions=True)
        for error in results:
            if isinstance(error, StoreError):
                raise Retry(str(error)) from error
            if error:
                raise error
        return [None] * len(run_ids)

    return Batcher(flush)
