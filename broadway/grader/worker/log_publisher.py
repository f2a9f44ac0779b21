"""Publish the output of running jobs that have readers, within bounds; nothing for all other jobs."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from broadway.grader.ports import Listener
from broadway.grader.worker.live_log import LiveLog, Piece
from broadway.messages.events import ExecutionEvent, JobDispatched
from broadway.messages.live_logs import CHUNK, LogChunk, WatchLog
from broadway.messages.topology import LOGS, log_key
from broadway.ports import PublishError, Sender
from broadway.runtime.cancellation import end

log = structlog.get_logger(__name__)

INTERVAL = 0.2  # seconds between two looks at a job's output
RATE = 64 * 1024  # bytes of text of one job a second, on average
BURST = 256 * 1024  # bytes of text that may come at once, such as a backlog
MOST = 8 * 1024 * 1024  # bytes of text of one execution


class Prover(Protocol):
    """Adds the grader's proof to its events."""

    def proven(self, event: ExecutionEvent) -> ExecutionEvent:
        """Return an event with this grader's proof."""


@dataclass(slots=True)
class _Running:
    """An execution that runs here: its output, and the end of its readers' lease on the monotonic clock."""

    job: JobDispatched
    execution_id: str
    output: LiveLog = field(default_factory=LiveLog)
    until: float = 0.0
    published: int = 0  # bytes of text
    publishing: asyncio.Task[None] | None = None
    is_over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class LogPublisher:
    """The live logs of one grader's executions.

    Publishing goes on beside the jobs and never makes them wait. ``sender`` is the broker.
    """

    grader_id: str
    sender: Sender
    prover: Prover
    interval: float = INTERVAL
    _running: dict[str, _Running] = field(default_factory=dict)
    _ending: set[asyncio.Task[None]] = field(default_factory=set)

    @contextlib.contextmanager
    def of(self, job: JobDispatched, execution_id: str) -> Iterator[Listener]:
        """Hold the output of an execution until the end of the context; the last lines are published after it."""
        running = self._running[execution_id] = _Running(job, execution_id)
        try:
            yield running.output.hear
        finally:
            del self._running[execution_id]
            running.is_over.set()

    def watch(self, order: WatchLog) -> None:
        """Publish an execution's output for a while, if it runs here."""
        running = self._running.get(order.execution_id)
        if running is None or running.job.key != order.key:
            return
        running.until = time.monotonic() + order.seconds
        if order.backlog:
            running.output.rewind()
        if running.publishing is None or running.publishing.done():
            running.publishing = asyncio.create_task(self._publish(running))
            self._ending.add(running.publishing)
            running.publishing.add_done_callback(self._ending.discard)

    async def aclose(self) -> None:
        """Publish nothing more."""
        await end(*self._ending)

    async def _publish(self, running: _Running) -> None:
        """Publish an execution's output until its readers' lease or the execution ends."""
        budget, seen = float(BURST), time.monotonic()
        try:
            while time.monotonic() < running.until and running.published < MOST:
                is_over = running.is_over.is_set()
                now = time.monotonic()
                budget, seen = min(BURST, budget + RATE * (now - seen)), now
                while budget > 0 and running.published < MOST and (piece := running.output.take(CHUNK)):
                    budget -= piece.size
                    running.published += piece.size
                    await self._send(running, piece)
                if is_over:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.interval):
                        await running.is_over.wait()
        except PublishError as error:
            log.warning("live log interrupted", reason=str(error), **running.job.context)

    async def _send(self, running: _Running, piece: Piece) -> None:
        chunk = LogChunk(
            **running.job.ids,
            execution_id=running.execution_id,
            grader_id=self.grader_id,
            stage=piece.stage,
            line=piece.line,
            offset=piece.offset,
            text="".join(line.text for line in piece.lines),
            streams=piece.streams,
            begins=piece.begins,
        )
        key = log_key(self.grader_id, running.job.job_id)
        await self.sender.send(LOGS, key, self.prover.proven(chunk))
