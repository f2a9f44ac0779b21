"""Live updates about jobs for the clients that watch them through this process.

Events come from the broker, through a queue of this process's own, which exists only while jobs are watched. Positions
are computed in memory, only for courses with watched jobs. Regular checks of the store make up for lost events.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

import structlog

from broadway.domain.job import Job, Outcome
from broadway.domain.waiting import WaitingKey
from broadway.ingest.live.waiting_line import WaitingLine
from broadway.ingest.reads.waiting import WaitingJobs
from broadway.lifecycle.stores import JobsById
from broadway.messages.events import Event, JobSettled, JobStarted, RunAdvanced
from broadway.ports import StoreError
from broadway.runtime.isolation import isolated

log = structlog.get_logger(__name__)

# Outcomes of jobs that may never have started.
_UNSTARTED = frozenset({Outcome.CANCELLED, Outcome.SUPERSEDED, Outcome.INFRASTRUCTURE_ERROR})

State = Literal["STARTED", "FINISHED", "FAILED"]

CHECK_INTERVAL = 10.0  # seconds between two checks of the store, at least
CHECK_SHARE = 20  # checks of the store take at most 1/20 of the time
ROUND_SHARE = 20  # rounds of position updates take at most 1/20 of the time
ROUND_UNNOTICED = 0.003  # seconds; a shorter round needs no rest
UNWATCHED = 30.0  # seconds without a watcher after which events are not received any more
HEARD_WITHIN = 2.0  # seconds that the first watcher waits for events, so that it misses nothing
MAX_PENDING = 16  # unsent updates of one watcher; beyond that a new position replaces the last update
EVENT_LAG = timedelta(seconds=3)  # the longest way of an event from the store to here
REMEMBERED = 20_000  # started jobs whose starts may not be stored yet


class WatchedJobs(JobsById, WaitingJobs, Protocol):
    """The operations on stored jobs that the feed needs."""

    async def waiting_in_run(self, run_id: str) -> list[WaitingKey]:
        """Return the keys of a run's jobs that wait for their first start, in no order."""


@dataclass(slots=True, eq=False)
class Watcher:
    """A client's subscription to one job, with the updates that are not sent yet."""

    job_id: str
    course: str
    has_started: bool = False
    is_over: bool = False
    _pending: deque[int | State] = field(default_factory=deque)
    _is_closed: bool = False
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def next(self) -> int | State | None:
        """Wait for the next position or state; return None after the last one."""
        while not self._pending:
            if self._is_closed:
                return None
            self._wake.clear()
            await self._wake.wait()
        return self._pending.popleft()

    def add_position(self, position: int) -> None:
        """Add the job's position in the waiting line, unless the job has started."""
        if self.has_started or self.is_over:
            return
        if len(self._pending) >= MAX_PENDING:
            self._pending.pop()
        self._pending.append(position)
        self._wake.set()

    def add_start(self) -> None:
        """Add the first start of the job."""
        if not self.has_started and not self.is_over:
            self.has_started = True
            self._pending.append("STARTED")
            self._wake.set()

    def add_end(self, *, success: bool) -> None:
        """Add the end of the job, after which no update follows."""
        if not self.is_over:
            self.is_over = True
            self._pending.append("FINISHED" if success else "FAILED")
            self.close()

    def close(self) -> None:
        """End the updates."""
        self._is_closed = True
        self._wake.set()


