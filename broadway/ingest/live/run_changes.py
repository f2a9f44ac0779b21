"""The changes of runs, for the clients that watch them through this process: one read of a run serves all its watchers.

A watcher names the state that it knows by its fingerprint, which any process can compare: it gets the jobs that have
changed since then if this process saw that state lately, else all of the run anew.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

import structlog

from broadway.domain.progress import RunProgress
from broadway.ingest.reads.progress import SharedProgress
from broadway.ports import StoreError
from broadway.runtime.cancellation import end
from broadway.runtime.isolation import isolated

log = structlog.get_logger(__name__)

INTERVAL = 0.5  # seconds between two reads of a run, at least
SHARE = 10  # reads of a run take at most 1/10 of the time
REMEMBERED = 64  # states of a run
MAX_RUNS, MAX_WATCHERS = 200, 2_000
MOST_CHANGED = 500  # jobs in one event; more changes make the watcher read the run anew


class TooManyWatchersError(Exception):
    """This process cannot watch more runs."""


class ProgressOfRuns(Protocol):
    """The progress of runs."""

    async def of_run(self, course: str, run_id: str) -> SharedProgress | None:
        """Return the progress of a run of a course, read after this call; None if the course has no such run."""


@dataclass(frozen=True, slots=True)
class RunChange:
    """A state of a run, and the ids of the jobs that have changed since the watcher's last one; None for all."""

    fingerprint: str
    shared: SharedProgress
    changed: tuple[str, ...] | None
    is_over: bool


@dataclass(slots=True, eq=False)
class RunWatcher:
    """A client that watches one run."""

    known: str
    _run: "_Run"
    _is_closed: bool = False

    async def next(self) -> RunChange | None:
        """Wait for another state than the known one; return None after the last one."""
        while not self._is_closed:
            self._run.wake.clear()
            if (change := self._run.since(self.known)) is not None:
                self.known, self._is_closed = change.fingerprint, change.is_over
                return change
            if self._run.is_over:  # as the watcher knows
                return None
            await self._run.wake.wait()
        return None

    def close(self) -> None:
        """End the changes."""
        self._is_closed = True
        self._run.wake.set()


@dataclass(slots=True, eq=False)
class _Run:
    """A watched run: its last state, and the jobs that each of its last states has changed."""

    watchers: set[RunWatcher] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    shared: SharedProgress | None = None
    is_over: bool = False
    reading: asyncio.Task[None] | None = None
    _states: dict[str, str] = field(default_factory=dict)
    _history: deque[tuple[str, tuple[str, ...]]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def add(self, shared: SharedProgress) -> None:
        """Take a state that was read."""
        states = {job.id: f"{job.state} {job.outcome} {job.started_at}" for job in shared.progress.jobs}
        name = _fingerprint(shared.progress, states)
        if self._history and self._history[-1][0] == name:
            return
        self._history.append((name, tuple(job for job, state in states.items() if self._states.get(job) != state)))
        self._states, self.shared, self.is_over = states, shared, shared.progress.is_settled
        self.wake.set()

    def since(self, known: str) -> RunChange | None:
        """Return the change since a state; None if that is the last one, or none is known yet."""
        if self.shared is None or self._history[-1][0] == known:
            return None
        names = [name for name, _ in self._history]
        later = list(self._history)[names.index(known) + 1 :] if known in names else None
        changed = tuple(dict.fromkeys(job for _, jobs in later for job in jobs)) if later is not None else None
        if changed is not None and len(changed) > MOST_CHANGED:
            changed = None
        return RunChange(names[-1], self.shared, changed, self.is_over)


@dataclass(slots=True)
class RunChanges:
    """The runs that are watched through this process."""

    progress: ProgressOfRuns
    interval: float = INTERVAL
    _runs: dict[str, _Run] = field(default_factory=dict)

    @property
    def watched(self) -> int:
        """The number of watched runs."""
        return len(self._runs)

    def has_room(self, run_id: str) -> bool:
        """Return whether one more watcher of a run has room."""
        watchers = sum(len(run.watchers) for run in self._runs.values())
        return watchers < MAX_WATCHERS and (run_id in self._runs or len(self._runs) < MAX_RUNS)

    @contextlib.asynccontextmanager
    async def watch(self, course: str, run_id: str, known: str) -> AsyncIterator[RunWatcher]:
        """Watch a run of a course, which exists, until the end of the context.

        Raises:
            TooManyWatchersError: There is no room for another watcher.
        """
        if not self.has_room(run_id):
            raise TooManyWatchersError
        run = self._runs.setdefault(run_id, _Run())
        watcher = RunWatcher(known, run)
        run.watchers.add(watcher)
        if run.reading is None:
            run.reading = asyncio.create_task(self._read(course, run_id, run))
        try:
            yield watcher
        finally:
            run.watchers.discard(watcher)
            if not run.watchers:
                del self._runs[run_id]
                await end(run.reading)

    def close(self) -> None:
        """End the changes of all watchers."""
        for run in self._runs.values():
            for watcher in run.watchers:
                watcher.close()

    async def _read(self, course: str, run_id: str, run: _Run) -> None:
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            with isolated("run changes"):
                try:
                    if shared := await self.progress.of_run(course, run_id):
                        run.add(shared)
                except StoreError as error:
                    log.warning("watched run not looked after", run=run_id, reason=str(error))
            await asyncio.sleep(max(self.interval, (SHARE - 1) * (loop.time() - begun)))


def _fingerprint(progress: RunProgress, states: dict[str, str]) -> str:
    run = progress.run
    whole = repr((run.state, run.round, run.finished_at, run.order is not None, sorted(states.items())))
    return sha256(whole.encode()).hexdigest()[:20]
