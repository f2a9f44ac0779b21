"""Live logs: this process's readers of running jobs, and the graders' output on its way to them.

While a job has readers here, its grader gets a lease to publish the job's output, which is renewed; otherwise nothing
is published. The store is checked regularly for the jobs' attempts and ends.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from broadway.domain.abilities import LIVE_LOGS, abilities_of
from broadway.domain.job import Attempt, Job, JobState
from broadway.ingest.live.log_ring import Cursor, LogEvent, LogRing
from broadway.lifecycle.stores import GradersById, JobsById
from broadway.messages.events import Event, ids_of
from broadway.messages.live_logs import LogChunk, WatchLog
from broadway.messages.topology import CONTROL, Queue, control_key, log_queue
from broadway.ports import Handler, Publisher, PublishError, StoreError
from broadway.runtime.cancellation import end
from broadway.runtime.isolation import isolated

log = structlog.get_logger(__name__)

MAX_WATCHED = 200  # jobs
MAX_READERS = 1000
LEASE = 30.0  # seconds for which a grader publishes after each request
RENEW = 10.0  # seconds between two requests
CHECK_INTERVAL = 1.0  # seconds between two checks of the store, at least
CHECK_SHARE = 20  # checks of the store take at most 1/20 of the time
LISTEN_AGAIN = 2.0  # seconds
PREFETCH = 64
WITHOUT = "this grader sends no live log; the stored log comes when the job has ended"


Vouched = Callable[[Event], Awaitable[bool]]


class TooManyReadersError(Exception):
    """This process cannot follow more logs; the stored log can be read once the job has ended."""

    def __init__(self) -> None:
        super().__init__("too many live logs are being read; try again later, or read the log when the job has ended")


class LogBroker(Publisher, Protocol):
    """The operations on the broker that live logs need."""

    def consume(
        self, queue: Queue, handler: Handler, *, tag: str, prefetch: int, vouched: Vouched, most_events: int | None
    ) -> AbstractAsyncContextManager[Any]:
        """Call ``handler`` for every event of a queue, which is declared; for ``most_events`` events at a time."""


@dataclass(slots=True, eq=False)
class Reader:
    """A client that follows one job's log."""

    cursor: Cursor
    _ring: LogRing
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _is_closed: bool = False

    async def next(self) -> list[LogEvent] | None:
        """Wait for the next events; return None after the end."""
        while not self._is_closed:
            self._wake.clear()
            if events := self.cursor.take(self._ring):
                self._is_closed = self._ring.outcome is not None
                return events
            await self._wake.wait()
        return None

    def wake(self) -> None:
        self._wake.set()

    def close(self) -> None:
        """End the events."""
        self._is_closed = True
        self._wake.set()


@dataclass(slots=True, eq=False)
class _Watched:
    """A job with readers; ``attempt`` is the number of the one that is followed."""

    attempt: int = 0
    ring: LogRing = field(default_factory=LogRing)
    readers: set[Reader] = field(default_factory=set)
    listening: asyncio.Task[None] | None = None

    @property
    def is_live(self) -> bool:
        """True if an attempt is followed whose grader publishes its output."""
        return self.attempt > 0 and not self.ring.note

    def wake(self) -> None:
        for reader in self.readers:
            reader.wake()