class Feed:
    """The watchers of this process, and the waiting lines of their courses."""

    def __init__(self, jobs: WatchedJobs) -> None:
        self._jobs = jobs
        self._watchers: dict[str, set[Watcher]] = {}
        self._lines: dict[str, WaitingLine] = {}
        self._started: OrderedDict[str, None] = OrderedDict()
        self._quiet_until = 0.0
        self._round: asyncio.TimerHandle | None = None
        self._is_watched = asyncio.Event()
        self._is_unwatched = asyncio.Event()
        self._is_heard = asyncio.Event()
        self.rounds = 0

    @property
    def watched(self) -> int:
        """The number of watched jobs."""
        return len(self._watchers)

    @asynccontextmanager
    async def watch(self, job: Job) -> AsyncIterator[Watcher]:
        """Watch a job: the watcher gets its updates from now on, until the end of the context."""
        watcher = Watcher(job.id, job.course)
        self._watchers.setdefault(job.id, set()).add(watcher)
        self._is_watched.set()
        self._is_unwatched.clear()
        try:
            if self._is_heard.is_set():
                await self._begin(watcher)
            else:
                await self._begin_unheard(watcher, has_started=job.started_at is not None)
            await self._open_line(job.course)
            yield watcher
        finally:
            self._forget(watcher)

    def close(self) -> None:
        """End the updates of all watchers."""
        for watcher in self._all():
            watcher.close()

    async def until_watched(self) -> None:
        """Wait for the first watcher, who waits for ``follow``."""
        await self._is_watched.wait()

    async def follow(self) -> None:
        """Take events for the watchers; return once there has been none for a while. Events must arrive meanwhile."""
        self._is_heard.set()
        try:
            await asyncio.sleep(EVENT_LAG.total_seconds())
            await self._check_all()  # events from before the queue are lost
            while await self._is_watched_within(UNWATCHED):
                await self._is_unwatched.wait()
        finally:
            self._is_heard.clear()
            self._started.clear()  # a rerun that is not heard of would let these jobs wait again

    async def _is_watched_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._is_watched.wait()
        except TimeoutError:
            pass
        return self._is_watched.is_set()

    async def hear(self, event: Event) -> None:
        """Handle an event from this process's queue."""
        match event:
            case JobStarted():
                self._add_start(event.job_id, event.course)
                self._update_positions()
            case JobSettled():
                if event.job_id not in self._started and (event.seconds or event.outcome not in _UNSTARTED):
                    self._add_start(event.job_id, event.course)  # which was not reported, or is not heard yet
                    self._update_positions()
                self._add_end(event.job_id, event.course, success=event.outcome is Outcome.SUCCEEDED)
            case RunAdvanced() if event.course in self._lines and not event.state.is_terminal:
                await self._lengthen(event.course, event.run_id, again=event.round > 1)
            case _:
                pass

    async def run(self) -> None:
        """Check the store regularly, until cancelled."""
        pause = CHECK_INTERVAL
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(pause)
            begun = loop.time()
            await self._check_all()
            pause = max(CHECK_INTERVAL, CHECK_SHARE * (loop.time() - begun))

    async def _check_all(self) -> None:
        try:
            with isolated("feed"):
                await self._check(list(self._watchers))
            for course in list(self._lines):
                with isolated("feed", course=course):
                    await self._load(course)
        except StoreError as error:
            log.warning("watched jobs not looked after", reason=str(error))

    async def _begin_unheard(self, watcher: Watcher, *, has_started: bool) -> None:
        """Wait until events arrive, then add the updates since the job ``has_started`` or not."""
        watcher.has_started = has_started
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARD_WITHIN):
                await self._is_heard.wait()
        job = (await self._jobs.get_many([watcher.job_id])).get(watcher.job_id)
        if job is None or job.is_terminal:
            watcher.add_end(success=job is not None and bool(job.success))
        elif job.started_at:
            watcher.add_start()

    async def _begin(self, watcher: Watcher) -> None:
        """Skip updates from before the watch, except the job's end, after which no update would come."""
        job = (await self._jobs.get_many([watcher.job_id])).get(watcher.job_id)
        if job is None or job.is_terminal:
            watcher.add_end(success=job is not None and bool(job.success))
        elif job.started_at and not self._may_be_under_way(job, job.started_at):
            watcher.has_started = True

    def _may_be_under_way(self, job: Job, started_at: datetime) -> bool:
        """Return whether the event of a stored start may still be on its way."""
        return job.id not in self._started and datetime.now(UTC) - started_at < EVENT_LAG

    def _all(self) -> list[Watcher]:
        return [watcher for watchers in self._watchers.values() for watcher in watchers]

    def _forget(self, watcher: Watcher) -> None:
        of_job = self._watchers[watcher.job_id]
        of_job.discard(watcher)
        if not of_job:
            del self._watchers[watcher.job_id]
        if not self._watchers:
            self._is_watched.clear()
            self._is_unwatched.set()
        if all(each.course != watcher.course for each in self._all()):
            self._lines.pop(watcher.course, None)

    def _add_start(self, job_id: str, course: str) -> None:
        self._started[job_id] = None
        if len(self._started) > REMEMBERED:
            self._started.popitem(last=False)
        if line := self._lines.get(course):
            line.remove(job_id)
        for watcher in self._watchers.get(job_id, ()):
            watcher.add_start()

    def _add_end(self, job_id: str, course: str, *, success: bool) -> None:
        if line := self._lines.get(course):
            line.remove(job_id)
        for watcher in self._watchers.get(job_id, ()):
            watcher.add_end(success=success)

    def _update_positions(self) -> None:
        """Update all positions after a job has left a line: now, or later if the last round was expensive."""
        if self._round is not None:
            return
        loop = asyncio.get_running_loop()
        begun = time.monotonic()  # loop.time() may not advance within one turn of the loop
        if begun < self._quiet_until:
            self._round = loop.call_later(self._quiet_until - begun, self._update_positions_now)
            return
        for watcher in self._all():
            line = self._lines.get(watcher.course)
            position = line.position(watcher.job_id) if line else None
            if position is not None:
                watcher.add_position(position)
        self.rounds += 1
        # Writing to all connections, which follows a round, costs far more than the round itself.
        loop.call_soon(self._rest_after, begun)

    def _update_positions_now(self) -> None:
        """Start the delayed round; it is delayed again if the timer was early or the rest has been extended."""
        self._round = None
        self._update_positions()

    def _rest_after(self, begun: float) -> None:
        """Rest after a round, in proportion to its time and that of the writes which have run since."""
        now = time.monotonic()
        if now - begun > ROUND_UNNOTICED:
            self._quiet_until = now + (ROUND_SHARE - 1) * (now - begun)

    async def _open_line(self, course: str) -> None:
        if course not in self._lines:
            self._lines[course] = WaitingLine()
            await self._load(course)

    async def _load(self, course: str) -> None:
        keys = await self._jobs.waiting_in_course(course)
        if course in self._lines:  # the last watcher of the course may have gone meanwhile
            line = WaitingLine()
            line.add(key for key in keys if key[-1] not in self._started)
            self._lines[course] = line

    async def _lengthen(self, course: str, run_id: str, *, again: bool) -> None:
        try:
            keys = await self._jobs.waiting_in_run(run_id)
        except StoreError as error:
            log.warning("new jobs not lined up", run=run_id, reason=str(error))
            return
        if again:  # jobs that have started before may wait again after a rerun
            for *_, job_id in keys:
                self._started.pop(job_id, None)
        if line := self._lines.get(course):
            line.add(key for key in keys if key[-1] not in self._started)

    async def _check(self, job_ids: Sequence[str]) -> None:
        """Add the updates that jobs' stored states imply."""
        for job in (await self._jobs.get_many(job_ids)).values() if job_ids else ():
            if job.is_terminal:
                if job.started_at:
                    self._add_start(job.id, job.course)
                self._add_end(job.id, job.course, success=bool(job.success))
            elif job.started_at:
                for watcher in self._watchers.get(job.id, ()):
                    watcher.add_start()
