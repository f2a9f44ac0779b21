"""What happens to jobs, as it happens, for whoever watches them through this process.

Facts come from the broker, to a queue of this process's own; positions are kept up in memory, for those courses only
whose jobs somebody watches. What facts may have missed, a look at the store now and then makes up for.
"""

import asyncio
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
from broadway.lifecycle.stores import JobsById
from broadway.messages.events import Event, JobSettled, JobStarted, RunAdvanced
from broadway.ports import StoreError

log = structlog.get_logger(__name__)

State = Literal["STARTED", "FINISHED", "FAILED"]

CHECK_INTERVAL = 10.0  # seconds between two looks at the store
CHECK_SHARE = 20  # the looks take one part in so many of the time
ROUND_SHARE = 20  # and so does telling positions
ROUND_UNNOTICED = 0.003  # seconds; unless it takes less
KEPT = 16  # untold news of one watcher; beyond that a new position replaces an old one
NEWS_LAG = timedelta(seconds=3)  # that facts take from the store to here, at most
REMEMBERED = 20_000  # jobs that have started, which the store may not know yet


class WatchedJobs(JobsById, Protocol):
    """The operations on stored jobs that the feed needs."""

    async def waiting_in_course(self, course: str) -> list[WaitingKey]:
        """Return the keys of a course's jobs that wait for their first start, in no order."""

    async def waiting_in_run(self, run_id: str) -> list[WaitingKey]:
        """Return the keys of a run's jobs that wait for their first start, in no order."""


@dataclass(slots=True, eq=False)
class Watcher:
    """Somebody who watches one job, and the news that has not been told yet."""

    job_id: str
    course: str
    has_started: bool = False
    is_over: bool = False
    _news: deque[int | State] = field(default_factory=deque)
    _is_closed: bool = False
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def next(self) -> int | State | None:
        """The next position or state; None when nothing will follow."""
        while not self._news:
            if self._is_closed:
                return None
            self._wake.clear()
            await self._wake.wait()
        return self._news.popleft()

    def tell_position(self, position: int) -> None:
        """A place in the line, as long as the job stands there."""
        if self.has_started or self.is_over:
            return
        if len(self._news) >= KEPT:
            self._news.pop()
        self._news.append(position)
        self._wake.set()

    def tell_start(self) -> None:
        """The job has been taken, for the first time."""
        if not self.has_started and not self.is_over:
            self.has_started = True
            self._news.append("STARTED")
            self._wake.set()

    def tell_end(self, *, success: bool) -> None:
        """The job is over, and with it the news."""
        if not self.is_over:
            self.is_over = True
            self._news.append("FINISHED" if success else "FAILED")
            self.close()

    def close(self) -> None:
        """Nothing will follow."""
        self._is_closed = True
        self._wake.set()