@dataclass(slots=True)
class LiveLogs:
    """The live logs that this process serves.

    Args:
        jobs: The stored jobs.
        graders: The stored graders.
        awaits_log: Returns whether the log of a job that was cancelled while it ran will soon be stored.
        broker: The broker.
        vouched: Returns whether an event of a grader is genuine.
        process: The name of this process.
    """

    jobs: JobsById
    graders: GradersById
    awaits_log: Callable[[Job], Awaitable[bool]]
    broker: LogBroker
    vouched: Vouched
    process: str
    _watched: dict[str, _Watched] = field(default_factory=dict)
    _is_watched: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def watched(self) -> int:
        """The number of jobs with readers."""
        return len(self._watched)

    def has_room(self, job: Job) -> bool:
        """Return whether one more reader of a job's log has room."""
        readers = sum(len(watched.readers) for watched in self._watched.values())
        return readers < MAX_READERS and (job.id in self._watched or len(self._watched) < MAX_WATCHED)

    @contextlib.asynccontextmanager
    async def read(self, job: Job, cursor: Cursor) -> AsyncIterator[Reader]:
        """Read a job's log from a cursor's position on, until the end of the context.

        Raises:
            TooManyReadersError: There is no room for another reader.
        """
        if not self.has_room(job):
            raise TooManyReadersError
        watched = self._watched.setdefault(job.id, _Watched())
        reader = Reader(cursor, watched.ring)
        watched.readers.add(reader)
        self._is_watched.set()
        try:
            if not (job.is_terminal and watched.is_live):  # the next check decides
                self._see(watched, job)
            yield reader
        finally:
            watched.readers.discard(reader)
            if not watched.readers:
                await self._forget(job.id)

    def close(self) -> None:
        """End the events of all readers."""
        for watched in self._watched.values():
            for reader in watched.readers:
                reader.close()

    async def run(self) -> None:
        """Check the stored states of the jobs with readers, until cancelled."""
        pause = CHECK_INTERVAL
        loop = asyncio.get_running_loop()
        while True:
            await self._is_watched.wait()
            await asyncio.sleep(pause)
            begun = loop.time()
            with isolated("live logs"):
                await self._check()
            pause = max(CHECK_INTERVAL, CHECK_SHARE * (loop.time() - begun))

    async def _forget(self, job_id: str) -> None:
        watched = self._watched.pop(job_id)
        if not self._watched:
            self._is_watched.clear()
        if watched.listening:
            await end(watched.listening)

    async def _check(self) -> None:
        try:
            found = await self.jobs.get_many(list(self._watched))
        except StoreError as error:
            log.warning("watched jobs not looked after", reason=str(error))
            return
        for job_id, watched in list(self._watched.items()):
            if job_id in found and not await self._must_wait(watched, found[job_id]):
                self._see(watched, found[job_id])

    async def _must_wait(self, watched: _Watched, job: Job) -> bool:
        """Return whether the end of a job must wait for its stored log, since its readers saw the output live."""
        try:
            return watched.is_live and await self.awaits_log(job)
        except StoreError:
            return True

    def _see(self, watched: _Watched, job: Job) -> None:
        """Follow the attempt that a stored job shows, or end with the job."""
        attempt = _current(job)
        if job.is_terminal:
            watched.ring.outcome = job.outcome.value if job.outcome else ""
            watched.wake()
        elif job.state is JobState.RUNNING and attempt:
            number = job.attempts.index(attempt) + 1
            if number > watched.attempt:  # a state may have been read before the last one
                watched.attempt = number
                earlier = watched.listening
                watched.listening = asyncio.create_task(self._follow(watched, job, attempt, earlier))

    async def _follow(self, watched: _Watched, job: Job, attempt: Attempt, earlier: asyncio.Task[None] | None) -> None:
        """Take an attempt's output from its grader, until cancelled."""
        if earlier:
            await end(earlier)
        ring, number = watched.ring, watched.attempt
        while True:
            try:
                grader = await self.graders.get(attempt.grader_id)
                is_live = grader is not None and LIVE_LOGS in abilities_of(grader)
                if ring.attempt != number:
                    ring.begin(number, attempt.execution_id, "" if is_live else WITHOUT)
                watched.wake()
                if not is_live:
                    return
                await self._listen(watched, job, attempt)
            except (StoreError, PublishError) as error:
                log.warning("live log not heard", reason=str(error), **job.context)
                await asyncio.sleep(LISTEN_AGAIN)

    async def _listen(self, watched: _Watched, job: Job, attempt: Attempt) -> None:
        queue, ring = log_queue(self.process, attempt.grader_id, job.id), watched.ring

        async def hear(event: Event) -> None:
            if isinstance(event, LogChunk) and event.job_id == job.id and ring.add(event):
                watched.wake()

        tag = f"{self.process}.log.{job.id}"
        consuming = self.broker.consume(
            queue,
            hear,
            tag=tag,
            prefetch=PREFETCH,
            vouched=self.vouched,
            most_events=1,  # in order
        )
        async with consuming:
            while True:
                order = WatchLog(
                    **ids_of(job), execution_id=attempt.execution_id, seconds=LEASE, backlog=not ring.begun
                )
                await self.broker.publish(CONTROL, control_key(attempt.grader_id), order)
                await asyncio.sleep(RENEW)


def _current(job: Job) -> Attempt | None:
    """Return the attempt that runs, as far as is known."""
    return next((a for a in reversed(job.attempts) if a.execution_id == job.execution_id), None)
