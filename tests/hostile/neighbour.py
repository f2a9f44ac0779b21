"""An honest job beside hostile ones: what it is, how long it takes alone, and whether it takes more than it may.

Honest jobs run one after another for as long as cases do, so that each of them is beside a few cases, and every case is
beside one. Other programs use the machine too, and a job that took long is no proof. Then the cases that were beside it
run again, all the time that another honest job takes, and it is compared with honest jobs alone just before and just
after; what was measured alone last is what the next ones are compared with, be it more or less.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from hostile.conftest import Bench
from images import HOSTILE

from broadway.domain.job import Outcome
from broadway.grader.grading.grade import Graded

HONEST = "i=0; while [ $i -lt 1500000 ]; do i=$((i+1)); done; echo 42"  # about two seconds of computing
SLOWER = 2  # times as long as alone: no honest job may take longer
TRIES = 3

Again = Callable[[], Awaitable[Any]]  # runs a case once more


def honest() -> list[dict[str, Any]]:
    return [{"image": HOSTILE, "entrypoint": ["sh", "-c", HONEST], "networking": False, "memory": "64m", "timeout": 60}]


@dataclass
class Beside:
    """An honest job, and the cases beside it by their names."""

    cases: dict[str, Again]
    task: asyncio.Task[float]


@dataclass
class Neighbour:
    """Honest jobs on a runtime. ``solo`` is the seconds that one takes alone."""

    bench: Bench
    solo: float
    _running: dict[str, Again] = field(default_factory=dict)
    _jobs: list[Beside] = field(default_factory=list)

    @classmethod
    async def measured(cls, bench: Bench) -> Self:
        """The quickest of two, which others have disturbed the least."""
        return cls(bench, min([await _seconds(bench.honest) for _ in range(2)]))

    @contextlib.contextmanager
    def beside(self, name: str, again: Again) -> Iterator[None]:
        """Honest jobs run for as long as the context lasts."""
        self._running[name] = again
        if self._jobs and not self._jobs[-1].task.done():
            self._jobs[-1].cases[name] = again
        else:
            self._start()
        try:
            yield
        finally:
            del self._running[name]

    def _start(self) -> None:
        job = Beside(dict(self._running), asyncio.create_task(_seconds(self.bench.honest)))
        job.task.add_done_callback(lambda _: self._start() if self._running else None)
        self._jobs.append(job)

    async def check(self, *, to_the_end: bool = False) -> None:
        """Make sure of all jobs that have ended, or of all of them."""
        for job in [job for job in self._jobs if to_the_end or job.task.done()]:
            self._jobs.remove(job)
            seconds = await job.task
            if seconds > SLOWER * self.solo:
                await self._confirm(job.cases, seconds)
            self.solo = min(self.solo, seconds)

    async def _confirm(self, cases: dict[str, Again], seconds: float) -> None:
        told = [f"{seconds:.1f} s, alone {self.solo:.1f} s"]
        for _ in range(TRIES):
            before = await _seconds(self.bench.honest)
            beside = await self._beside_all(cases)
            after = await _seconds(self.bench.honest)
            self.solo = max(before, after)
            told.append(f"{beside:.1f} s, alone {before:.1f} s before and {after:.1f} s after")
            if beside <= SLOWER * self.solo:
                return
        raise AssertionError(f"honest jobs took {'; '.join(told)}, beside {', '.join(cases)}")

    async def _beside_all(self, cases: dict[str, Again]) -> float:
        """Seconds that an honest job takes while the cases run again and again."""
        job = asyncio.create_task(_seconds(self.bench.honest))
        while not job.done():
            for again in cases.values():
                await again()
        return await job


async def _seconds(bench: Bench) -> float:
    """How long an honest job takes, which has to come to its own outcome."""
    begun = time.monotonic()
    graded: Graded = await bench.run(honest())
    came_to = (graded.outcome, graded.reason, graded.stdout.split()[-1:])
    assert came_to == (Outcome.SUCCEEDED, "", ["42"]), f"an honest job came to {came_to}"
    return time.monotonic() - begun