class Feed:
    """All watchers of this process."""

    def __init__(self, jobs: WatchedJobs) -> None:
        self._jobs = jobs
        self._watchers: dict[str, set[Watcher]] = {}
        self._lines: dict[str, WaitingLine] = {}
        self._started: OrderedDict[str, None] = OrderedDict()
        self._quiet_until = 0.0
        self._round: asyncio.TimerHandle | None = None
        self.rounds = 0

    @property
    def watched(self) -> int:
        """How many jobs are watched."""
        return len(self._watchers)

    @asynccontextmanager
    async def watch(self, job: Job) -> AsyncIterator[Watcher]:
        """Watch a job. What happens from now on is told; the line of its course is kept meanwhile."""
        watcher = Watcher(job.id, job.course)
        self._watchers.setdefault(job.id, set()).add(watcher)
        try:
            await self._begin(watcher)
            await self._open_line(job.course)
            yield watcher
        finally:
            self._forget(watcher)

    def close(self) -> None:
        """Let all watchers go."""
        for watcher in self._all():
            watcher.close()

    async def hear(self, event: Event) -> None:
        """The handler of this process's queue of facts."""
        match event:
            case JobStarted():
                self._note_start(event.job_id, event.course)
                self._tell_positions()
            case JobSettled():
                self._note_end(event.job_id, event.course, success=event.outcome is Outcome.SUCCEEDED)
            case RunAdvanced() if event.course in self._lines and not event.state.is_terminal:
                await self._lengthen(event.course, event.run_id, again=event.round > 1)
            case _:
                pass

    async def run(self) -> None:
        """Look at the store now and then, until cancelled."""
        pause = CHECK_INTERVAL
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(pause)
            begun = loop.time()
            try:
                await self._look_after(list(self._watchers))
                for course in list(self._lines):
                    await self._load(course)
            except StoreError as error:
                log.warning("watched jobs not looked after", reason=str(error))
            pause = max(CHECK_INTERVAL, CHECK_SHARE * (loop.time() - begun))

    async def _begin(self, watcher: Watcher) -> None:
        """Nothing that was before is told, but for the end, after which nothing would ever be."""
        job = (await self._jobs.get_many([watcher.job_id])).get(watcher.job_id)
        if job is None or job.is_terminal:
            watcher.tell_end(success=job is not None and bool(job.success))
        elif job.started_at and not self._is_news(job, job.started_at):
            watcher.has_started = True

    def _is_news(self, job: Job, started_at: datetime) -> bool:
        """Whether a start that is stored already may still be told."""
        return job.id not in self._started and datetime.now(UTC) - started_at < NEWS_LAG

    def _all(self) -> list[Watcher]:
        return [watcher for watchers in self._watchers.values() for watcher in watchers]

    def _forget(self, watcher: Watcher) -> None:
        others = self._watchers[watcher.job_id]
        others.discard(watcher)
        if not others:
            del self._watchers[watcher.job_id]
        if all(other.course != watcher.course for other in self._all()):
            self._lines.pop(watcher.course, None)

    def _note_start(self, job_id: str, course: str) -> None:
        self._started[job_id] = None
        if len(self._started) > REMEMBERED:
            self._started.popitem(last=False)
        if line := self._lines.get(course):
            line.remove(job_id)
        for watcher in self._watchers.get(job_id, ()):
            watcher.tell_start()

    def _note_end(self, job_id: str, course: str, *, success: bool) -> None:
        if line := self._lines.get(course):
            line.remove(job_id)
        for watcher in self._watchers.get(job_id, ()):
            watcher.tell_end(success=success)

    def _tell_positions(self) -> None:
        """A job was taken from some line: tell everybody who waits their place, now or, if that is much work, soon."""
        if self._round is not None:
            return
        loop = asyncio.get_running_loop()
        begun = time.monotonic()  # a loop's own time may stand still between its turns
        if begun < self._quiet_until:
            self._round = loop.call_later(self._quiet_until - begun, self._tell_positions_now)
            return
        for watcher in self._all():
            line = self._lines.get(watcher.course)
            position = line.position(watcher.job_id) if line else None
            if position is not None:
                watcher.tell_position(position)
        self.rounds += 1
        # What follows from a round, writing to all those connections, costs far more than the round itself.
        loop.call_soon(self._rest_after, begun)

    def _tell_positions_now(self) -> None:
        """It is soon, unless the timer was early, or a round that went on meanwhile has made it later."""
        self._round = None
        self._tell_positions()

    def _rest_after(self, begun: float) -> None:
        """The writers have had their turn: rest in proportion to what all of it took."""
        now = time.monotonic()
        if now - begun > ROUND_UNNOTICED:
            self._quiet_until = now + (ROUND_SHARE - 1) * (now - begun)

    async def _open_line(self, course: str) -> None:
        if course not in self._lines:
            self._lines[course] = WaitingLine()
            await self._load(course)

    async def _load(self, course: str) -> None:
        keys = await self._jobs.waiting_in_course(course)
        if course in self._lines:  # and nobody has stopped watching meanwhile
            line = WaitingLine()
            line.add(key for key in keys if key[-1] not in self._started)
            self._lines[course] = line

    async def _lengthen(self, course: str, run_id: str, *, again: bool) -> None:
        try:
            keys = await self._jobs.waiting_in_run(run_id)
        except StoreError as error:
            log.warning("new jobs not lined up", run=run_id, reason=str(error))
            return
        if again:  # jobs that have started once may wait for the second time
            for *_, job_id in keys:
                self._started.pop(job_id, None)
        if line := self._lines.get(course):
            line.add(key for key in keys if key[-1] not in self._started)

    async def _look_after(self, job_ids: Sequence[str]) -> None:
        """Tell what has happened to jobs, by their documents."""
        for job in (await self._jobs.get_many(job_ids)).values() if job_ids else ():
            if job.is_terminal:
                self._note_end(job.id, job.course, success=bool(job.success))
            elif job.started_at:
                for watcher in self._watchers.get(job.id, ()):
                    watcher.tell_start()
