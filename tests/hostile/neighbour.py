"""Honest jobs beside hostile ones, whose outcomes must not be affected.

They run one after another while cases run, so that each runs beside a few cases, and every case beside one. `make
bench` measures how long they take.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hostile.conftest import Bench
from images import HOSTILE

from broadway.domain.job import Outcome
from broadway.grader.grading.grade import Graded

HONEST = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; sleep 3; echo 42"


def honest() -> list[dict[str, Any]]:
    return [{"image": HOSTILE, "entrypoint": ["sh", "-c", HONEST], "networking": False, "memory": "64m", "timeout": 60}]


@dataclass
class Beside:
    """An honest job, and the names of the cases beside it."""

    cases: list[str]
    task: asyncio.Task[Graded]


@dataclass
class Neighbour:
    """Honest jobs on a runtime."""

    bench: Bench
    _running: list[str] = field(default_factory=list)
    _jobs: list[Beside] = field(default_factory=list)

    @contextlib.contextmanager
    def beside(self, name: str) -> Iterator[None]:
        """Run honest jobs, one after another, while the context lasts."""
        self._running.append(name)
        if self._jobs and not self._jobs[-1].task.done():
            self._jobs[-1].cases.append(name)
        else:
            self._start()
        try:
            yield
        finally:
            self._running.remove(name)

    def _start(self) -> None:
        job = Beside(list(self._running), asyncio.create_task(self.bench.honest.run(honest())))
        job.task.add_done_callback(lambda _: self._start() if self._running else None)
        self._jobs.append(job)

    async def check(self, *, to_the_end: bool = False) -> None:
        """Check the outcomes of all jobs that have ended; with ``to_the_end``, wait for the remaining jobs too."""
        for job in [job for job in self._jobs if to_the_end or job.task.done()]:
            self._jobs.remove(job)
            graded = await job.task
            result = (graded.outcome, graded.reason, graded.stdout.split()[-1:])
            expected = (Outcome.SUCCEEDED, "", ["42"])
            assert result == expected, f"an honest job came to {result}, beside {', '.join(job.cases)}"
